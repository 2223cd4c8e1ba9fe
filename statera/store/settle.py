# SPDX-License-Identifier: Apache-2.0
"""The one place that says "done": whoever brings the last missing fact calls it, in any order, as often as it likes."""

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)

from statera.model.status import Operating
from statera.store.clock import now_ms
from statera.store.seen import is_heard
from statera.store.tables import TREE, amphorae, health_monitors, load_balancers, members, nodes, tags
from statera.store.wake import announce


def settle(connection: Connection, load_balancer_id: str) -> int | None:
    """Raise `done_version` to what every reachable amphora runs, and drop what was deleted up to there.

    As long as a controller pass has to see the newest change of infrastructure, it only asks for that pass,
    which may wait for the fact that brought us here. An amphora on a node that nobody hears is not waited
    for while another one serves. Returns the new `done_version`,
    None when nothing changed. Must run in a write transaction.
    """
    lb = load_balancers.c
    row = connection.execute(
        select(lb.version, lb.done_version, lb.infra_version, lb.settled_version, lb.deleting)
        .where(lb.id == load_balancer_id)
        .with_for_update()
    ).one_or_none()
    if row is None or row.deleting:
        return None
    if row.settled_version < row.infra_version:
        ask_for_pass(connection, load_balancer_id)
        return None
    done: int = min(row.version, _running(connection, load_balancer_id))
    if done <= row.done_version:
        return None
    connection.execute(
        update(load_balancers)
        .where(lb.id == load_balancer_id, lb.done_version < done)
        .values(done_version=done, failed_version=None, failure=None, attempts=0)
    )
    drop_deleted(connection, load_balancer_id, done)
    return done


def ask_for_pass(connection: Connection, *load_balancer_ids: str) -> None:
    """Let a worker look at these load balancers now, whatever it waits for."""
    lb = load_balancers.c
    connection.execute(
        update(load_balancers)
        .where(lb.id.in_(load_balancer_ids), lb.deleted_at.is_(None), or_(lb.due_ms.is_(None), lb.due_ms > now_ms()))
        .values(due_ms=now_ms())
    )
    announce(connection)


def _going(table: Table) -> ColumnElement[bool]:
    """The rows of a table whose deletion is done; expects the parameters `owner` and `done`."""
    return and_(
        table.c.load_balancer_id == bindparam("owner"), table.c.deleting, table.c.wanted_version <= bindparam("done"))


GOING = union_all(*(select(literal(table.name), table.c.id).where(_going(table)) for table in TREE))
DROPS = {table.name: delete(table).where(_going(table)) for table in TREE}
IDS_AT_ONCE = 500


WATCHED = select(health_monitors.c.pool_id).where(~health_monitors.c.deleting)
UNWATCHED = update(members).values(reported_status=str(Operating.NO_MONITOR)).where(
    members.c.load_balancer_id == bindparam("owner"),
    members.c.pool_id.in_(select(health_monitors.c.pool_id).where(_going(health_monitors))),
    members.c.pool_id.not_in(WATCHED))
"""What nobody looks at any more is neither up nor down. Of one load balancer: MariaDB tries subqueries row by row."""


def drop_deleted(connection: Connection, load_balancer_id: str, done: int) -> None:
    """Remove the rows whose deletion was wished at version *done* or before; their children go with them."""
    these = {"owner": load_balancer_id, "done": done}
    going = connection.execute(GOING, these).all()
    remove_tags(connection, [id for _, id in going])
    names = {name for name, _ in going}
    if health_monitors.name in names:
        connection.execute(UNWATCHED, these)
    for name in (table.name for table in TREE if table.name in names):
        connection.execute(DROPS[name], these)


def remove_tags(connection: Connection, ids: Sequence[str]) -> None:
    """These objects are no more, so nor are their tags. By ids: as a subquery MariaDB would go through all tags."""
    for start in range(0, len(ids), IDS_AT_ONCE):
        connection.execute(delete(tags).where(tags.c.resource_id.in_(ids[start:start + IDS_AT_ONCE])))


def _running(connection: Connection, load_balancer_id: str) -> int:
    """The oldest version among the amphorae that count; 0 when none does."""
    heard = exists(select(nodes.c.id).where(nodes.c.id == amphorae.c.node_id, is_heard()))
    oldest = connection.execute(
        select(func.min(amphorae.c.applied_version)).where(
            amphorae.c.load_balancer_id == load_balancer_id, ~amphorae.c.leaving,
            amphorae.c.deleted_at.is_(None), or_(heard, amphorae.c.node_id.is_(None)),
        )
    ).scalar_one()
    return int(oldest or 0)
