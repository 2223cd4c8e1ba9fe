# SPDX-License-Identifier: Apache-2.0
"""What happened to a load balancer and why, in words for the people who own it."""

from datetime import UTC, datetime

from msgspec import Struct, structs
from sqlalchemy import Connection, insert, select

from statera.store import tables


class Event(Struct, frozen=True, kw_only=True):
    """*reason* is a stable code (`no_node`), *message* a sentence, *fault* whose: none, user, operator or cloud.

    *object_type* is the API's word (`loadbalancer`, `listener`, `amphora`, `node` …).
    """

    load_balancer_id: str
    reason: str
    message: str
    object_type: str = "loadbalancer"
    object_id: str = ""
    attempt: int = 0
    fault: str = "none"
    next_try_at: datetime | None = None
    request_id: str | None = None


def record(connection: Connection, *several: Event) -> None:
    """Write events; one without an object is about the load balancer itself."""
    rows = [structs.asdict(event) | {"object_id": event.object_id or event.load_balancer_id, "at": utc_now()}
            for event in several]
    if rows:
        connection.execute(insert(tables.events), rows)


def latest_reason(connection: Connection, load_balancer_id: str) -> str | None:
    """The reason of the newest event of a load balancer, so that nobody says the same twice in a row."""
    events = tables.events.c
    newest = select(events.reason).where(events.load_balancer_id == load_balancer_id)
    return connection.execute(newest.order_by(events.id.desc()).limit(1)).scalar_one_or_none()


def is_told(connection: Connection, load_balancer_id: str, reason: str, object_id: str) -> bool:
    """Whether the load balancer has an event of this reason about this object."""
    event = tables.events.c
    found = select(event.id).where(
        event.load_balancer_id == load_balancer_id, event.reason == reason, event.object_id == object_id)
    return connection.execute(found.limit(1)).first() is not None


class Told(Struct, frozen=True, kw_only=True):
    """An event as it is shown; *at* is when it happened."""

    id: int
    at: datetime
    object_type: str
    object_id: str
    reason: str
    message: str
    attempt: int
    fault: str
    next_try_at: datetime | None
    request_id: str | None


def newest(connection: Connection, load_balancer_id: str, *, limit: int | None, before: int | None) -> list[Told]:
    """At most *limit* events of the load balancer that came earlier than *before*, newest first."""
    event = tables.events.c
    statement = select(*(event[name] for name in Told.__struct_fields__)).where(
        event.load_balancer_id == load_balancer_id)
    if before is not None:
        statement = statement.where(event.id < before)
    rows = connection.execute(statement.order_by(event.id.desc()).limit(limit)).mappings()
    return [Told(**row) for row in rows]


def utc_now() -> datetime:
    """Now, as shown times are stored: UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
