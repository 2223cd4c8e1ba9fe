# SPDX-License-Identifier: Apache-2.0
"""The two statuses as SQL, for filters and lists: the same rules as `model.status`, row by row.

Every expression expects the object's own table joined to `load_balancers` (for a load balancer: itself). Making one
costs more than a database needs for it, so each is made once.
"""

from collections.abc import Iterable
from functools import cache

from sqlalchemy import ColumnElement, Table, and_, case, exists, func, literal, or_, select

from statera.model.providers import OURS
from statera.model.status import Operating, Provisioning
from statera.store.clock import now_ms
from statera.store.tables import health_monitors, l7policies, l7rules, listeners, load_balancers, managers, members

ALWAYS_FRESH = (health_monitors, l7policies, l7rules)
"""Objects that nobody reports on: they are on when they run and their admin state is up."""

STALE = {load_balancers.name: Operating.ERROR, listeners.name: Operating.ERROR}
"""What shows when no live health manager vouches for an earlier report; other objects show OFFLINE."""


IS_OURS = load_balancers.c.provider.in_(sorted(OURS))


def done_version(table: Table) -> ColumnElement[int]:
    """What runs of the row: all that its load balancer runs, but each for itself where another's driver answers."""
    lb = load_balancers.c
    if table is load_balancers:
        return lb.done_version
    return case((IS_OURS, lb.done_version), else_=table.c.answered_version)


@cache
def provisioning_status(table: Table) -> ColumnElement[str]:
    lb, row, done = load_balancers.c, table.c, done_version(table)
    failed = [row.failed_version >= row.wanted_version]
    if table is not load_balancers:
        concerned = or_(IS_OURS, row.answered_version < row.wanted_version)
        failed.append(and_(lb.failed_version >= row.wanted_version, concerned))
    whens = [
        (or_(*failed), Provisioning.ERROR),
        (row.deleting, Provisioning.PENDING_DELETE),
        (done < row.created_version, Provisioning.PENDING_CREATE),
        (done < row.wanted_version, Provisioning.PENDING_UPDATE),
    ]
    if table is load_balancers:
        whens.insert(0, (lb.deleted_at.is_not(None), Provisioning.DELETED))
    return case(*((when, literal(str(then))) for when, then in whens), else_=literal(str(Provisioning.ACTIVE)))


IMPLIED = {
    ("provisioning_status", str(Provisioning.ERROR)): load_balancers.c.failed_version > 0,
    ("provisioning_status", str(Provisioning.PENDING_CREATE)): load_balancers.c.unsettled == 1,
    ("provisioning_status", str(Provisioning.PENDING_UPDATE)): load_balancers.c.unsettled == 1,
    ("provisioning_status", str(Provisioning.PENDING_DELETE)): load_balancers.c.deleting,
}
"""What is true of every load balancer with that status and a column says, most of them with an index."""


def implied(table: Table, filters: Iterable[tuple[str, str]]) -> list[ColumnElement[bool]]:
    """What follows from these filters: with it a database derives the status of few rows in place of all."""
    return [IMPLIED[one] for one in filters if one in IMPLIED] if table is load_balancers else []


@cache
def operating_status(table: Table) -> ColumnElement[str]:
    lb, row = load_balancers.c, table.c
    offline = literal(str(Operating.OFFLINE))
    if table in ALWAYS_FRESH:
        up = and_(row.admin_state_up, done_version(table) >= row.created_version)
        return case((up, literal(str(Operating.ONLINE))), else_=offline)
    whens = [(~row.admin_state_up, offline)]
    if table is members:
        whens = [(and_(~row.admin_state_up, done_version(table) >= row.created_version), offline)]
    unvouched = and_(
        IS_OURS,
        row.reported_status.not_in([str(Operating.OFFLINE), str(Operating.NO_MONITOR)]),
        ~exists(select(managers.c.id).where(managers.c.id == lb.manager_id, managers.c.alive_until_ms > now_ms())),
    )
    whens.append((unvouched, literal(str(STALE.get(table.name, Operating.OFFLINE)))))
    return case(*whens, else_=row.reported_status)


@cache
def updated_at(table: Table) -> ColumnElement[object]:
    """Null until the object first leaves PENDING_CREATE, a time from then on."""
    row = table.c
    return case((done_version(table) >= row.created_version, func.coalesce(row.updated_at, row.created_at)), else_=None)
