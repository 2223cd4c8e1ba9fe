# SPDX-License-Identifier: Apache-2.0
"""Read what is there: amphorae and nodes as the records of `model.fleet`."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from msgspec import Struct, convert, json
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, bindparam, exists, func, select

from statera.model.fleet import Amphora, Node
from statera.store.clock import now_ms
from statera.store.tables import (
    amphorae,
    availability_zone_profiles,
    availability_zones,
    flavor_profiles,
    flavors,
    managers,
    nodes,
)

Record = TypeVar("Record", bound=Struct)


def is_heard() -> ColumnElement[bool]:
    """Whether a live health manager holds a connection from the row's node; expects `nodes` in the query."""
    return exists(
        select(managers.c.id).where(managers.c.id == nodes.c.manager_id, managers.c.alive_until_ms > now_ms())
    )


def is_lost() -> ColumnElement[bool]:
    """Whether the fleet has given up the row's node, and it has not come back since; expects `nodes`."""
    return and_(nodes.c.lost_ms.is_not(None), ~is_heard())


AMPHORAE = (
    select(
        *(amphorae.c[name] for name in (
            "id", "load_balancer_id", "role", "born_version", "node_id", "ports", "applied_version", "replace",
            "leaving", "gone", "built", "vrrp_state", "renewal")),
        func.coalesce(is_heard(), False).label("node_heard"),
    )
    .outerjoin(nodes, nodes.c.id == amphorae.c.node_id)
    .where(amphorae.c.load_balancer_id.in_(bindparam("ids", expanding=True)), amphorae.c.deleted_at.is_(None))
    .order_by(amphorae.c.created_at, amphorae.c.id)
)
PLACED = (
    select(func.count()).select_from(amphorae)
    .where(and_(amphorae.c.node_id == nodes.c.id, amphorae.c.deleted_at.is_(None)))
    .correlate(nodes).scalar_subquery()
)
NODES = select(
    nodes.c.id, nodes.c.name, nodes.c.zone, nodes.c.drained, is_heard().label("heard"), is_lost().label("lost"),
).order_by(nodes.c.name)
COUNTED_NODES = NODES.add_columns(PLACED.label("amphorae"))
"""Reads about as many rows as there are amphorae: for the one who chooses among nodes."""


def load_amphorae(connection: Connection, load_balancer_id: str) -> list[Amphora]:
    """The load balancer's amphorae that are not removed yet, oldest first. One statement."""
    return amphorae_of(connection, [load_balancer_id])[load_balancer_id]


def amphorae_of(connection: Connection, load_balancer_ids: Collection[str]) -> defaultdict[str, list[Amphora]]:
    """The same by load balancer. One statement."""
    found: defaultdict[str, list[Amphora]] = defaultdict(list)
    for amphora in _records(
            connection.execute(AMPHORAE, {"ids": list(load_balancer_ids)}).mappings().all(), Amphora):
        found[amphora.load_balancer_id].append(amphora)
    return found


def load_nodes(connection: Connection) -> list[Node]:
    """Every enrolled node by name, what is on it left uncounted. One statement."""
    return _records(connection.execute(NODES).mappings().all(), Node)


def count_on_nodes(connection: Connection) -> list[Node]:
    """The same with the number of amphorae on each. One statement."""
    return _records(connection.execute(COUNTED_NODES).mappings().all(), Node)


def node_of(connection: Connection, amphora_id: str) -> str | None:
    """The name of the node that carries the amphora, None while none does."""
    carried = select(nodes.c.name).join(amphorae, amphorae.c.node_id == nodes.c.id)
    return connection.execute(carried.where(amphorae.c.id == amphora_id)).scalar_one_or_none()


def compute_zone(connection: Connection, availability_zone: str | None) -> str | None:
    """The `compute_zone` that an availability zone stands for, None for anywhere."""
    profiles = availability_zone_profiles
    data = connection.execute(
        select(profiles.c.availability_zone_data)
        .join(availability_zones, availability_zones.c.availability_zone_profile_id == profiles.c.id)
        .where(availability_zones.c.name == availability_zone)
    ).scalar_one_or_none() if availability_zone else None
    zone = json.decode(data).get("compute_zone") if data else None
    return str(zone) if zone else None


def flavor_data(connection: Connection, flavor_id: str | None) -> dict[str, Any]:
    """What the flavor's profile says; nothing without a flavor."""
    data = connection.execute(
        select(flavor_profiles.c.flavor_data)
        .join(flavors, flavors.c.flavor_profile_id == flavor_profiles.c.id)
        .where(flavors.c.id == flavor_id)
    ).scalar_one_or_none() if flavor_id else None
    return json.decode(data, type=dict[str, Any]) if data else {}


def _records(rows: Sequence[RowMapping], record: type[Record]) -> list[Record]:
    return [convert({str(name): value for name, value in row.items()}, record, strict=False) for row in rows]
