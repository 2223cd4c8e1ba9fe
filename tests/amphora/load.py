# SPDX-License-Identifier: Apache-2.0
"""Load for the amphora tests: asks again and again until stdin closes, then says what happened as JSON.

Half of the clients open a connection for each request, half keep theirs until they are told that it ends.
None asks twice.
"""

import asyncio
import json
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: load\r\n%s\r\n"


class Client:
    def __init__(self, ip: str, port: int, *, keeps: bool) -> None:
        self.where = ip, port
        self.request = REQUEST % (b"" if keeps else b"Connection: close\r\n")
        self.keeps = keeps
        self.connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> bytes:
        kept, self.connection = self.connection, None
        if kept:
            return await self.exchange(*kept)
        return await self.exchange(*await asyncio.open_connection(*self.where))

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        if self.keeps and b"connection: close" not in head.lower():
            self.connection = reader, writer
        else:
            writer.close()
        return head.split(b" ", 2)[1]


async def ask_for_ever(client: Client, outcome: dict[str, int], stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            word = (await asyncio.wait_for(client.ask(), 5)).decode()
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            word = repr(error)
        outcome[word] = outcome.get(word, 0) + 1


async def main(ip: str, port: int, clients: int) -> None:
    stop, outcome, started = asyncio.Event(), {}, time.monotonic()
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    crowd = [Client(ip, port, keeps=bool(number % 2)) for number in range(clients)]
    print("ready", flush=True)
    await asyncio.gather(*(ask_for_ever(client, outcome, stop) for client in crowd))
    print(json.dumps({"seconds": time.monotonic() - started, "outcome": outcome}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
