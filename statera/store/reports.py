# SPDX-License-Identifier: Apache-2.0
"""The fleet's facts: who is alive, what runs where, how it fares. Rows are written only when they change.

Every function runs in a write transaction and may be repeated. One that concerns a load balancer locks
its row first, as the controller does.
"""

from collections.abc import Collection
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update

from statera.store import nodes as fleet
from statera.store.clock import now_ms
from statera.store.events import Event, record, utc_now
from statera.store.seen import is_heard
from statera.store.settle import settle
from statera.store.tables import amphorae, load_balancers, managers, nodes
from statera.store.wake import announce
from statera.wire import Applied, Hello

AnyRow: TypeAlias = Row[*tuple[Any, ...]]

KEPT_MS = 24 * 3600 * 1000
"""How long the row of a health manager that ended is kept."""


def alive(connection: Connection, manager_id: str, host: str, seconds: float) -> None:
    """Vouch for everything that the manager reports for the next *seconds*."""
    until = now_ms() + int(seconds * 1000)
    changed = connection.execute(
        update(managers).where(managers.c.id == manager_id).values(alive_until_ms=until)
    )
    if not changed.rowcount:
        connection.execute(delete(managers).where(managers.c.alive_until_ms < now_ms() - KEPT_MS))
        connection.execute(insert(managers).values(id=manager_id, host=host, alive_until_ms=until))


def connected(connection: Connection, manager_id: str, node_id: str, hello: Hello) -> bool:
    """Note that the manager holds the newest connection from the node; False if there is no such node.

    Load balancers that waited for a node, or for this one, are due.
    """
    before = connection.execute(
        select(nodes.c.lost_ms, nodes.c.overlay_ip, is_heard().label("heard"))
        .where(nodes.c.id == node_id).with_for_update()
    ).one_or_none()
    if before is None:
        return False
    connection.execute(
        update(nodes).where(nodes.c.id == node_id).values(
            manager_id=manager_id, connected_at=utc_now(), lost_ms=None, agent_version=hello.agent_version,
            hostname=hello.hostname, features=list(hello.features), trusts=list(hello.trusts),
            strays=None,
            overlay_ip=hello.overlay_ip,
        )
    )
    if before.overlay_ip != hello.overlay_ip:
        announce(connection)
    fleet.change(connection, fleet.in_order(connection, _carried_by([node_id]).where(
        func.coalesce(load_balancers.c.manager_id, "") != manager_id)), manager_id=manager_id)
    if before.lost_ms is not None:
        fleet.due(connection, node_id)
    if not before.heard:
        fleet.due_without_node(connection)
        fleet.due_crowded(connection)
    return True


def disconnected(connection: Connection, manager_id: str, node_ids: Collection[str]) -> None:
    """Note that the manager holds no connection from these nodes any more; one held elsewhere is left alone.

    A load balancer that the manager vouched for is vouched for by whoever hears another of its amphorae.
    """
    connection.execute(
        update(nodes).where(nodes.c.id.in_(node_ids), nodes.c.manager_id == manager_id).values(manager_id=None)
    )
    other = (
        select(func.min(nodes.c.manager_id))
        .join(amphorae, amphorae.c.node_id == nodes.c.id)
        .where(amphorae.c.load_balancer_id == load_balancers.c.id, amphorae.c.deleted_at.is_(None), is_heard())
        .correlate(load_balancers).scalar_subquery()
    )
    fleet.change(connection, fleet.in_order(connection, _carried_by(node_ids).where(
        load_balancers.c.manager_id == manager_id)), manager_id=other)


def vouch(connection: Connection, manager_id: str) -> int:
    """Stand for what the manager's nodes carry and nobody alive stands for; returns how many load balancers that was.

    Needed when the managers' signs of life were over for a moment while all connections lasted, as after a jump
    of the database's clock. A node that was sentenced meanwhile is not lost.
    """
    lb = load_balancers.c
    held = list(connection.execute(select(nodes.c.id).where(nodes.c.manager_id == manager_id)).scalars())
    alive = select(managers.c.id).where(managers.c.alive_until_ms >= now_ms())
    alone = fleet.in_order(connection, _carried_by(held).where(
        or_(lb.manager_id.is_(None), lb.manager_id.not_in(alive))))
    fleet.change(connection, alone, manager_id=manager_id)
    returned = connection.execute(
        select(nodes.c.id).where(nodes.c.manager_id == manager_id, nodes.c.lost_ms.is_not(None))).scalars().all()
    if returned:
        connection.execute(update(nodes).where(nodes.c.id.in_(returned)).values(lost_ms=None))
        for node_id in returned:
            fleet.due(connection, node_id)
    return len(alone)


def unheard(connection: Connection) -> list[tuple[str, str]]:
    """Id and name of each node that was connected once, is not heard by anybody and is not lost yet."""
    rows = connection.execute(
        select(nodes.c.id, nodes.c.name)
        .where(nodes.c.connected_at.is_not(None), nodes.c.lost_ms.is_(None), ~is_heard())
    )
    return [(row.id, row.name) for row in rows]


def fleet_size(connection: Connection) -> int:
    """How many nodes were connected once and are not lost."""
    return connection.execute(
        select(func.count()).select_from(nodes)
        .where(nodes.c.connected_at.is_not(None), nodes.c.lost_ms.is_(None))
    ).scalar_one()


def lost(connection: Connection, node_id: str, silent_seconds: float) -> int:
    """Sentence the node, unless somebody heard it meanwhile; returns how many load balancers that concerns."""
    sentenced = connection.execute(
        update(nodes).where(nodes.c.id == node_id, nodes.c.lost_ms.is_(None), ~is_heard()).values(lost_ms=now_ms())
    )
    if not sentenced.rowcount:
        return 0
    return _tell_lost(connection, node_id, f"has not been heard for {silent_seconds:.0f} s")


