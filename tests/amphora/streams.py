# SPDX-License-Identifier: Apache-2.0
"""A member for long connections: answers at once, or as a WebSocket echo, or with a download that takes for ever."""

import asyncio
import sys

TRICKLE_SECONDS = 0.02


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ", 2)[1]
            await {b"/echo": echo, b"/slow": trickle}.get(path, answer)(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await writer.drain()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # The key is always the one of RFC 6455, 1.3.
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    raise ConnectionError


async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        writer.write(b"x" * 100)
        await writer.drain()
        await asyncio.sleep(TRICKLE_SECONDS)


async def main(port: int) -> None:
    await asyncio.start_server(serve, None, port, backlog=4096)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
