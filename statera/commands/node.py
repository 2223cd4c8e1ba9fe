# SPDX-License-Identifier: Apache-2.0
"""`statera node`: let hosts join, drain and leave the fleet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from statera.commands import build, home
from statera.commands.home import Home
from statera.config import Settings
from statera.errors import SetupError
from statera.store import authorities, nodes, reports

DAY_SECONDS = 86_400


@click.group()
def node() -> None:
    """Let hosts join, drain and leave."""


@node.command()
@home.state_option
@click.option("--name", help="The only node that may use it; it may then have joined before.")
@click.option("--hours", default=1.0, show_default=True, help="How long it is good.")
def token(state: Path, name: str | None, hours: float) -> None:
    """Make a token that lets one host join, and say what to type there."""
    settings = home.read(Home(state))
    with _transaction(settings) as connection:
        made = nodes.make_token(connection, name, int(hours * 3600))
        fingerprint = authorities.fingerprint(connection)
    click.echo("On the host that is to join, with this one's address in the place of the endpoint's if need be:")
    click.echo(f"statera-agent join --endpoint {home.binds_of(settings).nodes} --token {made}"
               f" --ca-fingerprint {fingerprint}")


@node.command("list")
@home.state_option
def list_(state: Path) -> None:
    """Show the nodes and what they carry."""
    with _transaction(home.read(Home(state))) as connection:
        found = nodes.list_nodes(connection)
    table = Table("name", "state", "amphorae", "overlay", "agent", "certificate until", box=None)
    for row in found:
        until = f"{row.certificate_expires_at:%Y-%m-%d %H:%M}" if row.certificate_expires_at else ""
        table.add_row(
            row.name, node_state(row), str(row.amphorae), row.overlay_ip or "none", row.agent_version or "", until)
    Console().print(table)


def node_state(row: nodes.NodeRow) -> str:
    """One word, or two, for how the node is."""
    word = "connected" if row.heard else "lost" if row.lost else "away"
    return f"{word}, drained" if row.drained else word


@node.command()
@home.state_option
@click.argument("name")
def drain(state: Path, name: str) -> None:
    """Move away what the node carries; it gets nothing new."""
    with _transaction(home.read(Home(state))) as connection:
        click.echo(f"{name} is drained; {nodes.drain(connection, name)} amphorae are on it still")


@node.command()
@home.state_option
@click.argument("name")
def undrain(state: Path, name: str) -> None:
    """Let the node carry load balancers again."""
    with _transaction(home.read(Home(state))) as connection:
        nodes.undrain(connection, name)
    click.echo(f"{name} carries load balancers again")


@node.command()
@home.state_option
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def lost(state: Path, name: str, yes: bool) -> None:
    """Say that the node NAME is dead, so that what it carried is replaced at once.

    Health managers find that out themselves, but not when most nodes fall silent at once.
    """
    settings = home.read(Home(state))
    if not yes:
        click.confirm(f"Is {name} really dead? If it lives, its load balancers answer twice until it is stopped.",
                      abort=True)
    with _transaction(settings) as connection:
        count = reports.give_up(connection, name)
    click.echo(f"{name} is lost; {count} load balancers are repaired")


@node.command()
@home.state_option
@click.argument("name")
def remove(state: Path, name: str) -> None:
    """Forget a node that carries nothing; its certificate is worth nothing from now on."""
    with _transaction(home.read(Home(state))) as connection:
        nodes.remove(connection, name)
    click.echo(f"{name} is removed")


@contextmanager
def _transaction(settings: Settings) -> Iterator[Connection]:
    """One transaction on the database; what it refuses is for the operator."""
    try:
        with build.opened(settings) as store, store.write() as connection:
            yield connection
    except nodes.Refused as error:
        raise SetupError(f"{error}; `statera node list` shows the nodes") from error
