# SPDX-License-Identifier: Apache-2.0
"""From HAProxy's own tables to reports: words and totals for what an amphora serves, said when they change."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from statera.agent import namespace, runtime
from statera.agent.checks import Checks
from statera.agent.files import Home, keep, read
from statera.agent.flows import Flows
from statera.agent.limits import Limits
from statera.agent.proxy import Proxy
from statera.agent.tally import Tally, totals
from statera.errors import TryAgain
from statera.model.fleet import Role
from statera.render.backends import backend_name, backends
from statera.wire import Report, Spec, Up

Rows = Iterable[Mapping[str, str]]

SHOW_STAT = "show stat -1 7 -1"
FRONTEND, BACKEND, SERVER = "0", "1", "2"

SAVE_SECONDS = 30.0

_log = logging.getLogger(__name__)
_tally = msgspec.json.Decoder(Tally)

POOL_SEVERITY = {"UP": 0, "DOWN": 1}
MEMBER_SEVERITY = ("no check", "UP", "MAINT", "DRAIN", "NOLB", "DOWN")
"""From the best word to the worst; a member of several backends is worth its worst."""


class Probe:
    """Watches one amphora's HAProxy, and the flows beside it."""

    def __init__(
        self, home: Home, proxy: Proxy, flows: Flows, checks: Checks, emit: Callable[[Up], None], *, limits: Limits,
    ) -> None:
        self._home = home
        self._proxy = proxy
        self._flows = flows
        self._checks = checks
        self._emit = emit
        self._limits = limits
        self._said: Report | None = None
        self._tally = Tally()
        self._saved = 0.0

    def restore(self) -> None:
        """Take the totals from the disk. Raise `msgspec.DecodeError` when they cannot be read."""
        stored = read(self._home.counters)
        self._tally = _tally.decode(stored) if stored else Tally()

    def save(self) -> None:
        """Keep the totals on the disk, if the amphora still has a place there."""
        self._saved = time.monotonic()
        if self._home.folder.exists():
            keep(self._home.counters, msgspec.json.encode(self._tally))

    def bury_all(self) -> None:
        """No worker of earlier days lives, whoever has its pid now."""
        for worker in list(self._tally.workers):
            self._tally.bury(worker)

    async def report(self, *, is_broken: bool) -> bool:
        """Say what changed since the last time, if anything, and whether there was an answer to ask for.

        *is_broken*: that HAProxy is dead is no passing moment.
        """
        try:
            now = await self._observe(is_broken=is_broken)
        except Exception as error:
            # The next round may go better, and the other amphorae's reports must not wait for this one.
            _log.warning("amphora %s cannot report: %r", self._home.amphora_id, error)
            return False
        if now and (said := news(self._said, now)) is not None:
            self._emit(said)
        self._said = now or self._said
        if time.monotonic() > self._saved + SAVE_SECONDS:
            self.save()
        return True

    def forget_said(self) -> None:
        """Say all there is the next time, for a listener who knows nothing."""
        self._said = None

    async def last_count(self) -> None:
        """Count before a worker goes; one that does not answer is not waited for."""
        try:
            await self.count()
        except TryAgain as error:
            _log.warning("amphora %s: its totals lack what its last worker counted: %s", self._home.amphora_id, error)

    async def count(self) -> tuple[dict[str, str], list[dict[str, str]]]:
        """Take in the counters of all living workers, old ones that finish connections too.

        Returns what the newest one says of itself, and its table.
        """
        answer = await runtime.ask(self._home.socket, f"show info; {SHOW_STAT}")
        head, _, table = answer.partition("# ")
        rows = runtime.rows(table)
        info = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        newest = int(info["Pid"])
        self._tally.count(newest, totals(rows))
        for worker in [worker for worker in self._tally.workers if worker != newest]:
            await self._count_old(worker)
        return info, rows

    async def _count_old(self, worker: int) -> None:
        if not self._proxy.is_ours(worker):
            self._tally.bury(worker)
            return
        answer = await runtime.ask(self._home.master_socket, f"@!{worker} {SHOW_STAT}")
        # A master knows only the workers that it made itself.
        if answer.startswith("#"):
            self._tally.count(worker, totals(runtime.rows(answer)))

    async def _observe(self, *, is_broken: bool) -> Report | None:
        """All there is to say; None while HAProxy is being started or reloaded."""
        if not self._proxy.alive and is_broken:
            return joined(Report(amphora_id=self._home.amphora_id, full=True), await self._flows.observe())
        if not self._proxy.alive or self._proxy.running is None:
            return None
        spec = self._proxy.running.applied
        info, rows = await self.count()
        report = words(spec, rows, vrrp=self._vrrp_word(spec))
        report.counters.update(self._tally.totals(report.listeners))
        # HAProxy sees no check there.
        report.members.update({id_: word for id_, word in self._checks.words().items() if id_ in report.members})
        return self._limits.judged(joined(report, await self._flows.observe()), info)

    def _vrrp_word(self, spec: Spec) -> str | None:
        if spec.role is Role.STANDALONE or self._proxy.pid is None:
            return None
        return "MASTER" if namespace.bears(self._proxy.pid, spec.vips[0].ip) else "BACKUP"


def words(spec: Spec, rows: Rows, *, vrrp: str | None) -> Report:
    """The full report of words, about objects of *spec* only; what is asleep or leaving is not spoken of."""
    known = {
        backend_name(pool.id, listener): {member.id for member in pool.members} for listener, pool in backends(spec)}
    listeners = {listener.id for listener in spec.listeners}
    report = Report(amphora_id=spec.amphora_id, full=True, vrrp=vrrp)
    for row in rows:
        proxy, name, word = row["pxname"], row["svname"], row["status"]
        pool = proxy.split(":", 1)[0]
        if row["type"] == FRONTEND and proxy in listeners:
            # HAProxy 2.6 calls a frontend OPEN even when it takes no more connections.
            report.listeners[proxy] = "FULL" if word == "OPEN" and int(row["scur"]) >= int(row["slim"]) else word
        elif row["type"] == BACKEND and proxy in known:
            report.pools[pool] = max(word, report.pools.get(pool, word), key=lambda one: POOL_SEVERITY.get(one, 1))
        elif row["type"] == SERVER and name in known.get(proxy, ()):
            report.members[name] = max(word, report.members.get(name, word), key=_member_severity)
    return report


def _member_severity(word: str) -> int:
    return next((rank for rank, start in enumerate(MEMBER_SEVERITY) if word.startswith(start)), len(MEMBER_SEVERITY))


def news(last: Report | None, now: Report) -> Report | None:
    """What to say after *last* was said: all when something is no longer there, nothing when nothing changed."""
    if last is None or any(set(old) - set(new) for old, new in _tables(last, now)):
        return now
    changed = [{key: value for key, value in new.items() if old.get(key) != value} for old, new in _tables(last, now)]
    rest = {name: None if getattr(last, name) == getattr(now, name) else getattr(now, name) for name in RESTS}
    if not any(changed) and last.vrrp == now.vrrp and not any(value is not None for value in rest.values()):
        return None
    fields = dict(zip(TABLES, changed, strict=True))
    return msgspec.structs.replace(now, full=False, **fields, **rest)


TABLES = ("listeners", "pools", "members", "counters")
RESTS = ("alarms", "effective")


def joined(one: Report, other: Report) -> Report:
    """The first with what the other says besides."""
    together = {name: {**old, **new} for name, (old, new) in zip(TABLES, _tables(one, other), strict=True)}
    return msgspec.structs.replace(one, **together)


def _tables(last: Report, now: Report) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    return ((getattr(last, name), getattr(now, name)) for name in TABLES)
