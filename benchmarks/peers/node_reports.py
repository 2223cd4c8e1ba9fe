# SPDX-License-Identifier: Apache-2.0
"""Nodes that report as fast as they are listened to, over real TLS links; the amphorae on them are pretended.

Reads one JSON object: `endpoint`, `folder` (each node's identity in a folder of its name), `rounds`, and `nodes`:
from a node's name to its amphorae, each with the ids of an amphora, its listener, pool and member.
Says `ready` when all are connected, sends at the next line and says `sent`.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct

from statera import __version__
from statera.agent.identity import Identity
from statera.wire import Applied, Counters, Hello, Put, Report, decode_down, encode


class Ids(Struct, frozen=True):
    amphora: str
    listener: str
    pool: str
    member: str


class Wanted(Struct, frozen=True):
    endpoint: str
    folder: str
    rounds: int
    nodes: dict[str, list[Ids]]


def report(ids: Ids, sequence: int) -> bytes:
    """One that differs from the last in its totals."""
    return encode(Report(
        amphora_id=ids.amphora, full=sequence == 1, listeners={ids.listener: "OPEN"}, pools={ids.pool: "UP"},
        members={ids.member: "UP"},
        counters={ids.listener: Counters(
            bytes_in=500 * sequence, bytes_out=1000 * sequence, active_connections=1, total_connections=sequence)}))


async def node(wanted: Wanted, name: str, amphorae: Sequence[Ids], ready: asyncio.Barrier) -> None:
    identity = Identity(Path(wanted.folder) / name)
    async with aiohttp.ClientSession() as client, client.ws_connect(
            f"wss://{wanted.endpoint}/v1/link", ssl=identity.tls_context(), compress=0, max_msg_size=0,
            decode_text=False) as ws:
        await ws.send_frame(encode(Hello(agent_version=__version__, trusts=identity.trusts)), aiohttp.WSMsgType.TEXT)
        waiting = {ids.amphora for ids in amphorae}
        while waiting:
            message = decode_down((await ws.receive()).data)
            if isinstance(message, Put):
                said = Applied(amphora_id=message.spec.amphora_id, version=message.spec.version)
                await ws.send_frame(encode(said), aiohttp.WSMsgType.TEXT)
                waiting.discard(message.spec.amphora_id)
        await ready.wait()
        await ready.wait()
        for sequence in range(1, wanted.rounds + 1):
            for ids in amphorae:
                await ws.send_frame(report(ids, sequence), aiohttp.WSMsgType.TEXT)
        await ready.wait()
        await asyncio.to_thread(sys.stdin.read)


async def main() -> None:
    wanted = msgspec.json.decode(sys.stdin.readline(), type=Wanted)
    ready = asyncio.Barrier(len(wanted.nodes) + 1)
    async with asyncio.TaskGroup() as group:
        for name, amphorae in wanted.nodes.items():
            group.create_task(node(wanted, name, amphorae, ready))
        await ready.wait()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await ready.wait()
        await ready.wait()
        print("sent", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
