# SPDX-License-Identifier: Apache-2.0
"""Totals of listeners that never fall, made of the counters of one HAProxy worker after the other."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from statera.wire import Counters

Totals = dict[str, Counters]

FRONTEND = "0"


def totals(rows: Iterable[Mapping[str, str]]) -> Totals:
    """Each frontend's counters since its worker began, from the rows of `show stat`."""
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
    workers: dict[int, Totals] = {}

    def count(self, worker: int, now: Totals) -> None:
        """Take in what a worker says; numbers that fell belong to a new worker with an old one's pid."""
        last = self.workers.get(worker, {})
        if any(one.total_connections < last[name].total_connections for name, one in now.items() if name in last):
            self.bury(worker)
        self.workers[worker] = now

    def bury(self, worker: int) -> None:
        """Keep what a worker counted, who is gone; one that is unknown is no harm."""
        for name, one in self.workers.pop(worker, {}).items():
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
