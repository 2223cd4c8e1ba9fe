# SPDX-License-Identifier: Apache-2.0
"""Members for the amphora tests: HTTP on port 80 says who was asked and how, TCP on port 90 echoes."""

import asyncio
import json
import sys


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    who = writer.get_extra_info("sockname")[0]
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            request, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if ": " in line)
            body = json.dumps({"who": who, "request": request, "headers": headers}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                + f"Set-Cookie: APP={who}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    who = writer.get_extra_info("sockname")[0]
    try:
        while line := await reader.readline():
            writer.write(f"{who} ".encode() + line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main() -> None:
    await asyncio.start_server(http, None, 80, backlog=4096)
    await asyncio.start_server(echo, None, 90, backlog=4096)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
