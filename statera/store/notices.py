# SPDX-License-Identifier: Apache-2.0
"""Which load balancers others have not been told of yet: made, changed or deleted, and done."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

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


class Notice(Struct, frozen=True):
    """*event* is `create`, `update` or `delete`; *payload* the load balancer as it is."""

    event: str
    payload: dict[str, Any]


def take(connection: Connection) -> list[Notice] | None:
    """Some notices, marked as told in the caller's transaction; None when nothing is left to tell.

    No two who ask at once get the same.
    """
    now = utc_now()
    statement = (
        select(*(lb[name] for name in SHOWN), lb.version, lb.wanted_version, lb.told_version, lb.deleted_at,
               provisioning_status(load_balancers).label("provisioning_status"),
               operating_status(load_balancers).label("operating_status"))
        .where(_untold()).order_by(lb.id).limit(AT_ONCE).with_for_update(skip_locked=True))
    rows, notices = connection.execute(statement).mappings().all(), []
    for row in rows:
        told = row["wanted_version"] if row["deleted_at"] is None else row["version"] + 1
        connection.execute(update(load_balancers).where(lb.id == row["id"]).values(told_version=told))
        if _when(row) > now - NEWS:
            notices.append(Notice(_event(row), _payload(connection, row)))
    return notices if rows else None


def _untold() -> ColumnElement[bool]:
    told = func.coalesce(lb.told_version, -1)
    lives = and_(lb.deleted_at.is_(None), lb.done_version >= lb.wanted_version, told < lb.wanted_version)
    return or_(lives, and_(lb.deleted_at.is_not(None), told <= lb.version))


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
