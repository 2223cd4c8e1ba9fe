# SPDX-License-Identifier: Apache-2.0
"""What amphorae may use: a flavor's limits, what nodes made of them, and the alarms when one is hit."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import structs
from sqlalchemy import Connection, Row, select, update

from statera.model.health import Words
from statera.model.limits import Alarm, Limits
from statera.store.events import Event, record
from statera.store.tables import amphorae, flavor_profiles, flavors

AnyRow: TypeAlias = Row[*tuple[Any, ...]]

FIELDS = tuple(field.name for field in structs.fields(Limits))


def of_flavor(connection: Connection, flavor_id: str | None) -> Limits:
    """The limits that the flavor says; none without a flavor."""
    profile = connection.execute(
        select(flavor_profiles.c.flavor_data)
        .join(flavors, flavors.c.flavor_profile_id == flavor_profiles.c.id)
        .where(flavors.c.id == flavor_id)
    ).scalar_one_or_none() if flavor_id else None
    data = msgspec.json.decode(profile or "{}")
    return msgspec.convert({name: data.get(name) for name in FIELDS}, Limits)


def effective(connection: Connection, load_balancer_id: str) -> list[dict[str, Any]]:
    """Id, role, `effective` and `alarms` of each amphora that serves the load balancer, as its node said last."""
    columns = amphorae.c
    rows = connection.execute(
        select(columns.id, columns.role, columns.effective, columns.alarms)
        .where(columns.load_balancer_id == load_balancer_id, columns.deleted_at.is_(None))
        .order_by(columns.created_at, columns.id))
    return [{**row, "alarms": [*(row["alarms"] or {}).values()]} for row in rows.mappings()]


def news(amphora: AnyRow, words: Words) -> dict[str, Any]:
    """The columns that are to change, given an amphora's row and what it says; nothing when nothing is new."""
    alarms = None if words.alarms is None else {key(alarm): structs.asdict(alarm) for alarm in words.alarms} or None
    said = {
        "alarms": amphora.alarms if words.alarms is None else alarms,
        "effective": amphora.effective if words.effective is None else structs.asdict(words.effective),
    }
    return {name: value for name, value in said.items() if value != getattr(amphora, name)}


def note(connection: Connection, amphora: AnyRow, news: Mapping[str, Any]) -> None:
    """Keep the *news*, and tell in events which alarms began and which are over. The load balancer must be locked."""
    connection.execute(update(amphorae).where(amphorae.c.id == amphora.id).values(**news))
    for event in changes(amphora.alarms or {}, news.get("alarms", amphora.alarms) or {}):
        record(connection, structs.replace(
            event, load_balancer_id=amphora.load_balancer_id, object_id=event.object_id or amphora.id))


def key(alarm: Alarm) -> str:
    return f"{alarm.reason} {alarm.object_id}".strip()


def changes(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[Event]:
    """An event for each alarm that began and for each that is over; one that goes on is not spoken of again."""
    began = [_event(alarm) for name, alarm in now.items() if name not in before]
    over = [_event(alarm) for name, alarm in before.items() if name not in now]
    return began + [
        structs.replace(event, reason=f"{event.reason}_over", message=f"no more: {event.message}") for event in over]


def _event(alarm: Mapping[str, str]) -> Event:
    return Event(
        load_balancer_id="", reason=alarm["reason"], message=alarm["message"], object_type=alarm["object_type"],
        object_id=alarm["object_id"])
