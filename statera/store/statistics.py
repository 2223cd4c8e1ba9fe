# SPDX-License-Identifier: Apache-2.0
"""Traffic totals, summed over the amphorae that ever served."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, case, exists, func, or_, select

from statera.store.status import operating_status, provisioning_status
from statera.store.tables import amphorae, listener_statistics, load_balancers

COUNTERS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")


def totals(connection: Connection, **of: str) -> dict[str, int]:
    """The five counters over the rows whose columns equal *of*; connections count only where an amphora lives.

    A provider without amphorae reports the listener's id in place of an amphora's.
    """
    where = [listener_statistics.c[name] == value for name, value in of.items()]
    found = connection.execute(select(*_sums()).where(*where)).mappings().one()
    return {name: int(found[name]) for name in COUNTERS}


def _sums() -> list[ColumnElement[int]]:
    row = listener_statistics.c
    lives = or_(
        row.amphora_id == row.listener_id,
        exists().where(amphorae.c.id == row.amphora_id, amphorae.c.deleted_at.is_(None)),
    )
    counted: dict[str, Any] = {name: row[name] for name in COUNTERS}
    counted["active_connections"] = case((lives, row.active_connections), else_=0)
    return [func.coalesce(func.sum(counted[name]), 0).label(name) for name in COUNTERS]


def of_load_balancers(connection: Connection, *where: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Each load balancer that fulfils *where* with whose it is, its statuses and its counters, in two statements."""
    lb = load_balancers.c
    shown = select(
        lb.id.label("loadbalancer_id"), lb.name, lb.project_id,
        provisioning_status(load_balancers).label("provisioning_status"),
        operating_status(load_balancers).label("operating_status"),
    ).where(lb.deleted_at.is_(None), *where).order_by(lb.created_at, lb.id)
    row = listener_statistics.c
    counted = select(row.load_balancer_id, *_sums()).join(load_balancers, lb.id == row.load_balancer_id)
    summed = counted.where(lb.deleted_at.is_(None), *where).group_by(row.load_balancer_id)
    sums = {each["load_balancer_id"]: {name: int(each[name]) for name in COUNTERS}
            for each in connection.execute(summed).mappings()}
    nothing = dict.fromkeys(COUNTERS, 0)
    found = connection.execute(shown).mappings()
    return [{**each, **sums.get(each["loadbalancer_id"], nothing)} for each in found]


def rows(connection: Connection, amphora_id: str) -> list[dict[str, Any]]:
    """The amphora's counters, one row for each listener."""
    row = listener_statistics.c
    shown = [row.amphora_id.label("id"), row.listener_id, row.load_balancer_id.label("loadbalancer_id")]
    statement = select(*shown, *(row[name] for name in COUNTERS)).where(row.amphora_id == amphora_id)
    return [dict(found) for found in connection.execute(statement).mappings()]


