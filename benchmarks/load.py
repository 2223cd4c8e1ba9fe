# SPDX-License-Identifier: Apache-2.0
"""Clients that ask one address without pause until standard input closes and then say, as JSON, what they met.

`python -m benchmarks.load ADDRESS PORT CLIENTS ATLEAST`: half of the clients make a connection for each
request, half keep theirs, and each half makes at least ATLEAST requests. An error, a timeout or anything
but a 200 is a failure. A kept connection that ends between two answers is none: HTTP lets servers do that,
and the request goes out again on a new one.
"""

import asyncio
import sys
import threading
import time

import msgspec
from msgspec import Struct

PATIENCE_SECONDS = 5.0


class Tally(Struct, kw_only=True):
    """*answers* counts bodies, *slowest_seconds* is the longest that a request took."""

    requests: int = 0
    failed: int = 0
    reopened: int = 0
    slowest_seconds: float = 0.0
    errors: dict[str, int] = {}
    answers: dict[str, int] = {}

    def answered(self, body: str) -> None:
        self.answers[body] = self.answers.get(body, 0) + 1

    def met(self, error: str) -> None:
        self.failed += 1
        self.errors[error] = self.errors.get(error, 0) + 1


class Outcome(Struct, kw_only=True):
    """What the clients of both kinds met in *seconds*."""

    seconds: float
    per_request: Tally
    kept: Tally


class Closed(Exception):
    """The server closed before it said anything."""


class Client:
    """Sends one request after the other."""

    def __init__(self, address: str, port: int, tally: Tally, *, keeps: bool) -> None:
        self._address, self._port, self._tally, self._keeps = address, port, tally, keeps
        word = "keep-alive" if keeps else "close"
        self._request = f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: {word}\r\n\r\n".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, stop: asyncio.Event, at_least: int) -> None:
        while not stop.is_set() or self._tally.requests < at_least:
            await self._one()
        await self._close()

    async def _one(self) -> None:
        began = time.monotonic()
        self._tally.requests += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                body = await self._ask()
            self._tally.answered(body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError, Closed) as error:
            self._tally.met(f"{type(error).__name__}: {error}")
            await self._close()
            await asyncio.sleep(0.01)
        self._tally.slowest_seconds = max(self._tally.slowest_seconds, time.monotonic() - began)

    async def _ask(self) -> str:
        if self._streams is None:
            return await self._ask_anew()
        try:
            return await self._exchange(*self._streams)
        except (Closed, ConnectionError):
            self._tally.reopened += 1
            await self._close()
            return await self._ask_anew()

    async def _ask_anew(self) -> str:
        self._streams = await asyncio.open_connection(self._address, self._port)
        return await self._exchange(*self._streams)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(self._request)
        first = await reader.readline()
        if not first:
            raise Closed("closed without an answer")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, _, rest = head.partition(b"content-length: ")
        body = await reader.readexactly(int(rest.split(b"\r\n", 1)[0] or b"0"))
        if not self._keeps or b"connection: close" in head:
            await self._close()
        if not first.startswith(b"HTTP/1.1 200 "):
            raise ValueError(first.decode(errors="replace").strip())
        return body.decode()

    async def _close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()


async def run(address: str, port: int, clients: int, at_least: int) -> Outcome:
    stop, loop, began = asyncio.Event(), asyncio.get_running_loop(), time.monotonic()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
    outcome = Outcome(seconds=0.0, per_request=Tally(), kept=Tally())
    print("ready", flush=True)
    await asyncio.gather(*(
        Client(address, port, tally, keeps=keeps).run(stop, at_least)
        for tally, keeps in ((outcome.per_request, False), (outcome.kept, True)) for _ in range(max(1, clients // 2))))
    outcome.seconds = time.monotonic() - began
    return outcome


def main() -> None:
    outcome = asyncio.run(run(sys.argv[1], *map(int, sys.argv[2:5])))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
