# SPDX-License-Identifier: Apache-2.0
"""Load balancers that another provider's driver serves: what it is shown, when it was asked, what it answers.

A driver answers for each object by itself: ACTIVE, ERROR or DELETED, and an operating status. ACTIVE and DELETED
mean the newest wish about the object, since such load balancers take one wish at a time. Every function may be
repeated; those that write lock the load balancer's row first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, or_, select, update

from statera.model.providers import Debt, Whole
from statera.model.status import Operating, Provisioning
from statera.store import secrets, tables
from statera.store.clock import now_ms
from statera.store.events import Event, record
from statera.store.secrets import Sealer
from statera.store.wake import announce
from statera.store.wishes import hold

lb = tables.load_balancers.c


# What the driver is shown.


def load_whole(connection: Connection, load_balancer_id: str, *, sealer: Sealer | None = None) -> Whole:
    """The load balancer with all its rows, seen by this transaction; without *sealer* no secret is opened."""
    statement = select(tables.load_balancers).where(lb.id == load_balancer_id)
    row = connection.execute(statement).mappings().one()
    kept = secrets.of_load_balancer(connection, load_balancer_id) if sealer else {}
    return Whole(
        load_balancer=dict(row), rows={table.name: _rows(connection, table, load_balancer_id) for table in tables.TREE},
        flavor=_data(connection, "flavor_data", tables.flavors.c.id == row["flavor_id"]),
        zone=_data(connection, "availability_zone_data", tables.availability_zones.c.name == row["availability_zone"]),
        secrets={ref: sealer.open(sealed).decode() for ref, sealed in kept.items()} if sealer else {},
    )


def _rows(connection: Connection, table: Table, load_balancer_id: str) -> Sequence[Mapping[str, Any]]:
    order = [table.c.position] if "position" in table.c else []
    statement = select(table).where(table.c.load_balancer_id == load_balancer_id)
    found = connection.execute(statement.order_by(*order, table.c.created_at, table.c.id)).mappings()
    return [dict(row) for row in found]


PROFILES = {
    "flavor_data": (tables.flavors, tables.flavor_profiles),
    "availability_zone_data": (tables.availability_zones, tables.availability_zone_profiles),
}


def _data(connection: Connection, column: str, here: Any) -> dict[str, Any]:
    offer, profile = PROFILES[column]
    text = connection.execute(select(profile.c[column]).join(offer).where(here)).scalar_one_or_none()
    data: dict[str, Any] = msgspec.json.decode(text) if text else {}
    return data


# When it was asked.


def asked(connection: Connection, load_balancer_id: str) -> None:
    """The driver has just been told of a wish."""
    connection.execute(update(tables.load_balancers).where(lb.id == load_balancer_id).values(asked_ms=now_ms()))


def debt(connection: Connection, load_balancer_id: str, *, patience_seconds: float) -> Debt:
    """What the driver owes; nothing any more once somebody has given up on it."""
    overdue = lb.asked_ms < now_ms() - int(patience_seconds * 1000)
    given_up = and_(lb.failed_version.is_not(None), lb.failed_version >= lb.version)
    owed = select(overdue).where(lb.id == load_balancer_id, ~given_up, _pending(load_balancer_id))
    found = connection.execute(owed).scalar_one_or_none()
    return Debt.NONE if found is None else Debt.OVERDUE if found else Debt.ANSWER


def _pending(load_balancer_id: str) -> ColumnElement[bool]:
    """Whether the load balancer or anything below it waits for an answer."""
    waiting = [
        select(table.c.id).where(
            table.c.load_balancer_id == load_balancer_id, table.c.answered_version < table.c.wanted_version,
            or_(table.c.failed_version.is_(None), table.c.failed_version < table.c.wanted_version)).exists()
        for table in tables.TREE
    ]
    return or_(lb.done_version < lb.version, *waiting)


def give_up(connection: Connection, load_balancer_id: str, *, why: str) -> None:
    """Show ERROR of whatever waits for the driver; an answer that comes late still counts."""
    here = lb.id == load_balancer_id
    connection.execute(update(tables.load_balancers).where(here).values(failed_version=lb.version, failure=why))
    record(connection, Event(
        load_balancer_id=load_balancer_id, reason="provider_silent", message=why, fault="operator"))
    announce(connection)


# What it answers.

KINDS: Mapping[str, Table] = {
    "members": tables.members, "healthmonitors": tables.health_monitors, "pools": tables.pools,
    "l7rules": tables.l7rules, "l7policies": tables.l7policies, "listeners": tables.listeners,
    "loadbalancers": tables.load_balancers,
}
"""The words of the driver library, in the order in which the kinds of one message are taken."""


def owner(connection: Connection, table: Table, id: str) -> str | None:
    """The load balancer that the object is, or belongs to; None when there is no such object (any more)."""
    column = lb.id if table is tables.load_balancers else table.c.load_balancer_id
    gone = [lb.deleted_at.is_(None)] if table is tables.load_balancers else []
    found: str | None = connection.execute(select(column).where(table.c.id == id, *gone)).scalar_one_or_none()
    return found


def answer(
    connection: Connection, table: Table, id: str, *, provisioning: str | None, operating: str | None
) -> None:
    """Take what the driver says of one object; what has gone meanwhile is passed over."""
    load_balancer_id = owner(connection, table, id)
    root = hold(connection, load_balancer_id) if load_balancer_id else None
    found = connection.execute(select(table).where(table.c.id == id)).mappings().one_or_none() if root else None
    if found is None or root is None:
        return
    row = dict(found)
    if operating and "reported_status" in table.c:
        _set(connection, table, id, reported_status=str(Operating(operating)))
    if provisioning:
        take = _answer_root if table is tables.load_balancers else _answer_child
        take(connection, table, row, Provisioning(provisioning))
        _say_error(connection, table, row, Provisioning(provisioning), root["id"])
    connection.execute(update(tables.load_balancers).where(lb.id == root["id"]).values(due_ms=now_ms()))
    announce(connection)


SOUND = {"failed_version": None, "failure": None}


def _answer_root(connection: Connection, table: Table, row: Mapping[str, Any], said: Provisioning) -> None:
    """A pass of the controller ends what is DELETED; ACTIVE says nothing of one that is to go."""
    if said is Provisioning.DELETED:
        _set(connection, table, row["id"], deleting=True, done_version=row["version"], **SOUND)
    elif said is Provisioning.ERROR:
        _set(connection, table, row["id"], failed_version=row["version"], failure=FAILURE)
    elif said is Provisioning.ACTIVE and not row["deleting"]:
        _set(connection, table, row["id"], done_version=row["version"], **SOUND)


def _answer_child(connection: Connection, table: Table, row: Mapping[str, Any], said: Provisioning) -> None:
    if said is Provisioning.DELETED:
        connection.execute(delete(tables.tags).where(tables.tags.c.resource_id == row["id"]))
        connection.execute(delete(table).where(table.c.id == row["id"]))
    elif said is Provisioning.ERROR:
        _set(connection, table, row["id"], failed_version=row["wanted_version"], failure=FAILURE)
    elif said is Provisioning.ACTIVE and not row["deleting"]:
        _set(connection, table, row["id"], answered_version=row["wanted_version"], **SOUND)


FAILURE = "the provider's driver says that it failed; its own log says why"


def _say_error(
    connection: Connection, table: Table, row: Mapping[str, Any], said: Provisioning, load_balancer_id: str
) -> None:
    if said is Provisioning.ERROR and row["failure"] != FAILURE:
        record(connection, Event(
            load_balancer_id=load_balancer_id, object_type=table.name.removesuffix("s"), object_id=row["id"],
            reason="provider_error", message=FAILURE, fault="operator"))


def _set(connection: Connection, table: Table, id: str, **values: Any) -> None:
    connection.execute(update(table).where(table.c.id == id).values(**values))


COUNTERS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")


def count(connection: Connection, listener_id: str, totals: Mapping[str, int]) -> None:
    """Keep a listener's totals; a provider has no amphorae, so the listener's id stands for one."""
    load_balancer_id = owner(connection, tables.listeners, listener_id)
    if load_balancer_id is None or hold(connection, load_balancer_id) is None:
        return
    kept, values = tables.listener_statistics, {name: totals[name] for name in COUNTERS}
    here = and_(kept.c.listener_id == listener_id, kept.c.amphora_id == listener_id)
    connection.execute(delete(kept).where(here))
    connection.execute(kept.insert().values(
        listener_id=listener_id, amphora_id=listener_id, load_balancer_id=load_balancer_id, **values))
