# SPDX-License-Identifier: Apache-2.0
"""`statera lb`: what happens to a load balancer and why, and how to hurry it up."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from msgspec import structs
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from statera.api.resizing import resize as resized
from statera.commands import build, home
from statera.commands.home import Home
from statera.config import Settings
from statera.controller.explain import Story, explain
from statera.controller.observe import observe
from statera.errors import ApiError, SetupError
from statera.model.circumstances import Circumstances
from statera.store import events, wishes
from statera.store.circumstances import circumstances, find
from statera.store.engine import Store

PARTS = {"wanted": "wanted", "there": "there", "missing": "missing", "why": "because", "todo": "what to do"}
"""The parts of a story and what stands before them."""


@click.group()
def lb() -> None:
    """Say what happens to a load balancer and why; hurry it up."""


@lb.command("explain")
@home.state_option
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The same for programs.")
def explain_(state: Path, name: str, as_json: bool) -> None:
    """Say what is wanted of the load balancer NAME (or id), what is there, what is missing, why, and what to do."""
    with opened(state) as (settings, store):
        with store.read() as connection:
            id = require(connection, name)
            now = circumstances(connection, id)
        desired, seen = observe(build.world(settings, store), id)
    if desired is None or now is None:
        raise SetupError(f"load balancer {name} is deleted")
    story = explain(desired, seen, now)
    if as_json:
        document = {"id": id, "status": now.provisioning_status, **structs.asdict(story)}
        click.echo(msgspec.json.format(msgspec.json.encode(document)))
    else:
        show(name, now, story)


def show(name: str, now: Circumstances, story: Story) -> None:
    table = Table(show_header=False, box=None)
    table.add_row(name, f"{now.provisioning_status}, {now.operating_status}")
    for part, title in PARTS.items():
        for number, sentence in enumerate(getattr(story, part)):
            table.add_row("" if number else title, sentence)
    table.add_row("next", story.next)
    console = Console()
    console.print(table)
    if now.latest:
        console.print("\nlately")
    for event in reversed(now.latest[:5]):
        console.print(f"  {event.at:%Y-%m-%d %H:%M:%S} {event.reason}: {event.message}", highlight=False)


@lb.command()
@home.state_option
@click.argument("name")
def repair(state: Path, name: str) -> None:
    """Try at once whatever waits to be tried again, on nodes too."""
    with opened(state) as (_, store), store.write() as connection:
        wishes.repair(connection, require(connection, name))
    click.echo(f"{name} is tried at once; `statera lb explain {name}` says what comes of it")


@lb.command("events")
@home.state_option
@click.argument("name")
@click.option("--limit", default=50, show_default=True, help="How many, the latest.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each.")
def events_(state: Path, name: str, limit: int, as_json: bool) -> None:
    """Show what happened to the load balancer NAME, oldest first; of one that is deleted, too."""
    with opened(state) as (_, store), store.read() as connection:
        found = events.newest(connection, require(connection, name), limit=limit, before=None)[::-1]
    if as_json:
        for event in found:
            click.echo(msgspec.json.encode(event))
        return
    for event in found:
        after = f" (attempt {event.attempt}, next at {event.next_try_at:%H:%M:%S})" if event.next_try_at else ""
        click.echo(f"{event.at:%Y-%m-%d %H:%M:%S} {event.reason}: {event.message}{after}")


@lb.command()
@home.state_option
@click.argument("name")
@click.argument("flavor")
def resize(state: Path, name: str, flavor: str) -> None:
    """Give the load balancer NAME another FLAVOR (name or id) while it serves; its VIP stays."""
    try:
        with opened(state) as (settings, store), store.write() as connection:
            resized(connection, require(connection, name), flavor, settings)
    except ApiError as error:
        raise SetupError(str(error)) from error
    click.echo(f"{name} goes on with flavor {flavor}; `statera lb explain {name}` says how far that is")


@contextmanager
def opened(state: Path) -> Iterator[tuple[Settings, Store]]:
    settings = home.read(Home(state))
    with build.opened(settings) as store:
        yield settings, store


def require(connection: Connection, name: str) -> str:
    id = find(connection, name)
    if id is None:
        raise SetupError(f"there is no load balancer {name}; `openstack loadbalancer list` shows them")
    return id
