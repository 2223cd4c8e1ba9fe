# SPDX-License-Identifier: Apache-2.0
"""Handshakes one after the other until stdin closes, then says as JSON what came of them."""

import json
import select
import socket
import ssl
import sys

from cryptography import x509


def main(ip: str, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    failures, served, handshakes = [], {}, 0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        handshakes += 1
        try:
            with context.wrap_socket(socket.create_connection((ip, port), timeout=5)) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if not connection.recv(100).startswith(b"HTTP/1.1 200"):
                    failures.append("no 200")
                certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
                served[certificate.subject.rfc4514_string().removeprefix("CN=")] = handshakes
        except OSError as error:
            failures.append(repr(error))
    print(json.dumps({"handshakes": handshakes, "failures": failures, "served": served}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
