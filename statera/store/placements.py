# SPDX-License-Identifier: Apache-2.0
"""Read which amphorae the fleet has to care for: where they are placed and what they are to run."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Select, String, and_, cast, or_, select

from statera.store.tables import amphorae, load_balancers, nodes


class Placement(Struct, frozen=True, kw_only=True):
    """An amphora on a node. *version* is what it is to run; *runnable* once there is something to run.

    A `leaving` amphora is to be removed from its node, and is `gone` when the node said so.
    """

    amphora_id: str
    load_balancer_id: str
    node_id: str
    version: int
    applied_version: int
    runnable: bool
    leaving: bool
    gone: bool


def unsettled(connection: Connection, manager_id: str) -> list[Placement]:
    """Those that do not run yet what they are to run, or leave, on the nodes that the manager holds."""
    behind = or_(amphorae.c.applied_version < load_balancers.c.version, and_(amphorae.c.leaving, ~amphorae.c.gone))
    return list(_placements(connection, _every().where(
        load_balancers.c.unsettled == 1, nodes.c.manager_id == manager_id, behind
    )))


def held(connection: Connection, manager_id: str) -> list[Placement]:
    """All those on the nodes that the manager holds."""
    return list(_placements(connection, _every().where(nodes.c.manager_id == manager_id)))


def on_node(connection: Connection, node_id: str) -> list[Placement]:
    """All those on one node."""
    return list(_placements(connection, _every().where(nodes.c.id == node_id)))


def held_nodes(connection: Connection, manager_id: str) -> set[str]:
    """The nodes whose newest connection is the manager's."""
    return set(connection.execute(select(nodes.c.id).where(nodes.c.manager_id == manager_id)).scalars())


def _every() -> Select[Any]:
    lb = load_balancers.c
    return (
        select(
            amphorae.c.id, amphorae.c.load_balancer_id, amphorae.c.node_id, amphorae.c.applied_version,
            amphorae.c.leaving, amphorae.c.gone, lb.version, lb.deleting,
            cast(amphorae.c.ports, String).not_in(("[]", "null")).label("plugged"),
        )
        .join(load_balancers, lb.id == amphorae.c.load_balancer_id)
        .join(nodes, nodes.c.id == amphorae.c.node_id)
        .where(amphorae.c.deleted_at.is_(None))
    )


def _placements(connection: Connection, statement: Select[Any]) -> Iterator[Placement]:
    for row in connection.execute(statement):
        yield Placement(
            amphora_id=row.id, load_balancer_id=row.load_balancer_id, node_id=row.node_id, version=row.version,
            applied_version=row.applied_version, runnable=bool(row.plugged) and not row.deleting,
            leaving=row.leaving, gone=row.gone,
        )
