# SPDX-License-Identifier: Apache-2.0
"""Which machines belong to the fleet: tokens to join it, enrolment, and what operators do with nodes."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

from msgspec import Struct
from sqlalchemy import Connection, Select, delete, func, insert, select, update

from statera.errors import StateraError
from statera.store.clock import now_ms
from statera.store.events import utc_now
from statera.store.seen import is_heard, is_lost
from statera.store.tables import amphorae, load_balancers, node_tokens, nodes
from statera.store.wake import announce

AT_ONCE = 500
"""Load balancers of one statement."""


class Refused(StateraError):
    """The node may not join; the message says why."""


class NodeRow(Struct, frozen=True, kw_only=True):
    """A node as operators see it; *heard* while a health manager holds a connection from it."""

    id: str
    name: str
    heard: bool
    drained: bool
    amphorae: int
    zone: str | None = None
    agent_version: str | None = None
    hostname: str | None = None
    connected_at: datetime | None = None
    certificate_expires_at: datetime | None = None
    overlay_ip: str | None = None
    lost: bool = False


def make_token(connection: Connection, name: str | None, seconds: int) -> str:
    """A token that lets one node join within *seconds*; only its hash is kept.

    With *name* it is for the node of that name alone, which may then also be one that joins again.
    """
    token = secrets.token_hex(32)  # never begins with a dash: it is typed after --token
    connection.execute(delete(node_tokens).where(node_tokens.c.expires_ms < now_ms()))
    connection.execute(
        insert(node_tokens).values(
            token_hash=token_hash(token), node_name=name, expires_ms=now_ms() + seconds * 1000
        )
    )
    return token


def token_hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def enrol(connection: Connection, hashed_token: str, name: str) -> str:
    """Use up the token and return the id of the node *name*, enrolled now or (if the token names it) before.

    Raise `Refused` for a token that is unknown, used, expired or for another node, and for a name that is
    taken when the token does not say that name.
    """
    token = node_tokens.c
    valid = (token.token_hash == hashed_token, token.expires_ms >= now_ms())
    row = connection.execute(select(token.node_name).where(*valid).with_for_update()).one_or_none()
    if row is None or not connection.execute(delete(node_tokens).where(*valid)).rowcount:
        raise Refused("the token is unknown, used up or expired; `statera node token` makes another")
    if row.node_name not in (None, name):
        raise Refused(f"the token is for node {row.node_name}, not for {name}: say --name {row.node_name}")
    if row.node_name is None and find(connection, name) is not None:
        raise Refused(f"there is a node {name} already; a token made for that name lets it join again")
    return ensure(connection, name)


def ensure(connection: Connection, name: str) -> str:
    """The id of the node *name*, which is enrolled if it was not."""
    known = find(connection, name)
    if known is not None:
        return known
    node_id = str(uuid4())
    connection.execute(insert(nodes).values(id=node_id, name=name, created_at=utc_now()))
    return node_id


def find(connection: Connection, name: str) -> str | None:
    return connection.execute(select(nodes.c.id).where(nodes.c.name == name)).scalar_one_or_none()


def is_enrolled(connection: Connection, node_id: str) -> bool:
    return connection.execute(select(nodes.c.id).where(nodes.c.id == node_id)).scalar_one_or_none() is not None


def certified(
    connection: Connection, node_id: str, expires_at: datetime, *, issuer: str, trusts: Sequence[str]
) -> None:
    """Note until when the node's newest certificate is good, who signed it and whom the node trusts.

    *expires_at* is UTC without a zone.
    """
    connection.execute(update(nodes).where(nodes.c.id == node_id).values(
        certificate_expires_at=expires_at, issuer=issuer, trusts=list(trusts)))


def list_nodes(connection: Connection) -> list[NodeRow]:
    """Every node by name. One statement."""
    placed = (
        select(func.count()).select_from(amphorae)
        .where(amphorae.c.node_id == nodes.c.id, amphorae.c.deleted_at.is_(None))
        .correlate(nodes).scalar_subquery()
    )
    statement = select(nodes, is_heard().label("heard"), placed.label("amphorae")).order_by(nodes.c.name)
    return [
        NodeRow(
            id=row.id, name=row.name, heard=bool(row.heard), drained=row.drained, amphorae=row.amphorae,
            zone=row.zone, agent_version=row.agent_version, hostname=row.hostname,
            connected_at=row.connected_at, certificate_expires_at=row.certificate_expires_at,
            overlay_ip=row.overlay_ip, lost=row.lost_ms is not None,
        )
        for row in connection.execute(statement)
    ]


def overlay_addresses(connection: Connection) -> dict[str, str]:
    """Where each node takes frames of the others' networks, by id: of all that said so once, lost ones too,
    which may carry traffic still."""
    rows = connection.execute(select(nodes.c.id, nodes.c.overlay_ip).where(nodes.c.overlay_ip.is_not(None)))
    return {row.id: row.overlay_ip for row in rows}


def drain(connection: Connection, name: str) -> int:
    """Let the node carry nothing new and move away what it carries; returns how many amphorae must move.

    Raise `Refused` when there is no such node.
    """
    return _set_drained(connection, name, drained=True)


def undrain(connection: Connection, name: str) -> int:
    """Let the node carry amphorae again; returns how many are on it. Raise `Refused` when there is none."""
    return _set_drained(connection, name, drained=False)


def _set_drained(connection: Connection, name: str, *, drained: bool) -> int:
    node_id = _known(connection, name)
    connection.execute(update(nodes).where(nodes.c.id == node_id).values(drained=drained))
    due(connection, node_id)
    due_without_node(connection)
    due_crowded(connection)
    return _carried(connection, node_id)


def remove(connection: Connection, name: str) -> str:
    """Forget the node: its certificate is worth nothing from now on. Returns its id.

    Raise `Refused` while it carries amphorae or when there is no such node. What a lost node may still run,
    though others have taken its place, is forgotten with it.
    """
    node_id = _known(connection, name)
    is_gone = connection.execute(select(is_lost()).select_from(nodes).where(nodes.c.id == node_id)).scalar_one()
    carried = _carried(connection, node_id, but_leaving=bool(is_gone))
    if carried:
        raise Refused(f"{name} still carries {carried} amphorae; drain it first")
    due(connection, node_id)
    connection.execute(delete(nodes).where(nodes.c.id == node_id))
    announce(connection)  # the others send it no frames any more
    return node_id


def due(connection: Connection, node_id: str) -> None:
    """Have a controller look at every load balancer with an amphora on the node."""
    here = select(amphorae.c.load_balancer_id).where(
        amphorae.c.node_id == node_id, amphorae.c.deleted_at.is_(None)
    )
    due_these(connection, here)


def due_without_node(connection: Connection) -> None:
    """Have a controller look at every load balancer with an amphora that waits for a node."""
    waiting = (
        select(amphorae.c.load_balancer_id).join(load_balancers, load_balancers.c.id == amphorae.c.load_balancer_id)
        .where(load_balancers.c.unsettled == 1, amphorae.c.node_id.is_(None), amphorae.c.deleted_at.is_(None))
    )
    due_these(connection, waiting)


def due_crowded(connection: Connection) -> None:
    """Have a controller look at every load balancer with two amphorae on one node: one could move now."""
    staying = select(amphorae.c.load_balancer_id, amphorae.c.node_id).where(
        ~amphorae.c.leaving, amphorae.c.deleted_at.is_(None), amphorae.c.node_id.is_not(None))
    crowded = staying.group_by(amphorae.c.load_balancer_id, amphorae.c.node_id).having(func.count() > 1).subquery()
    due_these(connection, select(crowded.c.load_balancer_id))


def due_these(connection: Connection, which: Select[str]) -> None:
    """Have a controller look at load balancers, chosen by a look of its own (see `in_order`)."""
    if change(connection, in_order(connection, which), due_ms=now_ms()):
        announce(connection)


def in_order(connection: Connection, which: Select[str]) -> list[str]:
    """The ids that *which* finds, as everybody takes them who changes several load balancers at once: in this order.

    As a subquery of an update MariaDB would try it on every load balancer that there is.
    """
    return sorted(set(connection.execute(which).scalars()) - {None})


def change(connection: Connection, load_balancer_ids: Sequence[str], **values: Any) -> int:
    """Give the columns of these load balancers these values; returns how many there are."""
    for start in range(0, len(load_balancer_ids), AT_ONCE):
        these = load_balancers.c.id.in_(load_balancer_ids[start:start + AT_ONCE])
        connection.execute(update(load_balancers).where(these).values(**values))
    return len(load_balancer_ids)


def _known(connection: Connection, name: str) -> str:
    node_id = find(connection, name)
    if node_id is None:
        raise Refused(f"there is no node {name}")
    return node_id


def _carried(connection: Connection, node_id: str, *, but_leaving: bool = False) -> int:
    counted = [~amphorae.c.leaving] if but_leaving else []
    return connection.execute(
        select(func.count()).select_from(amphorae)
        .where(amphorae.c.node_id == node_id, amphorae.c.deleted_at.is_(None), *counted)
    ).scalar_one()
