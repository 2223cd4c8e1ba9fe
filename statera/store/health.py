# SPDX-License-Identifier: Apache-2.0
"""The fleet's reports on a load balancer: statuses and traffic totals, written only when they change."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection, Row, Table, case, func, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from statera.model.fleet import Role
from statera.model.health import Subject, Words, derive
from statera.store import limits
from statera.store.seen import is_heard
from statera.store.tables import amphorae, listener_statistics, listeners, load_balancers, members, nodes, pools
from statera.wire import Counters

AnyRow: TypeAlias = Row[*tuple[Any, ...]]

MASTER = "MASTER"
REPORTED = (listeners, pools, members)
TOTALS = ("bytes_in", "bytes_out", "total_connections", "request_errors")
KEY = ("listener_id", "amphora_id")


def report(connection: Connection, manager_id: str, node_id: str, amphora_id: str, words: Words) -> int:
    """Bring the statuses of the amphora's load balancer up to what it says; returns how many rows changed.

    Of a pair the VRRP master counts, and the other only while no master is heard. An amphora that is not
    on the node is ignored. Repeating writes nothing.
    """
    amphora = _amphora(connection, node_id, amphora_id)
    if amphora is None:
        return 0
    changes = _vrrp_change(amphora, words)
    if _counts(connection, amphora, words):
        changes += _status_changes(connection, manager_id, amphora, words)
    news = limits.news(amphora, words)
    if changes or news:  # the load balancer's row first, as the api and the controller do
        lb = load_balancers.c
        connection.execute(select(lb.id).where(lb.id == amphora.load_balancer_id).with_for_update())
    for change in changes:
        connection.execute(
            update(change.table).where(change.table.c.id.in_(change.ids)).values(**change.values)
        )
    if news:
        limits.note(connection, amphora, news)
    return sum(len(change.ids) for change in changes) + bool(news)


class Change(Struct, frozen=True):
    """Rows that have to be other than they are."""

    table: Table
    ids: list[str]
    values: dict[str, str]


def _amphora(connection: Connection, node_id: str, amphora_id: str) -> AnyRow | None:
    lb = load_balancers.c
    return connection.execute(
        select(amphorae.c.id, amphorae.c.role, amphorae.c.vrrp_state, amphorae.c.load_balancer_id,
               amphorae.c.alarms, amphorae.c.effective, lb.reported_status, lb.manager_id, lb.admin_state_up)
        .join(load_balancers, lb.id == amphorae.c.load_balancer_id)
        .where(amphorae.c.id == amphora_id, amphorae.c.node_id == node_id, ~amphorae.c.leaving,
               amphorae.c.deleted_at.is_(None), lb.deleted_at.is_(None))
    ).one_or_none()


def _vrrp_change(amphora: AnyRow, words: Words) -> list[Change]:
    if words.vrrp is None or words.vrrp == amphora.vrrp_state:
        return []
    return [Change(amphorae, [amphora.id], {"vrrp_state": words.vrrp})]


def _counts(connection: Connection, amphora: AnyRow, words: Words) -> bool:
    if amphora.role == Role.STANDALONE or words.vrrp == MASTER:
        return True
    master = (
        select(amphorae.c.id)
        .join(nodes, nodes.c.id == amphorae.c.node_id)
        .where(amphorae.c.load_balancer_id == amphora.load_balancer_id, amphorae.c.id != amphora.id,
               amphorae.c.deleted_at.is_(None), amphorae.c.vrrp_state == MASTER, is_heard())
    )
    return connection.execute(master).first() is None


def _status_changes(connection: Connection, manager_id: str, amphora: AnyRow, words: Words) -> list[Change]:
    subjects = {table.name: _subjects(connection, table, amphora.load_balancer_id) for table in REPORTED}
    health = derive(words, enabled=amphora.admin_state_up, **subjects)
    changes = []
    if (amphora.reported_status, amphora.manager_id) != (health.load_balancer, manager_id):
        vouched = {"reported_status": health.load_balancer, "manager_id": manager_id}
        changes.append(Change(load_balancers, [amphora.load_balancer_id], vouched))
    for table in REPORTED:
        by_status = defaultdict(list)
        for subject in subjects[table.name]:
            if (status := getattr(health, table.name)[subject.id]) != subject.status:
                by_status[status].append(subject.id)
        changes += [Change(table, ids, {"reported_status": status}) for status, ids in by_status.items()]
    return changes


def _subjects(connection: Connection, table: Table, load_balancer_id: str) -> list[Subject]:
    own = (members.c.pool_id, func.coalesce(members.c.weight, 1).label("weight")) if table is members else ()
    rows = connection.execute(
        select(
            table.c.id, table.c.admin_state_up.label("enabled"), table.c.wanted_version,
            table.c.reported_status.label("status"), *own,
        )
        .where(table.c.load_balancer_id == load_balancer_id, ~table.c.deleting)
    )
    return [Subject(**row) for row in rows.mappings()]


def save_statistics(connection: Connection, totals: Mapping[tuple[str, str], Counters]) -> None:
    """Keep the newest totals by (amphora, listener); stored totals never fall.

    Listeners that do not belong to the amphora's load balancer are ignored.
    """
    owner = connection.execute(
        select(amphorae.c.id, listeners.c.id.label("listener_id"), listeners.c.load_balancer_id)
        .join(listeners, listeners.c.load_balancer_id == amphorae.c.load_balancer_id)
        .where(amphorae.c.id.in_({amphora_id for amphora_id, _ in totals}))
    )
    known = {(row.id, row.listener_id): row.load_balancer_id for row in owner}
    rows = [
        {"listener_id": listener_id, "amphora_id": amphora_id, "load_balancer_id": known[amphora_id, listener_id],
         **{name: getattr(counters, name) for name in (*TOTALS, "active_connections")}}
        for (amphora_id, listener_id), counters in sorted(totals.items())
        if (amphora_id, listener_id) in known
    ]
    if rows:
        connection.execute(UPSERT[connection.dialect.name](), rows)


def _on_conflict(dialect: Any) -> Any:
    statement = dialect.insert(listener_statistics)
    return statement.on_conflict_do_update(index_elements=list(KEY), set_=_newest(statement.excluded))


def _on_duplicate_key() -> Any:
    statement = mysql.insert(listener_statistics)
    return statement.on_duplicate_key_update(**_newest(statement.inserted))


def _newest(new: Any) -> dict[str, Any]:
    old = listener_statistics.c
    totals = {name: case((new[name] > old[name], new[name]), else_=old[name]) for name in TOTALS}
    return {**totals, "active_connections": new.active_connections}


UPSERT: Mapping[str, Any] = {
    "sqlite": lambda: _on_conflict(sqlite),
    "postgresql": lambda: _on_conflict(postgresql),
    "mysql": _on_duplicate_key,
    "mariadb": _on_duplicate_key,
}
