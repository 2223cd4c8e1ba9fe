# SPDX-License-Identifier: Apache-2.0
"""The health checks that the agent makes itself: of members that the kernel serves, and all pings.

Counting is HAProxy's: a member starts as up, on probation, so that one failure at its first check takes it down.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from statera.agent import namespace
from statera.agent.apply import awake
from statera.agent.asking import ASKS, Target
from statera.agent.files import Home, keep, read
from statera.agent.flows import Enter
from statera.render.backends import DATAGRAMS, is_pinged
from statera.wire import MonitorSpec, PoolSpec, Spec

SPREAD_SECONDS = 1.0

_ids = msgspec.json.Decoder(tuple[str, ...])


class Checks:
    """*changed* is called, with no check of this member under way, when a member comes up or goes down."""

    def __init__(self, home: Home, enter: Enter, changed: Callable[[], Awaitable[None]]) -> None:
        self._home = home
        self._enter = enter
        self._changed = changed
        self._spec: Spec | None = None
        self._targets: dict[str, Target] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pulses: dict[str, int] = {}

    def restore(self) -> None:
        """Take from the disk who was down, so that nobody else is asked first. Raise `msgspec.DecodeError`."""
        stored = read(self._home.down)
        self._pulses = dict.fromkeys(_ids.decode(stored) if stored else (), 0)

    def words(self) -> dict[str, str]:
        """What to say of members that HAProxy serves and the agent pings."""
        return pinged_words(self._spec, self.down) if self._spec else {}

    @property
    def down(self) -> frozenset[str]:
        """The ids of members that failed."""
        return frozenset(
            id_ for id_, target in self._targets.items() if not is_up(self._pulses[id_], target.monitor))

    def follow(self, spec: Spec) -> None:
        """Check what *spec* says from now on; who stays, stays up or down."""
        self._spec = awake(spec)
        wanted = targets(self._spec)
        for id_ in [id_ for id_, target in self._targets.items() if wanted.get(id_) != target]:
            self._tasks.pop(id_).cancel()
            former = self._targets.pop(id_)
            pulse = self._pulses.pop(id_)
            if id_ in wanted and (former.address, former.monitor.type) == (
                    wanted[id_].address, wanted[id_].monitor.type):
                self._pulses[id_] = carried(pulse, former.monitor, wanted[id_].monitor)
        for id_, target in wanted.items():
            if id_ not in self._targets:
                self._targets[id_] = target
                self._pulses.setdefault(id_, target.monitor.max_retries)
                self._tasks[id_] = asyncio.create_task(self._check_for_ever(id_, target), name=f"check of {id_}")
        self._pulses = {id_: self._pulses[id_] for id_ in self._targets}

    async def stop(self) -> None:
        """Check no more; repeating is harmless."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check_for_ever(self, id_: str, target: Target) -> None:
        loop = asyncio.get_running_loop()
        # Those that come at once are not checked all at once.
        due = loop.time() + min(SPREAD_SECONDS, target.monitor.delay) * (hash(id_) % 100) / 100
        while True:
            await asyncio.sleep(due - loop.time())
            due = max(loop.time(), due + target.monitor.delay)
            is_well = await self._ask(target)
            before = self._pulses[id_]
            self._pulses[id_] = beat(before, target.monitor, is_well=is_well)
            if is_up(before, target.monitor) != is_up(self._pulses[id_], target.monitor):
                keep(self._home.down, msgspec.json.encode(sorted(self.down)))
                await self._changed()

    async def _ask(self, target: Target) -> bool:
        try:
            async with asyncio.timeout(target.monitor.timeout):
                await ASKS[target.monitor.type](target, self._open)
        except (OSError, ValueError):
            # A timeout is the first; the second is an address or a code that is none.
            return False
        return True

    async def _open(self, family: int, kind: int, protocol: int) -> socket.socket:
        def make() -> socket.socket:
            with namespace.inside(self._home.amphora_id):
                return socket.socket(family, kind, protocol)

        return await self._enter(make)


def targets(spec: Spec) -> dict[str, Target]:
    """Whom the agent is to check, by the member's id."""
    return {
        member.id: Target(pool.monitor, member.monitor_address or member.address,
                          member.monitor_port or member.protocol_port)
        for pool in checked_pools(spec) if pool.monitor for member in pool.members if member.enabled
    }


def checked_pools(spec: Spec) -> Iterator[PoolSpec]:
    """The pools that the kernel serves, and those whose members are pinged."""
    flowing = {listener.default_pool_id for listener in spec.listeners if listener.protocol in DATAGRAMS}
    for pool in spec.pools:
        if pool.monitor and pool.monitor.type in ASKS and (pool.id in flowing or is_pinged(pool)):
            yield pool


def is_up(pulse: int, monitor: MonitorSpec) -> bool:
    return pulse >= monitor.max_retries


def beat(pulse: int, monitor: MonitorSpec, *, is_well: bool) -> int:
    """The next pulse: it climbs to max_retries to be up, and falls max_retries_down steps to be down."""
    best = monitor.max_retries + monitor.max_retries_down - 1
    if is_well:
        return best if pulse + 1 >= monitor.max_retries else pulse + 1
    return pulse - 1 if pulse > monitor.max_retries else 0


def carried(pulse: int, former: MonitorSpec, monitor: MonitorSpec) -> int:
    """The pulse when the monitor's numbers change: up stays up."""
    if not is_up(pulse, former):
        return min(pulse, monitor.max_retries - 1)
    return monitor.max_retries + monitor.max_retries_down - 1


def pinged_words(spec: Spec, down: frozenset[str]) -> dict[str, str]:
    return {member.id: "DOWN" if member.id in down else "UP"
            for pool in spec.pools if is_pinged(pool) for member in pool.members if member.enabled}
