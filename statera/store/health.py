# SPDX-License-Identifier: Apache-2.0
"""The fleet's reports on a load balancer: statuses and traffic totals, written only when they change."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
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
LB = "load_balancer_id"


class Said(Struct, frozen=True, kw_only=True):
    """What an amphora said on its node's connection with the manager; a fact that can be written."""

    manager_id: str
    node_id: str
    amphora_id: str
    words: Words

    def __call__(self, connection: Connection) -> int:
        return report(connection, self)


def report(connection: Connection, said: Said) -> int:
    """Bring the statuses of the amphora's load balancer up to what it says; returns how many rows changed.

    Of a pair the VRRP master counts, and the other only while no master is heard. An amphora that is not
    on the node is ignored. Repeating writes nothing.
    """
    look = _look(connection, [said])
    amphora = look.amphorae.get((said.node_id, said.amphora_id))
    if amphora is None:
        return 0
    changes, news = _changes(look, amphora, said), limits.news(amphora, said.words)
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


def known(connection: Connection, several: Sequence[Said]) -> set[str]:
    """The amphorae that said nothing new, nor did others of their load balancers; five statements at most."""
    look = _look(connection, several)
    rows = [(said, look.amphorae.get((said.node_id, said.amphora_id))) for said in several]
    moving = {
        row.load_balancer_id for said, row in rows
        if row is not None and (_changes(look, row, said) or limits.news(row, said.words))}
    return {said.amphora_id for said, row in rows if row is None or row.load_balancer_id not in moving}


class Look(Struct, frozen=True):
    """What the store knows of amphorae by node and id, of their load balancers' objects, and who is heard as master."""

    amphorae: dict[tuple[str, str], AnyRow]
    subjects: dict[str, defaultdict[str, list[Subject]]]
    masters: defaultdict[str, set[str]]


def _look(connection: Connection, several: Sequence[Said]) -> Look:
    rows = _amphorae(connection, {said.amphora_id for said in several})
    owners = {row.load_balancer_id for row in rows}
    return Look(
        {(row.node_id, row.id): row for row in rows},
        {table.name: _subjects(connection, table, owners) for table in REPORTED},
        _masters(connection, {row.load_balancer_id for row in rows if row.role != Role.STANDALONE}))


class Change(Struct, frozen=True):
    """Rows that have to be other than they are."""

    table: Table
    ids: list[str]
    values: dict[str, str]


def _amphorae(connection: Connection, amphora_ids: Collection[str]) -> Sequence[AnyRow]:
    lb = load_balancers.c
    return connection.execute(
        select(amphorae.c.id, amphorae.c.node_id, amphorae.c.role, amphorae.c.vrrp_state, amphorae.c.load_balancer_id,
               amphorae.c.alarms, amphorae.c.effective, lb.reported_status, lb.manager_id, lb.admin_state_up)
        .join(load_balancers, lb.id == amphorae.c.load_balancer_id)
        .where(amphorae.c.id.in_(amphora_ids), ~amphorae.c.leaving, amphorae.c.deleted_at.is_(None),
               lb.deleted_at.is_(None))
    ).all()


def _changes(look: Look, amphora: AnyRow, said: Said) -> list[Change]:
    others = look.masters[amphora.load_balancer_id] - {amphora.id}
    counts = amphora.role == Role.STANDALONE or said.words.vrrp == MASTER or not others
    return [*_vrrp_change(amphora, said.words), *(_status_changes(look, amphora, said) if counts else ())]


def _vrrp_change(amphora: AnyRow, words: Words) -> list[Change]:
    if words.vrrp is None or words.vrrp == amphora.vrrp_state:
        return []
    return [Change(amphorae, [amphora.id], {"vrrp_state": words.vrrp})]


def _masters(connection: Connection, load_balancer_ids: Collection[str]) -> defaultdict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    masters = (
        select(amphorae.c.load_balancer_id, amphorae.c.id)
        .join(nodes, nodes.c.id == amphorae.c.node_id)
        .where(amphorae.c.load_balancer_id.in_(load_balancer_ids), amphorae.c.deleted_at.is_(None),
               amphorae.c.vrrp_state == MASTER, is_heard())
    )
    for row in connection.execute(masters) if load_balancer_ids else ():
        found[row.load_balancer_id].add(row.id)
    return found


def _status_changes(look: Look, amphora: AnyRow, said: Said) -> list[Change]:
    manager_id = said.manager_id
    subjects = {table.name: look.subjects[table.name][amphora.load_balancer_id] for table in REPORTED}
    health = derive(said.words, enabled=amphora.admin_state_up, **subjects)
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


def _subjects(
    connection: Connection, table: Table, load_balancer_ids: Collection[str]
) -> defaultdict[str, list[Subject]]:
    found: defaultdict[str, list[Subject]] = defaultdict(list)
    own = (members.c.pool_id, func.coalesce(members.c.weight, 1).label("weight")) if table is members else ()
    rows = connection.execute(
        select(
            table.c.load_balancer_id, table.c.id, table.c.admin_state_up.label("enabled"), table.c.wanted_version,
            table.c.reported_status.label("status"), *own,
        )
        .where(table.c.load_balancer_id.in_(load_balancer_ids), ~table.c.deleting)
    )
    for row in rows.mappings():
        found[row["load_balancer_id"]].append(Subject(**{name: row[name] for name in row if name != LB}))
    return found


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
