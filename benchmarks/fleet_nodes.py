# SPDX-License-Identifier: Apache-2.0
"""Many nodes in one process: each with the agent's own link, over TLS, and with amphorae that only pretend to run.

Reads one JSON object from standard input, then numbers, one a line: on how many amphorae of each node there is
traffic from then on. Ends when standard input does.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from oslo_config import cfg

from statera.agent.identity import Identity
from statera.agent.link import Link
from statera.agent.outbox import Outbox
from statera.config import Settings, load
from statera.wire import Applied, Counters, Gone, Report, Roster, Spec

BUSY_SECONDS = 1.0


class Wanted(Struct, frozen=True, kw_only=True):
    """*nodes* are folders of identities below *folder*."""

    configuration: str
    folder: str
    nodes: tuple[str, ...]


class Pretender:
    """A host whose amphorae run whatever they are told at once, and are well."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._runs: dict[str, int] = {}
        self._words: dict[str, Report] = {}
        self._traffic = 0

    def running(self) -> dict[str, int]:
        return dict(self._runs)

    async def roster(self, roster: Roster) -> None:
        for amphora_id in self._runs.keys() - set(roster.amphorae):
            del self._runs[amphora_id], self._words[amphora_id]
            self._outbox.put(Gone(amphora_id=amphora_id))

    async def put(self, spec: Spec) -> None:
        self._runs[spec.amphora_id] = spec.version
        self._words[spec.amphora_id] = words_of(spec)
        self._outbox.put(Applied(amphora_id=spec.amphora_id, version=spec.version, how="start"))
        self._outbox.put(self._words[spec.amphora_id])

    async def full_report(self) -> None:
        for words in self._words.values():
            self._outbox.put(words)

    def serve(self, count: int) -> None:
        """A second's traffic of the first so many amphorae."""
        self._traffic += bool(count)
        totals = Counters(bytes_in=500 * self._traffic, bytes_out=1000 * self._traffic, total_connections=self._traffic)
        for words in list(self._words.values())[:count]:
            self._outbox.put(Report(amphora_id=words.amphora_id, counters=dict.fromkeys(words.listeners, totals)))


def words_of(spec: Spec) -> Report:
    """What HAProxy and keepalived say of an amphora that is well."""
    return Report(
        amphora_id=spec.amphora_id, full=True, vrrp=str(spec.role) if spec.vrrp else None,
        listeners={each.id: "OPEN" for each in spec.listeners}, pools={each.id: "UP" for each in spec.pools},
        members={member.id: "UP" for pool in spec.pools for member in pool.members})


async def node(settings: Settings, folder: Path, traffic: Sequence[int]) -> None:
    outbox = Outbox()
    host = Pretender(outbox)
    async with asyncio.TaskGroup() as group:
        group.create_task(Link(settings, Identity(folder), host, outbox).run())
        while True:
            await asyncio.sleep(BUSY_SECONDS)
            host.serve(traffic[-1])


async def main() -> None:
    wanted, traffic = msgspec.json.decode(sys.stdin.readline(), type=Wanted), [0]
    logging.disable(logging.WARNING)
    settings = load(cfg.ConfigOpts(), ["--config-file", wanted.configuration], prog="bench")
    works = [asyncio.create_task(node(settings, Path(wanted.folder) / name, traffic)) for name in wanted.nodes]
    while line := await asyncio.to_thread(sys.stdin.readline):
        traffic.append(int(line))
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
