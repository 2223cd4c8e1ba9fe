# SPDX-License-Identifier: Apache-2.0
"""A backup takes the place of the database, while everything runs: what was wished then, with what is there now.

Wishes come from the backup. Nodes, ports, addresses and amphorae are the outside world: what the database knows
of them now is truer than the backup, and what only the backup knows is added. Every version is raised to the
time in milliseconds, which is beyond whatever any node may run, so the fleet follows the backup's wishes.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from msgspec import Struct
from sqlalchemy import Connection, Table, bindparam, delete, func, insert, null, select, tuple_, update

from statera.store.backup import LEFT_OUT, ROWS_AT_ONCE, columns, read_rows, tables
from statera.store.clock import now_ms
from statera.store.events import Event, record, utc_now
from statera.store.tables import (
    amphorae,
    authorities,
    events,
    listener_statistics,
    load_balancers,
    networks,
    nodes,
    port_addresses,
    ports,
    restores,
    subnets,
)
from statera.store.wake import announce

Row: TypeAlias = dict[str, Any]
Seen: TypeAlias = Callable[[int], None]

WORLD = (networks, subnets, ports)
"""Of these the backup's rows count, and others stay: somebody outside uses them."""
FACTS = (amphorae, listener_statistics)
"""Of load balancers that live, the rows of now count."""


class Difference(Struct, frozen=True):
    """Names of load balancers that the backup brings back, and of those that it does not know."""

    back: tuple[str, ...]
    unknown: tuple[str, ...]


def difference(connection: Connection, path: Path) -> Difference:
    """What a restore would change among load balancers."""
    then = {row["id"]: row["name"] or row["id"] for table, rows in read_rows(path) if table is load_balancers
            for row in rows if row["deleted_at"] is None}
    now = _living(connection)
    return Difference(
        tuple(sorted(name for id, name in then.items() if id not in now)),
        tuple(sorted(name for id, name in now.items() if id not in then)))


def restore(connection: Connection, path: Path, *, made_at: datetime, grace_seconds: float, seen: Seen) -> None:
    """Put the backup into the place of what is there, in the caller's one transaction; *seen* learns of rows.

    What nodes carry and the backup does not know stays for *grace_seconds*.
    """
    living, kept = _living(connection), _facts(connection)
    _clear(connection)
    for table, rows in read_rows(path):
        PUT.get(table, _replace)(connection, table, rows)
        seen(len(rows))
    _keep(connection, kept, alive=living.keys() & _living(connection).keys())
    _lift(connection)
    connection.execute(insert(restores).values(
        id=str(uuid4()), restored_at=utc_now(), made_at=made_at,
        grace_until_ms=now_ms() + int(grace_seconds * 1000)))
    record(connection, Event(
        load_balancer_id="", reason="restored", object_type="database", object_id="", fault="operator",
        message=f"a backup of {made_at:%Y-%m-%d %H:%M:%S} UTC was restored"))
    announce(connection)


def _living(connection: Connection) -> dict[str, str]:
    lb = load_balancers.c
    found = connection.execute(select(lb.id, lb.name).where(lb.deleted_at.is_(None)))
    return {row.id: row.name or row.id for row in found}


def _facts(connection: Connection) -> dict[Table, list[Row]]:
    return {table: [dict(row) for row in connection.execute(select(*columns(table))).mappings()] for table in FACTS}


def _clear(connection: Connection) -> None:
    stays = {*WORLD, *LEFT_OUT, port_addresses, nodes, authorities, events}
    for table in reversed(list(tables())):
        if table not in stays:
            connection.execute(delete(table))


