# SPDX-License-Identifier: Apache-2.0
"""`statera status`: what runs here, in a few lines."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, func, select

from statera.commands import build, home
from statera.commands.home import Home
from statera.commands.node import node_state
from statera.store import measures
from statera.store.nodes import list_nodes
from statera.store.status import provisioning_status
from statera.store.tables import load_balancers

WHOSE = {"authority": "authorities", "node": "nodes", "load balancer": "load balancers"}


@click.command()
@home.state_option
def status(state: Path) -> None:
    """Show services, nodes and load balancers."""
    place = Home(state)
    settings = home.read(place)
    pid = home.holder(place)
    is_stopped = pid is None and place.lock.exists()
    with build.opened(settings) as store, store.read() as connection:
        running = f"process {pid}, {home.api_url(settings)}" if pid else elsewhere(connection)
        rows = [("services", "stopped; `statera up` starts them" if is_stopped else running),
                *node_rows(connection, is_stopped=is_stopped),
                *load_balancer_rows(connection), queue_row(connection), *certificate_rows(connection),
                database_row(connection)]
    table = Table(show_header=False, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def elsewhere(connection: Connection) -> str:
    """Of services that somebody else starts the database knows those to which nodes connect."""
    return f"health managers alive: {measures.managers_alive(connection)}; who starts services here knows of the others"


def node_rows(connection: Connection, *, is_stopped: bool) -> list[tuple[str, str]]:
    """The nodes; while the services are stopped nobody is connected, whatever was written last."""
    return [
        (f"node {row.name}", f"{'not connected' if is_stopped else node_state(row)}, {row.amphorae} amphorae")
        for row in list_nodes(connection)
    ]


def load_balancer_rows(connection: Connection) -> list[tuple[str, str]]:
    """How many load balancers there are of each status."""
    word = provisioning_status(load_balancers).label("word")
    statement = select(word, func.count()).where(load_balancers.c.deleted_at.is_(None)).group_by(word)
    return [(f"load balancers {word}", str(count)) for word, count in connection.execute(statement)]


def queue_row(connection: Connection) -> tuple[str, str]:
    """How much waits for a worker."""
    found = {name: value for name, _, value in measures.queue(connection)}
    waiting, seconds = found["statera_due_load_balancers"], found["statera_due_seconds"]
    return ("work", f"{waiting:.0f} load balancers wait for a worker, the first for {seconds:.1f} s"
            if waiting else "nothing waits for a worker")


def certificate_rows(connection: Connection) -> list[tuple[str, str]]:
    """When the first certificate of each kind runs out."""
    return [(f"certificates of {WHOSE[labels[0]]}", f"the first runs out in {days:.1f} days")
            for name, labels, days in measures.certificates(connection) if name == "statera_certificate_days"]


def database_row(connection: Connection) -> tuple[str, str]:
    """How large the database is, and what in it waits to be purged."""
    size, gone = measures.size(connection), measures.gone(connection)
    waits = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in gone.items())
    return ("database", f"{(size or 0) / 1e6:.1f} MB; deleted and kept for a while: {waits}")
