# SPDX-License-Identifier: Apache-2.0
"""Which providers are Statera's own; any other is served by a driver of somebody else's, and what that is shown."""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

from msgspec import Struct

Row = Mapping[str, Any]

OURS = frozenset({"amphora", "amphorav2", "octavia", "noop_driver", "noop_driver-alt"})
"""Names that users may give to what the controller and the fleet make themselves."""


def is_ours(provider: str) -> bool:
    """Whether amphorae serve the provider's load balancers; else a driver does, and says by itself what is done."""
    return provider in OURS


class Debt(Enum):
    """What another provider's driver owes: nothing, an answer, or one that should have come long ago."""

    NONE = auto()
    ANSWER = auto()
    OVERDUE = auto()


class Whole(Struct, frozen=True, kw_only=True):
    """One load balancer with everything below it: *rows* by table, each in the order in which drivers get them.

    *flavor* and *zone* are the data of their profiles, *secrets* the PEM text of each reference.
    """

    load_balancer: Row
    rows: Mapping[str, Sequence[Row]] = {}
    flavor: Mapping[str, Any] = {}
    zone: Mapping[str, Any] = {}
    secrets: Mapping[str, str] = {}

    def below(self, table: str, **owner: str | None) -> list[Row]:
        """Rows that stay and whose columns equal *owner*."""
        return [row for row in self.rows.get(table, ())
                if not row["deleting"] and all(row[name] == value for name, value in owner.items())]

    def row(self, table: str, id: str) -> Row:
        return self.load_balancer if table == "load_balancers" else next(
            row for row in self.rows[table] if row["id"] == id)
