# SPDX-License-Identifier: Apache-2.0
"""Spare amphorae: rows of amphorae that no load balancer has yet. Each is written down before its machine is made.

Whoever needs an amphora takes one in the transaction that would have added its own, and it is an amphora like any
other from then on; nobody can have one that is being removed, and nobody removes one that somebody has.
"""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from statera.model.fleet import SPARE, Role, Spare
from statera.store.clock import now_ms
from statera.store.events import utc_now
from statera.store.seen import is_heard, is_lost
from statera.store.tables import (
    amphorae,
    availability_zone_profiles,
    availability_zones,
    load_balancers,
    nodes,
    turns,
)

one = amphorae.c
TURN = "spares"


def load(connection: Connection) -> list[Spare]:
    """Every spare, the oldest first. One statement."""
    statement = select(
        one.id, one.built, one.node_id, one.leaving, one.image_id, one.compute_flavor, one.host_id,
        func.coalesce(is_heard(), False).label("heard"), func.coalesce(is_lost(), False).label("lost"),
    ).outerjoin(nodes, nodes.c.id == one.node_id).where(_is_spare(), one.deleted_at.is_(None))
    rows = connection.execute(statement.order_by(one.created_at, one.id)).mappings()
    return [_spare({**row}) for row in rows]


def _spare(row: Mapping[str, Any]) -> Spare:
    """Until somebody has it `built` holds what it was made for."""
    facts: dict[str, Any] = {str(name): value for name, value in row.items() if name != "built"}
    return msgspec.convert(facts | {"zone": (row["built"] or {}).get("zone")}, Spare, strict=False)


def _is_spare() -> ColumnElement[bool]:
    return and_(one.role == SPARE, one.load_balancer_id.is_(None))


def zones(connection: Connection) -> frozenset[str | None]:
    """Where load balancers may want amphorae: in the zones of enabled availability zones, and anywhere (None)."""
    profiles = availability_zone_profiles.c
    rows = connection.execute(
        select(profiles.availability_zone_data)
        .join(availability_zones, availability_zones.c.availability_zone_profile_id == profiles.id)
        .where(availability_zones.c.enabled)).scalars()
    return frozenset({None, *(msgspec.json.decode(data).get("compute_zone") for data in rows)})


def add(connection: Connection, zone: str | None) -> str:
    """Write down a new spare; returns its id."""
    spare_id = str(uuid4())
    connection.execute(insert(amphorae).values(
        id=spare_id, role=SPARE, born_version=0, built={"zone": zone}, created_at=utc_now()))
    return spare_id


def note(connection: Connection, spare_id: str, machine: Mapping[str, Any], *, node_id: str | None) -> None:
    """What its machine is, and the node that it has become."""
    known = {name: value for name, value in machine.items() if value}
    _change(connection, spare_id, **known, **({"node_id": node_id} if node_id else {}))


def retire(connection: Connection, spare_id: str) -> bool:
    """Have nobody take it from now on; False when somebody has it."""
    return _change(connection, spare_id, leaving=True)


def claim(connection: Connection, load_balancer_id: str, role: Role, *, zone: str | None) -> str | None:
    """Make a spare the load balancer's amphora, one on another host than its peer's if there is; None without any."""
    lb = load_balancers.c
    taken = set(connection.execute(
        select(one.host_id).where(one.load_balancer_id == load_balancer_id, one.deleted_at.is_(None), ~one.leaving)
    ).scalars()) - {None}
    ready = [spare for spare in load(connection) if spare.is_ready and spare.zone == zone]
    born = select(lb.version).where(lb.id == load_balancer_id).scalar_subquery()
    for spare in sorted(ready, key=lambda spare: spare.host_id in taken):
        if _change(connection, spare.id, load_balancer_id=load_balancer_id, role=str(role),
                   born_version=born, built={}):
            return spare.id
    return None


def _change(connection: Connection, spare_id: str, **values: Any) -> bool:
    """Only while it is nobody's and does not leave."""
    here = (one.id == spare_id, _is_spare(), ~one.leaving, one.deleted_at.is_(None))
    return bool(connection.execute(update(amphorae).where(*here).values(**values, updated_at=utc_now())).rowcount)


# Of several processes that look after spares one does so at a time.


def take_turn(connection: Connection, seconds: float) -> bool:
    """Whether it is ours for so long; another's has to end first, or to run out."""
    until = now_ms() + int(seconds * 1000)
    mine = update(turns).where(turns.c.name == TURN, turns.c.until_ms <= now_ms()).values(until_ms=until)
    if connection.execute(mine).rowcount:
        return True
    if connection.execute(select(turns.c.name).where(turns.c.name == TURN)).first() is not None:
        return False
    connection.execute(insert(turns).values(name=TURN, until_ms=until))
    return True


def end_turn(connection: Connection) -> None:
    connection.execute(update(turns).where(turns.c.name == TURN).values(until_ms=0))
