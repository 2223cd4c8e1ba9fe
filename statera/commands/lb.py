# SPDX-License-Identifier: Apache-2.0
"""`statera lb`: what happens to a load balancer and why."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, RowMapping, or_, select

from statera.commands import build, home
from statera.commands.home import Home
from statera.errors import SetupError
from statera.store.status import operating_status, provisioning_status
from statera.store.tables import amphorae, events, load_balancers, nodes

LATEST_EVENTS = 20


@click.group()
def lb() -> None:
    """Say what happens to a load balancer and why."""


@lb.command()
@home.state_option
@click.argument("name")
def explain(state: Path, name: str) -> None:
    """Show the load balancer NAME (or id): its status, its amphorae, its latest events."""
    store = build.open_store(home.read(Home(state)))
    with store.read() as connection:
        lines = list(_story(connection, name))
    store.close()
    table = Table(show_header=False, box=None)
    for line in lines:
        table.add_row(*line)
    Console().print(table)


def _story(connection: Connection, name: str) -> list[tuple[str, str]]:
    columns = load_balancers.c
    found = connection.execute(
        select(load_balancers, provisioning_status(load_balancers).label("provisioning"),
               operating_status(load_balancers).label("operating"))
        .where(or_(columns.id == name, columns.name == name)).order_by(columns.created_at.desc())
    ).first()
    if found is None:
        raise SetupError(f"there is no load balancer {name}; `openstack loadbalancer list` shows them")
    return [
        (found.name or found.id, f"{found.provisioning}, {found.operating}, VIP {found.vip_address}"),
        ("version", f"wanted {found.version}, runs {found.done_version}"),
        *([("because", found.failure)] if found.failure else []),
        *(_amphora(row) for row in _amphorae(connection, found.id)),
        *(_event(row) for row in _events(connection, found.id)),
    ]


def _amphorae(connection: Connection, load_balancer_id: str) -> Sequence[RowMapping]:
    statement = select(amphorae.c.role, amphorae.c.id, amphorae.c.applied_version, nodes.c.name)
    here = statement.outerjoin(nodes, nodes.c.id == amphorae.c.node_id).where(
        amphorae.c.load_balancer_id == load_balancer_id, amphorae.c.deleted_at.is_(None))
    return connection.execute(here.order_by(amphorae.c.created_at)).mappings().all()


def _amphora(row: RowMapping) -> tuple[str, str]:
    place = row["name"] or "no node yet"
    return ("amphora", f"{row['id']}, {row['role']}, on {place}, runs version {row['applied_version']}")


def _events(connection: Connection, load_balancer_id: str) -> Sequence[RowMapping]:
    """The latest, oldest first."""
    columns = (events.c.at, events.c.reason, events.c.message)
    statement = select(*columns).where(events.c.load_balancer_id == load_balancer_id)
    latest = connection.execute(statement.order_by(events.c.id.desc()).limit(LATEST_EVENTS)).mappings().all()
    return latest[::-1]


def _event(row: RowMapping) -> tuple[str, str]:
    return (f"{row['at']:%Y-%m-%d %H:%M:%S}", f"{row['reason']}: {row['message']}")
