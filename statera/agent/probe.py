# SPDX-License-Identifier: Apache-2.0
"""From HAProxy's own tables to a report: words for what an amphora serves, totals that never fall."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import Struct

from statera.render.haproxy import backends
from statera.wire import Counters, Report, Spec

Rows = Iterable[Mapping[str, str]]
Totals = dict[str, Counters]

SHOW_STAT = "show stat -1 7 -1"
FRONTEND, BACKEND, SERVER = "0", "1", "2"

POOL_SEVERITY = {"UP": 0, "DOWN": 1}
MEMBER_SEVERITY = ("no check", "UP", "MAINT", "DRAIN", "NOLB", "DOWN")
"""From the best word to the worst; a member of several backends is worth its worst."""


def words(spec: Spec, rows: Rows, *, vrrp: str | None) -> Report:
    """The full report of words, about objects of *spec* only; what is asleep or leaving is not spoken of."""
    known = {f"{pool.id}:{listener.id}": {member.id for member in pool.members} for listener, pool in backends(spec)}
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


def totals(rows: Rows) -> Totals:
    """Each frontend's counters since its worker began."""
    return {
        row["pxname"]: Counters(
            bytes_in=int(row["bin"]), bytes_out=int(row["bout"]), active_connections=int(row["scur"]),
            total_connections=int(row["stot"]), request_errors=int(row["ereq"] or 0),
        )
        for row in rows if row["type"] == FRONTEND and row["bin"]
    }


class Tally(Struct):
    """Adds up the counters of all workers that an amphora ever had; those of dead ones are in *base*."""

    base: Totals = {}
    workers: dict[str, Totals] = {}

    def count(self, worker: int, now: Totals) -> None:
        """Take in what a worker says; numbers that fell belong to a new worker with an old one's pid."""
        last = self.workers.get(str(worker), {})
        if any(one.total_connections < last[name].total_connections for name, one in now.items() if name in last):
            self.bury(worker)
        self.workers[str(worker)] = now

    def bury(self, worker: int) -> None:
        """Keep what a worker counted, who is gone; one that is unknown is no harm."""
        for name, one in self.workers.pop(str(worker), {}).items():
            self.base[name] = add(self.base.get(name, Counters()), msgspec.structs.replace(one, active_connections=0))

    def totals(self, listeners: Iterable[str]) -> Totals:
        """Everything ever counted for each of these listeners."""
        return {name: self._total(name) for name in listeners}

    def _total(self, name: str) -> Counters:
        total = self.base.get(name, Counters())
        for counted in self.workers.values():
            total = add(total, counted.get(name, Counters()))
        return total


def add(one: Counters, other: Counters) -> Counters:
    return Counters(**{name: getattr(one, name) + getattr(other, name) for name in Counters.__struct_fields__})


def news(last: Report | None, now: Report) -> Report | None:
    """What to say after *last* was said: all when something is no longer there, nothing when nothing changed."""
    if last is None or any(set(old) - set(new) for old, new in _tables(last, now)):
        return now
    changed = [{key: value for key, value in new.items() if old.get(key) != value} for old, new in _tables(last, now)]
    if not any(changed) and last.vrrp == now.vrrp:
        return None
    fields = dict(zip(TABLES, changed, strict=True))
    return msgspec.structs.replace(now, full=False, **fields)


TABLES = ("listeners", "pools", "members", "counters")


def _tables(last: Report, now: Report) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    return ((getattr(last, name), getattr(now, name)) for name in TABLES)
