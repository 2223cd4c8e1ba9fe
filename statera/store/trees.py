# SPDX-License-Identifier: Apache-2.0
"""Read one load balancer with all that hangs on it, in a fixed number of statements."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct, convert, structs
from sqlalchemy import Connection, RowMapping, bindparam, select

from statera.model.tree import HealthMonitor, L7Policy, L7Rule, Listener, LoadBalancer, Member, Pool
from statera.store import tables

Record = TypeVar("Record", bound=Struct)


ROOTS = select(tables.load_balancers).where(
    tables.load_balancers.c.id.in_(bindparam("ids", expanding=True)), tables.load_balancers.c.deleted_at.is_(None)
)
BELOW = {
    table.name: select(table).where(table.c.load_balancer_id.in_(bindparam("ids", expanding=True)))
    .order_by(table.c.created_at, table.c.id)
    for table in tables.TREE
}
"""Built once: every pass and every spec reads them."""

Rows = Mapping[str, Sequence[RowMapping]]
"""What hangs on a load balancer, by table."""


def load_tree(
    connection: Connection, load_balancer_id: str, *, known: LoadBalancer | None = None
) -> LoadBalancer | None:
    """The load balancer as it is wanted now, None if there is no such row (or it is deleted already).

    Objects that are being deleted are in it, marked `deleting`. Children come in the order of their
    creation, policies by position. Seven statements, whatever the size; one if *known*, an earlier look,
    was taken after the last wish was made and the last one done, for then the same still hangs on it.
    """
    this = {"ids": [load_balancer_id]}
    row = connection.execute(ROOTS, this).mappings().one_or_none()
    if row is None:
        return None
    if known and (known.wanted_version, known.done_version) == (row["wanted_version"], row["done_version"]):
        return _record(LoadBalancer, row, listeners=known.listeners, pools=known.pools)
    return _tree(row, {name: connection.execute(children, this).mappings().all() for name, children in BELOW.items()})


def load_trees(connection: Connection, load_balancer_ids: Collection[str]) -> list[LoadBalancer]:
    """The same of several at once, those that are no more left out. Seven statements, however many they are."""
    these = {"ids": list(load_balancer_ids)}
    roots = connection.execute(ROOTS, these).mappings().all()
    below: defaultdict[str, dict[str, list[RowMapping]]] = defaultdict(lambda: {name: [] for name in BELOW})
    for name, children in BELOW.items():
        for child in connection.execute(children, these).mappings():
            below[child["load_balancer_id"]][name].append(child)
    return [_tree(row, below[row["id"]]) for row in roots]


def _tree(row: RowMapping, below: Rows) -> LoadBalancer:
    rules = _grouped(below["l7rules"], "l7policy_id", L7Rule)
    policies = _grouped(below["l7policies"], "listener_id", L7Policy, rules=rules)
    members = _grouped(below["members"], "pool_id", Member)
    monitors = _grouped(below["health_monitors"], "pool_id", HealthMonitor)
    return _record(
        LoadBalancer,
        row,
        listeners=[
            _record(Listener, child, l7policies=sorted(policies[child["id"]], key=lambda policy: policy.position))
            for child in below["listeners"]
        ],
        pools=[
            _record(
                Pool, child, members=members[child["id"]],
                healthmonitor=next((monitor for monitor in monitors[child["id"]] if not monitor.deleting), None),
            )
            for child in below["pools"]
        ],
    )


def _grouped(
    rows: Sequence[RowMapping], owner: str, record: type[Record], **nested: Mapping[str, list[Any]]
) -> defaultdict[str, list[Record]]:
    """Records by the id of what they belong to; *nested* brings each its own children."""
    grouped: defaultdict[str, list[Record]] = defaultdict(list)
    for row in rows:
        inner = {name: children.get(row["id"], []) for name, children in nested.items()}
        grouped[row[owner]].append(_record(record, row, **inner))
    return grouped


def _record(record: type[Record], row: RowMapping, **nested: Any) -> Record:
    columns = {field.name: row[field.name] for field in structs.fields(record) if field.name in row}
    return convert({**columns, **nested}, record, from_attributes=True)
