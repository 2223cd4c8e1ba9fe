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


def record(connection: Connection, event: Event) -> None:
    """Write *event*; one without an object is about the load balancer itself."""
    values = structs.asdict(event) | {"object_id": event.object_id or event.load_balancer_id}
    connection.execute(insert(tables.events).values(at=utc_now(), **values))


def latest_reason(connection: Connection, load_balancer_id: str) -> str | None:
    """The reason of the newest event of a load balancer, so that nobody says the same twice in a row."""
    events = tables.events.c
    newest = select(events.reason).where(events.load_balancer_id == load_balancer_id)
    return connection.execute(newest.order_by(events.id.desc()).limit(1)).scalar_one_or_none()


def utc_now() -> datetime:
    """Now, as shown times are stored: UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
