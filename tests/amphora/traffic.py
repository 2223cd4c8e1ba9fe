# SPDX-License-Identifier: Apache-2.0
"""Five kinds of clients at once; each line on stdin is answered with what came of them since the last, as JSON.

A request that gets no answer has failed; a connection that ends before its time, or a flow that is not answered or goes
to another member, is broken. Both count as *broken*, and the client begins anew.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import sys
from collections import Counter

from amphora.changes import DOWNLOAD, FLOW, FLOW_PORT, HTTP, SECURE, SECURE_PORT, STREAM, WEB_PORT

PAUSE_SECONDS, PATIENCE_SECONDS = 0.01, 5.0
REQUEST = b"GET %s HTTP/1.1\r\nHost: www.example.com\r\n%s\r\n"
UPGRADE = (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
ANY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY.check_hostname, ANY.verify_mode = False, ssl.CERT_NONE

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Traffic:
    """*counted* has (kind, "done") and (kind, "broken") since it was asked last."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.counted: Counter[tuple[str, str]] = Counter()
        self.why: dict[str, str] = {}

    async def run(self, kind: str) -> None:
        """One client of the kind, again and again."""
        while True:
            try:
                await CLIENTS[kind](self)
            except (OSError, asyncio.IncompleteReadError) as error:  # a timeout is the first
                self.counted[kind, "broken"] += 1
                self.why[kind] = repr(error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def done(self, kind: str) -> None:
        self.counted[kind, "done"] += 1
        await asyncio.sleep(PAUSE_SECONDS)

    async def pages(self) -> None:
        """Requests on one connection until the server says that it ends."""
        await self._pages(HTTP, WEB_PORT)

    async def secure_pages(self) -> None:
        await self._pages(SECURE, SECURE_PORT, ssl=ANY)

    async def _pages(self, kind: str, port: int, **secure: ssl.SSLContext) -> None:
        reader, writer = await within(asyncio.open_connection(self.ip, port, **secure))
        with contextlib.closing(writer):
            for _ in range(100):
                writer.write(REQUEST % (b"/", b""))
                head = await within(reader.readuntil(b"\r\n\r\n"))
                if not head.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(head[:30])
                await within(reader.readexactly(2))
                await self.done(kind)
                if b"connection: close" in head.lower():
                    return

    async def stream(self) -> None:
        reader, writer = await within(asyncio.open_connection(self.ip, WEB_PORT))
        with contextlib.closing(writer):
            writer.write(REQUEST % (b"/echo", UPGRADE))
            head = await within(reader.readuntil(b"\r\n\r\n"))
            if b" 101 " not in head:
                raise ConnectionError(head[:30])
            while True:
                writer.write(b"hello\n")
                if await within(reader.readline()) != b"hello\n":
                    raise ConnectionError("the stream ended")
                await self.done(STREAM)

    async def download(self) -> None:
        reader, writer = await within(asyncio.open_connection(self.ip, WEB_PORT))
        with contextlib.closing(writer):
            writer.write(REQUEST % (b"/slow", b""))
            await within(reader.readuntil(b"\r\n\r\n"))
            while True:
                await within(reader.readexactly(100))
                self.counted[DOWNLOAD, "done"] += 1

    async def flow(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.setblocking(False)
            made.connect((self.ip, FLOW_PORT))
            first = None
            while True:
                made.send(b"x")
                who = (await within(loop.sock_recv(made, 100))).split(b" ")[0]
                if first not in (None, who):
                    raise ConnectionError("the flow changed its member")
                first = who
                await self.done(FLOW)

    def said(self) -> str:
        """What was counted, and why something broke last; forgets both."""
        answer = {kind: {"done": self.counted[kind, "done"], "broken": self.counted[kind, "broken"],
                         "why": self.why.get(kind, "")} for kind in CLIENTS}
        self.counted.clear()
        self.why.clear()
        return json.dumps(answer)


CLIENTS = {HTTP: Traffic.pages, STREAM: Traffic.stream, DOWNLOAD: Traffic.download, SECURE: Traffic.secure_pages,
           FLOW: Traffic.flow}


async def within(what):
    return await asyncio.wait_for(what, PATIENCE_SECONDS)


async def main(ip: str, each: int) -> None:
    traffic = Traffic(ip)
    tasks = [asyncio.create_task(traffic.run(kind)) for kind in CLIENTS for _ in range(each)]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while await reader.readline():
        print(traffic.said(), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
