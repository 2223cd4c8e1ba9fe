# SPDX-License-Identifier: Apache-2.0
"""A log server of a tenant's: writes down what it is sent."""

import socket
import sys


def main(ip: str, port: int, path: str) -> None:
    with socket.create_server((ip, port)) as listening, open(path, "ab", buffering=0) as file:
        print("ready", flush=True)
        while True:
            with listening.accept()[0] as connection:
                while data := connection.recv(65536):
                    file.write(data)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
