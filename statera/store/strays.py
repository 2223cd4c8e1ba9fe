# SPDX-License-Identifier: Apache-2.0
"""Amphorae that nodes carry and the database does not know: after a restore they have a grace, else none."""

from collections.abc import Collection, Sequence

from msgspec import Struct
from sqlalchemy import Connection, func, select, update

from statera.store.clock import now_ms
from statera.store.tables import amphorae, nodes, restores

LONGEST = 500


class Stray(Struct, frozen=True):
    """An amphora on a node that nobody knows of."""

    amphora_id: str
    node: str


def newest_restore(connection: Connection) -> str | None:
    """The id of the last restore, so that who holds facts in memory notices that there was one."""
    statement = select(restores.c.id).order_by(restores.c.restored_at.desc()).limit(1)
    return connection.execute(statement).scalar_one_or_none()


def grace_seconds(connection: Connection) -> float:
    """How long strays may stay from now on; 0 for not at all."""
    left = connection.execute(select(func.max(restores.c.grace_until_ms) - now_ms())).scalar_one()
    return max(0, left or 0) / 1000


def end_grace(connection: Connection) -> None:
    """Have strays removed now."""
    connection.execute(update(restores).where(restores.c.grace_until_ms > now_ms()).values(grace_until_ms=now_ms()))


def spared(connection: Connection, carried: Collection[str]) -> frozenset[str]:
    """Those of the *carried* amphorae that a node may keep although the database never heard of them."""
    if not carried or not grace_seconds(connection):
        return frozenset()
    ids, known = sorted(carried), set[str]()
    for start in range(0, len(ids), LONGEST):
        some = select(amphorae.c.id).where(amphorae.c.id.in_(ids[start:start + LONGEST]))
        known.update(connection.execute(some).scalars())
    return frozenset(carried) - known


def note(connection: Connection, node_id: str, strays: Sequence[str]) -> None:
    """Write down the node's strays, for operators."""
    connection.execute(update(nodes).where(nodes.c.id == node_id).values(strays=list(strays) or None))


def listed(connection: Connection) -> list[Stray]:
    """All strays that nodes keep."""
    found = connection.execute(select(nodes.c.name, nodes.c.strays).where(nodes.c.strays.is_not(None)))
    return [Stray(id, row.name) for row in found for id in row.strays or ()]
