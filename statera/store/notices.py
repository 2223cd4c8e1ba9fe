# SPDX-License-Identifier: Apache-2.0
"""Which load balancers others have not been told of yet: made, changed or deleted, and done."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from statera.store.clock import now_ms
from statera.store.events import utc_now
from statera.store.status import operating_status, provisioning_status
from statera.store.tables import listeners, load_balancers, pools

lb = load_balancers.c

SHOWN = (
    "id", "name", "description", "project_id", "admin_state_up", "provider", "topology", "flavor_id",
    "availability_zone", "vip_address", "vip_port_id", "vip_subnet_id", "vip_network_id", "vip_qos_policy_id",
    "additional_vips", "created_at", "updated_at",
)
NEWS = timedelta(hours=1)
"""What happened longer ago nobody is told: the notices may have been switched on only now."""

AT_ONCE = 50
TELLING_MS = 60_000
"""Who took notices and was not heard of again for so long does not tell them any more."""


class Notice(Struct, frozen=True):
    """*event* is `create`, `update` or `delete`; *payload* the load balancer as it is in *version*."""

    event: str
    payload: dict[str, Any]
    load_balancer_id: str
    version: int


def take(connection: Connection) -> list[Notice] | None:
    """Some notices for the caller to tell, and then to `put_down`; None when nothing is left to tell.

    Nobody else gets them within a minute.
    """
    now = utc_now()
    statement = (
        select(*(lb[name] for name in SHOWN), lb.version, lb.wanted_version, lb.told_version, lb.deleted_at,
               provisioning_status(load_balancers).label("provisioning_status"),
               operating_status(load_balancers).label("operating_status"))
        .where(_untold()).order_by(lb.id).limit(AT_ONCE).with_for_update(skip_locked=True))
    rows = connection.execute(statement).mappings().all()
    found = [Notice(_event(row), _payload(connection, row), row["id"], _version(row)) for row in rows]
    news = [notice for row, notice in zip(rows, found, strict=True) if _when(row) > now - NEWS]
    connection.execute(update(load_balancers).where(lb.id.in_([notice.load_balancer_id for notice in news]))
                       .values(telling_until_ms=now_ms() + TELLING_MS))
    put_down(connection, [notice for notice in found if notice not in news])
    return news if rows else None


def put_down(connection: Connection, told: Collection[Notice], untold: Collection[Notice] = ()) -> None:
    """What was *told* is done with; *untold* is there for anybody to tell."""
    for notice in told:
        older = func.coalesce(lb.told_version, -1) < notice.version
        connection.execute(update(load_balancers).where(lb.id == notice.load_balancer_id, older)
                           .values(told_version=notice.version, telling_until_ms=0))
    connection.execute(update(load_balancers).where(lb.id.in_([notice.load_balancer_id for notice in untold]))
                       .values(telling_until_ms=0))


def _untold() -> ColumnElement[bool]:
    told = func.coalesce(lb.told_version, -1)
    lives = and_(lb.deleted_at.is_(None), lb.done_version >= lb.wanted_version, told < lb.wanted_version)
    untold = or_(lives, and_(lb.deleted_at.is_not(None), told <= lb.version))
    return and_(untold, lb.telling_until_ms <= now_ms())


def _version(row: Any) -> int:
    version: int = row["wanted_version"] if row["deleted_at"] is None else row["version"] + 1
    return version


def _when(row: Any) -> datetime:
    at: datetime = row["deleted_at"] or row["updated_at"] or row["created_at"]
    return at


def _event(row: Any) -> str:
    if row["deleted_at"] is not None:
        return "delete"
    return "create" if row["told_version"] is None else "update"


def _payload(connection: Connection, row: Any) -> dict[str, Any]:
    """The load balancer by the names of the API and of providers."""
    below = {
        table.name: [{f"{kind}_id": id} for id in connection.execute(
            select(table.c.id).where(table.c.load_balancer_id == row["id"]).order_by(table.c.created_at)).scalars()]
        for kind, table in (("listener", listeners), ("pool", pools))
    }
    shown = {name: row[name] for name in (*SHOWN, "provisioning_status", "operating_status")}
    times = {name: row[name] and row[name].isoformat(timespec="seconds") for name in ("created_at", "updated_at")}
    return {**shown, **times, **below, "loadbalancer_id": row["id"]}
