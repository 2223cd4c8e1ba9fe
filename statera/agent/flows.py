# SPDX-License-Identifier: Apache-2.0
"""The UDP and SCTP listeners of one amphora: keeps the kernel's rules as they should be and says what went through."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol, TypeVar

import msgspec

from statera.agent import namespace, process
from statera.agent.apply import awake
from statera.agent.files import Home, keep, read, write
from statera.agent.netfilter import Flow, Netfilter
from statera.agent.tally import Tally
from statera.render import flows
from statera.wire import Counters, PoolSpec, Report, Spec

TABLE = flows.TABLE.split()[1]
SAVE_SECONDS = 30.0
COUNT_SHARE = 20
"""Open flows are counted anew after so many times what the last count took: a hundred thousand take a second."""

Result = TypeVar("Result")
_tally = msgspec.json.Decoder(Tally)


class Enter(Protocol):
    """Runs something on the one thread that enters namespaces."""

    def __call__(self, act: Callable[[], Result]) -> Awaitable[Result]: ...


class Flows:
    def __init__(self, home: Home, enter: Enter) -> None:
        self._home = home
        self._enter = enter
        self._lock = asyncio.Lock()
        self._netfilter: Netfilter | None = None
        self._spec: Spec | None = None
        self._down: Collection[str] = ()
        self._tally = Tally()
        self._saved = 0.0
        self._open: dict[int, int] = {}
        self._count_at = 0.0

    def restore(self) -> None:
        """Take the totals from the disk. Raise `msgspec.DecodeError` when they cannot be read."""
        stored = read(self._home.flow_counters)
        self._tally = _tally.decode(stored) if stored else Tally()

    def save(self) -> None:
        """Keep the totals on the disk, if the amphora still has a place there."""
        self._saved = time.monotonic()
        if self._home.folder.exists() and self._tally != Tally():
            keep(self._home.flow_counters, msgspec.json.encode(self._tally))

    def close(self) -> None:
        """Let go: the kernel goes on."""
        if self._netfilter:
            self._netfilter.close()
            self._netfilter = None

    def forget(self) -> None:
        """The namespace is new: nothing is loaded, and the kernel counts from nought."""
        self.close()
        self._home.flows.unlink(missing_ok=True)
        for number in list(self._tally.workers):
            self._tally.bury(number)

    async def follow(self, spec: Spec, down: Collection[str]) -> bool:
        """Load what *spec* says, without members that are *down*; whether that changed anything.

        Raise `GiveUp` for a spec that cannot be rendered.
        """
        self._spec, self._down = awake(spec), down
        return await self._load()

    async def avoid(self, down: Collection[str]) -> None:
        """Send nothing to these members from now on, and cut what flows there."""
        self._down = down
        if self._spec is not None and namespace.exists(self._home.amphora_id):
            await self._load()

    async def observe(self) -> Report:
        """Words and totals about the listeners that the kernel serves."""
        spec = self._spec
        report = Report(amphora_id=self._home.amphora_id)
        served = flows.flow_listeners(spec) if spec else []
        if spec is None or not served:
            return report
        await self._count(spec)
        used = {listener.default_pool_id for _, listener in served}
        for number, listener in served:
            full = 0 <= listener.connection_limit <= self._open.get(number, 0)
            report.listeners[listener.id] = "FULL" if full else "OPEN"
        for pool in (pool for pool in spec.pools if pool.id in used):
            report.members.update(member_words(pool, self._down))
            report.pools[pool.id] = pool_word(pool, self._down)
        report.counters.update(self._tally.totals(report.listeners))
        return report

    async def _load(self) -> bool:
        async with self._lock:
            spec, down = self._spec, self._down
            assert spec
            # A hash over a thousand members takes half a second.
            text = await asyncio.to_thread(flows.render, spec, down)
            former = (read(self._home.flows) or b"").decode()
            if text == former:
                return False
            amphora_id = self._home.amphora_id
            # Never a router without rules that say what may pass.
            if not text:
                await self._enter(lambda: namespace.forward(amphora_id, "0"))
            transaction = flows.transition(former, text)
            await process.run(["nft", "-f", "-"], amphora_id=amphora_id, stdin=transaction.encode())
            if text and not former:
                await self._enter(lambda: namespace.forward(amphora_id, "1"))
            await self._cut(flows.ends(spec, down))
            # Only now: whatever was not done before a crash is done again after it.
            write(self._home.flows, text.encode())
            return True

    async def _cut(self, ends: dict[flows.Door, set[tuple[str, int]]]) -> None:
        """A flow follows its first packet whatever the rules now say: end those that end where none should."""
        netfilter = await self._netlink()

        def act() -> None:
            for flow in netfilter.flows():
                if flow.end not in ends.get(flow.door, ()):
                    netfilter.cut(flow)

        await asyncio.to_thread(act)

    async def _count(self, spec: Spec) -> None:
        async with self._lock:
            netfilter = await self._netlink()
            counted = await asyncio.to_thread(netfilter.counters, TABLE)
            if time.monotonic() >= self._count_at:
                started = time.monotonic()
                self._open = await asyncio.to_thread(lambda: tallied(netfilter.flows()))
                self._count_at = time.monotonic() + COUNT_SHARE * (time.monotonic() - started)
        served = {number: listener.id for number, listener in flows.flow_listeners(spec)}
        for number in [number for number in self._tally.workers if number not in served]:
            self._tally.bury(number)
        for number, id_ in served.items():
            if f"new-{id_}" in counted:
                self._tally.count(number, {id_: counters(id_, counted, self._open.get(number, 0))})
        if time.monotonic() > self._saved + SAVE_SECONDS:
            self.save()

    async def _netlink(self) -> Netfilter:
        if self._netfilter is None:
            self._netfilter = await self._enter(self._connect)
        return self._netfilter

    def _connect(self) -> Netfilter:
        with namespace.inside(self._home.amphora_id):
            return Netfilter()


def tallied(found: Iterable[Flow]) -> dict[int, int]:
    """How many flows each listener's number marks."""
    count: dict[int, int] = {}
    for flow in found:
        count[flow.mark] = count.get(flow.mark, 0) + 1
    return count


def counters(id_: str, counted: dict[str, tuple[int, int]], active: int) -> Counters:
    (_, new), (into, _), (out, _) = (counted.get(f"{name}-{id_}", (0, 0)) for name in flows.COUNTERS)
    return Counters(bytes_in=into, bytes_out=out, active_connections=active, total_connections=new)


def member_words(pool: PoolSpec, down: Collection[str]) -> dict[str, str]:
    """The words that HAProxy would say."""
    sound = "UP" if pool.monitor else "no check"
    return {member.id: "MAINT" if not member.enabled else "DOWN" if member.id in down else sound
            for member in pool.members}


def pool_word(pool: PoolSpec, down: Collection[str]) -> str:
    """As HAProxy: an empty pool is UP, one without a member that takes traffic is DOWN."""
    able = any(member.enabled and member.weight > 0 and member.id not in down for member in pool.members)
    return "UP" if able or not pool.members else "DOWN"
