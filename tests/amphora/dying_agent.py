# SPDX-License-Identifier: Apache-2.0
"""Agents that die at a chosen line: each line of input is where, each line of output what became of that one.

An agent starts and brings one amphora to the spec of a file. Lines of its code are counted when they are run for the
first time; at the given number of them it is gone, as by `kill -9`. Number 0 lives, and says how many there were.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

import statera.agent
from statera.agent.host import Host
from statera.config import Settings
from statera.wire import Applied, LocalNetwork, Roster, Spec, Up

AGENT = str(Path(statera.agent.__file__).parent)
PATIENCE_SECONDS = 20.0


class Orders(msgspec.Struct):
    network: LocalNetwork
    spec: Spec


class Life:
    """Counts lines of the agent's code, in whatever thread they run."""

    def __init__(self, ends_at: int) -> None:
        self._ends_at = ends_at
        self.lines: set[tuple[str, int]] = set()

    def begin(self) -> None:
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._count if frame.f_code.co_filename.startswith(AGENT) else None

    def _count(self, frame: FrameType, event: str, arg: Any) -> Any:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in self.lines:
            self.lines.add(place)
            if len(self.lines) == self._ends_at:
                say(f"{Path(place[0]).name}:{place[1]}")
                os.kill(os.getpid(), signal.SIGKILL)
        return self._count


async def live(state: Path, orders: Orders, life: Life) -> None:
    runs = asyncio.Event()

    def heard(up: Up) -> None:
        if isinstance(up, Applied) and up.failure is None:
            runs.set()

    life.begin()
    host = Host(Settings(), state, heard)
    await host.start()
    await host.roster(Roster(amphorae=(orders.spec.amphora_id,), networks=(orders.network,)))
    await host.put(orders.spec)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await runs.wait()
    sys.settrace(None)
    say(str(len(life.lines)))
    await host.stop()


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main(state: Path, orders: Orders) -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            asyncio.run(live(state, orders, Life(int(line))))
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Orders))
