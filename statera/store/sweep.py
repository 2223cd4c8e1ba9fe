# SPDX-License-Identifier: Apache-2.0
"""What nobody asks for but time brings: passes for what got stuck, and the end of what is no longer of use."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, func, select

from statera.model.fleet import Owned
from statera.store.clock import now_ms
from statera.store.events import Event, record
from statera.store.settle import ask_for_pass
from statera.store.tables import (
    amphorae,
    events,
    idempotency_keys,
    listener_statistics,
    load_balancers,
    node_tokens,
    sealed_secrets,
    tags,
)


class Expiry(NamedTuple):
    """A certificate that runs out; *mark* tells its content from others."""

    load_balancer_id: str
    ref: str
    mark: str
    expires_at: datetime


EXPIRES, MARK = "certificate_expires", 36
"""The event's reason, and how much of a digest an event has room for."""

OWNERS_AT_ONCE = 500
ROWS_AT_ONCE = 100
"""Small bites: no transaction of housekeeping makes anybody wait."""


def rouse(connection: Connection, after: str = "", *, limit: int = ROWS_AT_ONCE) -> str:
    """Ask for passes over load balancers that are under way while nobody will look at them.

    Takes at most *limit* with ids above *after*; returns the *after* of the next call.
    """
    lb = load_balancers.c
    idle = select(lb.id).where(lb.unsettled == 1, lb.due_ms.is_(None), lb.deleted_at.is_(None), lb.id > after)
    found = connection.execute(idle.order_by(lb.id).limit(limit)).scalars().all()
    if found:
        ask_for_pass(connection, *found)
    return found[-1] if len(found) == limit else ""


def purge_load_balancers(connection: Connection, before: datetime) -> int:
    """Remove load balancers deleted *before*, with their tags, statistics and events. Returns how many."""
    lb = load_balancers.c
    old = select(lb.id).where(lb.deleted_at < before).order_by(lb.deleted_at).limit(ROWS_AT_ONCE)
    ids = connection.execute(old).scalars().all()
    if ids:
        connection.execute(delete(tags).where(tags.c.resource_id.in_(ids)))
        for table in (listener_statistics, events):
            connection.execute(delete(table).where(table.c.load_balancer_id.in_(ids)))
        connection.execute(delete(load_balancers).where(lb.id.in_(ids)))
    return len(ids)


def purge_amphorae(connection: Connection, before: datetime) -> int:
    """Remove the rows of amphorae that went *before*. Returns how many."""
    old = select(amphorae.c.id).where(amphorae.c.deleted_at < before).limit(ROWS_AT_ONCE)
    ids = connection.execute(old).scalars().all()
    connection.execute(delete(amphorae).where(amphorae.c.id.in_(ids)))
    return len(ids)


def purge_events(connection: Connection, before: datetime) -> int:
    """Remove events from *before*. Returns how many."""
    old = select(events.c.id).where(events.c.at < before).order_by(events.c.id).limit(ROWS_AT_ONCE)
    ids = connection.execute(old).scalars().all()
    connection.execute(delete(events).where(events.c.id.in_(ids)))
    return len(ids)


def purge_tokens(connection: Connection) -> int:
    """Remove tokens that no node has used in time. Returns how many."""
    return connection.execute(delete(node_tokens).where(node_tokens.c.expires_ms < now_ms())).rowcount


def purge_idempotency_keys(connection: Connection) -> int:
    """Remove answers that nobody may ask for again. Returns how many."""
    return connection.execute(delete(idempotency_keys).where(idempotency_keys.c.expires_ms < now_ms())).rowcount


def expiring(connection: Connection, before: datetime) -> list[Expiry]:
    """At most `ROWS_AT_ONCE` certificates in use that run out *before* and of which nobody has been told yet."""
    used, told = sealed_secrets.c, events.c
    said = exists().where(
        told.load_balancer_id == used.load_balancer_id, told.reason == EXPIRES, told.object_id == _short(used.digest))
    found = select(used.load_balancer_id, used.ref, _short(used.digest).label("mark"), used.expires_at)
    rows = connection.execute(found.where(used.expires_at < before, ~said).limit(ROWS_AT_ONCE))
    return [Expiry(*row) for row in rows]


def tell_expiry(connection: Connection, expiry: Expiry) -> None:
    """Say it, once for each content of a secret."""
    record(connection, Event(
        load_balancer_id=expiry.load_balancer_id, reason=EXPIRES, object_type="certificate", object_id=expiry.mark,
        fault="user", message=f"the certificate {expiry.ref} runs out on {expiry.expires_at:%Y-%m-%d %H:%M} UTC"))


def _short(digest: ColumnElement[str]) -> ColumnElement[str]:
    return func.substr(digest, 1, MARK)


def without_owner(connection: Connection, things: Iterable[Owned]) -> frozenset[Owned]:
    """Those whose load balancer or amphora is no more.

    They stay behind when a process dies between making one and writing down whose it is; one whose owner
    is only just being written down looks the same, so ask twice before you believe it.
    """
    by_kind: defaultdict[bool, list[Owned]] = defaultdict(list)
    for thing in things:
        by_kind[thing.is_amphoras].append(thing)
    return frozenset(
        thing for is_amphoras, some in by_kind.items() for start in range(0, len(some), OWNERS_AT_ONCE)
        for thing in _without(connection, amphorae if is_amphoras else load_balancers,
                              some[start:start + OWNERS_AT_ONCE]))


def _without(connection: Connection, owners: Table, things: Sequence[Owned]) -> list[Owned]:
    named = {thing.owner for thing in things}
    living = set(connection.execute(
        select(owners.c.id).where(owners.c.id.in_(named), owners.c.deleted_at.is_(None))).scalars())
    return [thing for thing in things if thing.owner not in living]