def _replace(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    connection.execute(insert(table), rows)


def _merge(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """The backup's rows, in the place of those of the same id."""
    known = _known(connection, table, rows)
    changed = [{**row, "its_id": row["id"]} for row in rows if row["id"] in known]
    if changed:
        values = {name: bindparam(name, type_=table.c[name].type) for name in rows[0]}
        connection.execute(update(table).where(table.c.id == bindparam("its_id")).values(values), changed)
    _add(connection, table, [row for row in rows if row["id"] not in known])


def _merge_networks(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """One that comes back gets another number in overlays if its own was given to another meanwhile."""
    here: dict[Any, str] = {row.vni: row.id for row in connection.execute(select(table.c.vni, table.c.id))}
    last = max((vni for vni in (*here, *(row.get("vni") for row in rows)) if vni is not None), default=0)
    renumbered = []
    for row in rows:
        vni = row.get("vni")
        if vni is not None and here.get(vni, row["id"]) != row["id"]:
            vni = last = last + 1
        renumbered.append({**row, "vni": vni})
    _merge(connection, table, renumbered)


def _add_unknown(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Only rows whose ids are not there."""
    known = _known(connection, table, rows)
    _add(connection, table, [row for row in rows if row["id"] not in known])


def _add_nodes(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Nodes that are not there; nobody holds a connection from them."""
    named = set(connection.execute(select(nodes.c.name)).scalars())
    _add_unknown(connection, table, [{**row, "manager_id": None} for row in rows if row["name"] not in named])


def _place(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Amphorae; a node that came back under another id does not carry them any more."""
    known = set(connection.execute(select(nodes.c.id)).scalars())
    _add(connection, table, [{**row, "node_id": row["node_id"] if row["node_id"] in known else None} for row in rows])


def _give_addresses(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """The backup's ports have the addresses that they had then, whoever has them now."""
    pairs = [(row["subnet_id"], row["ip_address"]) for row in rows]
    connection.execute(delete(table).where(table.c.port_id.in_([row["port_id"] for row in rows])))
    connection.execute(delete(table).where(tuple_(table.c.subnet_id, table.c.ip_address).in_(pairs)))
    connection.execute(insert(table), rows)


def _add_authorities(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """None while those of now go back to the backup's: nodes trust what is there now. Else the backup's alone."""
    here = set(connection.execute(select(table.c.id)).scalars())
    if here & {row["id"] for row in rows}:
        return
    connection.execute(delete(table))
    connection.execute(insert(table), rows)


def _add_events(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """What happened, happened: the backup's are of use only where there are none of these load balancers."""
    told = set(connection.execute(select(table.c.load_balancer_id).distinct()).scalars())
    _add(connection, table, [row for row in rows if row["load_balancer_id"] not in told])


PUT: Mapping[Table, Callable[[Connection, Table, Sequence[Row]], None]] = {
    **dict.fromkeys(WORLD, _merge), networks: _merge_networks, port_addresses: _give_addresses, nodes: _add_nodes,
    amphorae: _place,
    authorities: _add_authorities, events: _add_events,
}


def _known(connection: Connection, table: Table, rows: Sequence[Row]) -> set[str]:
    return set(connection.execute(select(table.c.id).where(table.c.id.in_([row["id"] for row in rows]))).scalars())


def _add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _keep(connection: Connection, kept: Mapping[Table, Sequence[Row]], alive: set[str]) -> None:
    """Of load balancers that live now and in the backup, what is known now takes the place of the backup's."""
    for table, rows in kept.items():
        ids = sorted(alive)
        for start in range(0, len(ids), ROWS_AT_ONCE):
            connection.execute(delete(table).where(table.c.load_balancer_id.in_(ids[start:start + ROWS_AT_ONCE])))
        staying = [row for row in rows if row["load_balancer_id"] in alive]
        for start in range(0, len(staying), ROWS_AT_ONCE):
            connection.execute(insert(table), staying[start:start + ROWS_AT_ONCE])


def _lift(connection: Connection) -> None:
    """Every load balancer is due, held by nobody, and at a version that no node runs and no lease has."""
    lb, node = load_balancers.c, nodes.c
    hears = (
        select(func.min(node.manager_id)).join(amphorae, amphorae.c.node_id == node.id)
        .where(amphorae.c.load_balancer_id == lb.id, amphorae.c.deleted_at.is_(None))
        .correlate(load_balancers).scalar_subquery())
    now = int(connection.execute(select(now_ms())).scalar_one())
    connection.execute(
        update(load_balancers).where(lb.deleted_at.is_(None)).values(
            version=now, infra_version=now, lease_token=now, lease_owner=None, lease_until_ms=0, due_ms=now,
            attempts=0, failed_version=null(), failure=null(), manager_id=hears, told_version=now))
