# SPDX-License-Identifier: Apache-2.0
"""Traffic totals, summed over the amphorae that ever served."""

from typing import Any

from sqlalchemy import Connection, case, exists, func, or_, select

from statera.store.tables import amphorae, listener_statistics

COUNTERS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")


def totals(connection: Connection, **of: str) -> dict[str, int]:
    """The five counters over the rows whose columns equal *of*; connections count only where an amphora lives.

    A provider without amphorae reports the listener's id in place of an amphora's.
    """
    row = listener_statistics.c
    lives = or_(
        row.amphora_id == row.listener_id,
        exists().where(amphorae.c.id == row.amphora_id, amphorae.c.deleted_at.is_(None)),
    )
    counted: dict[str, Any] = {name: row[name] for name in COUNTERS}
    counted["active_connections"] = case((lives, row.active_connections), else_=0)
    sums = [func.coalesce(func.sum(counted[name]), 0).label(name) for name in COUNTERS]
    where = [row[name] == value for name, value in of.items()]
    found = connection.execute(select(*sums).where(*where)).mappings().one()
    return {name: int(found[name]) for name in COUNTERS}


def rows(connection: Connection, amphora_id: str) -> list[dict[str, Any]]:
    """The amphora's counters, one row for each listener."""
    row = listener_statistics.c
    shown = [row.amphora_id.label("id"), row.listener_id, row.load_balancer_id.label("loadbalancer_id")]
    statement = select(*shown, *(row[name] for name in COUNTERS)).where(row.amphora_id == amphora_id)
    return [dict(found) for found in connection.execute(statement).mappings()]