def give_up(connection: Connection, name: str) -> int:
    """An operator says that the node is dead; returns how many load balancers that concerns.

    Raise `Refused` for a node that is connected or does not exist; one that is lost already is success.
    """
    node_id = fleet.find(connection, name)
    if node_id is None:
        raise fleet.Refused(f"there is no node {name}")
    sentenced = connection.execute(update(nodes).where(nodes.c.id == node_id, ~is_heard()).values(
        lost_ms=func.coalesce(nodes.c.lost_ms, now_ms())))
    if not sentenced.rowcount:
        raise fleet.Refused(f"{name} is connected, so it is not dead; `statera node drain {name}` empties it")
    return _tell_lost(connection, node_id, "is dead, an operator says")


def _tell_lost(connection: Connection, node_id: str, why: str) -> int:
    name = connection.execute(select(nodes.c.name).where(nodes.c.id == node_id)).scalar_one()
    concerned = connection.execute(_carried_by([node_id]).distinct()).scalars().all()
    record(connection, *(Event(
        load_balancer_id=load_balancer_id, reason="node_lost", fault="operator", object_type="node", object_id=node_id,
        message=f"node {name} {why}; its amphorae count as lost") for load_balancer_id in concerned))
    fleet.due(connection, node_id)
    return len(concerned)


def doubted(connection: Connection, manager_id: str, doubt: str) -> None:
    """Record that the fleet falls silent in a way that looks like our own fault."""
    record(connection, Event(
        load_balancer_id="", reason="fleet_silent", fault="operator", object_type="fleet", object_id=manager_id,
        message=doubt,
    ))


def doubt_over(connection: Connection, manager_id: str, how: str) -> None:
    """Record that silent nodes are judged again."""
    record(connection, Event(
        load_balancer_id="", reason="fleet_judged", fault="operator", object_type="fleet", object_id=manager_id,
        message=f"silent nodes are judged again: {how}"))


def applied(connection: Connection, node_id: str, fact: Applied) -> None:
    """Note what an amphora on the node runs, or why it could not. Others' amphorae are ignored."""
    lb = _locked(connection, node_id, fact.amphora_id)
    if lb is None or fact.version > lb.version:
        return
    if fact.failure is not None:
        _failed(connection, lb, fact)
        return
    changed = connection.execute(
        update(amphorae)
        .where(amphorae.c.id == fact.amphora_id, amphorae.c.applied_version < fact.version)
        .values(applied_version=fact.version, haproxy_version=fact.haproxy_version)
    )
    if changed.rowcount:
        settle(connection, lb.id)  # and asks the controller, if that may be waiting for just this


def unreadable(connection: Connection, node_id: str, amphora_id: str, failure: str) -> None:
    """Note that the node's agent cannot read the amphora's newest spec."""
    lb = _locked(connection, node_id, amphora_id)
    if lb is not None:
        _failed(connection, lb, Applied(amphora_id=amphora_id, version=lb.version, failure=failure))


def gone(connection: Connection, node_id: str, amphora_id: str) -> None:
    """Note that nothing is left of an amphora that was to leave the node; the controller tidies up."""
    lb = _locked(connection, node_id, amphora_id)
    if lb is None:
        return
    changed = connection.execute(
        update(amphorae)
        .where(amphorae.c.id == amphora_id, amphorae.c.leaving, ~amphorae.c.gone)
        .values(gone=True)
    )
    if changed.rowcount:
        _due(connection, lb.id)


def _failed(connection: Connection, lb: AnyRow, fact: Applied) -> None:
    """A failure counts while it concerns the newest version, and is said once.

    What ran before and was lost is only told: it is no wish that failed.
    """
    if fact.version != lb.version or (lb.failed_version, lb.failure) == (fact.version, fact.failure):
        return
    if lb.done_version < fact.version:
        connection.execute(
            update(load_balancers).where(load_balancers.c.id == lb.id)
            .values(failed_version=fact.version, failure=fact.failure)
        )
    record(connection, Event(
        load_balancer_id=lb.id, reason="not_applied", message=str(fact.failure), fault="operator",
        object_type="amphora", object_id=fact.amphora_id,
    ))


def _carried_by(node_ids: Collection[str]) -> Select[str]:
    """The load balancers with an amphora that stays on one of the nodes."""
    return (
        select(amphorae.c.load_balancer_id).join(load_balancers, load_balancers.c.id == amphorae.c.load_balancer_id)
        .where(amphorae.c.node_id.in_(node_ids), ~amphorae.c.leaving, amphorae.c.deleted_at.is_(None))
    )


def _locked(connection: Connection, node_id: str, amphora_id: str) -> AnyRow | None:
    """The load balancer of an amphora that is on the node, its row locked."""
    lb = load_balancers.c
    owner = connection.execute(
        select(amphorae.c.load_balancer_id).where(
            amphorae.c.id == amphora_id, amphorae.c.node_id == node_id, amphorae.c.deleted_at.is_(None)
        )
    ).scalar_one_or_none()
    return connection.execute(
        select(lb.id, lb.version, lb.done_version, lb.failed_version, lb.failure)
        .where(lb.id == owner).with_for_update()
    ).one_or_none()


def _due(connection: Connection, load_balancer_id: str) -> None:
    connection.execute(
        update(load_balancers).where(load_balancers.c.id == load_balancer_id).values(due_ms=now_ms())
    )
    announce(connection)
