# SPDX-License-Identifier: Apache-2.0
"""Reads what explains a load balancer's state."""

from sqlalchemy import Connection, case, func, or_, select

from statera.model.circumstances import Circumstances, Happening
from statera.store.clock import now_ms
from statera.store.status import operating_status, provisioning_status
from statera.store.tables import events, load_balancers, managers

LATEST = 20
DOUBTS = ("fleet_silent", "fleet_judged")

lb = load_balancers.c


def find(connection: Connection, name: str) -> str | None:
    """The id of the load balancer of that id or name, the newest of several that is not deleted; None without one."""
    return connection.execute(
        select(lb.id).where(or_(lb.id == name, lb.name == name))
        .order_by(case((lb.deleted_at.is_(None), 0), else_=1), lb.created_at.desc()).limit(1)
    ).scalar_one_or_none()


def circumstances(connection: Connection, load_balancer_id: str) -> Circumstances | None:
    """None when there is no such load balancer (any more)."""
    alive = select(func.count()).select_from(managers).where(managers.c.alive_until_ms > now_ms()).scalar_subquery()
    row = connection.execute(
        select(provisioning_status(load_balancers).label("provisioning"),
               operating_status(load_balancers).label("operating"), lb.failure, lb.attempts,
               (lb.due_ms - now_ms()).label("due_ms"), (lb.lease_until_ms - now_ms()).label("held_ms"),
               alive.label("managers"))
        .where(lb.id == load_balancer_id)).one_or_none()
    if row is None:
        return None
    return Circumstances(
        provisioning_status=row.provisioning, operating_status=row.operating, failure=row.failure,
        attempts=row.attempts, due_seconds=None if row.due_ms is None else int(row.due_ms) / 1000,
        is_held=row.held_ms > 0, managers=row.managers, doubt=_doubt(connection),
        latest=tuple(_latest(connection, load_balancer_id)))


def _latest(connection: Connection, load_balancer_id: str) -> list[Happening]:
    columns = (events.c.at, events.c.reason, events.c.message, events.c.attempt)
    found = select(*columns).where(events.c.load_balancer_id == load_balancer_id)
    return [Happening(**row) for row in connection.execute(found.order_by(events.c.id.desc()).limit(LATEST)).mappings()]


def _doubt(connection: Connection) -> str | None:
    said = select(events.c.reason, events.c.message).where(
        events.c.load_balancer_id == "", events.c.reason.in_(DOUBTS)).order_by(events.c.id.desc()).limit(1)
    row = connection.execute(said).one_or_none()
    return row.message if row and row.reason == DOUBTS[0] else None
