# SPDX-License-Identifier: Apache-2.0
"""`statera orphans`: what was made outside for load balancers and amphorae that are no more."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from statera.commands import build, home
from statera.commands.home import Home
from statera.errors import DriverError
from statera.model.fleet import Owned
from statera.store import strays, sweep
from statera.store.engine import Store
from statera.store.strays import Stray

SURE_SECONDS = 5.0
"""Between two looks: what is only just being made looks like an orphan at the first."""


class Source(Protocol):
    """What `drivers.protocols` says of networks and machines alike."""

    def owned(self) -> Sequence[Owned]: ...
    def release(self, thing: Owned) -> None: ...


class Orphan(Struct, frozen=True):
    """A thing without an owner, and where it is."""

    source: Source
    thing: Owned


Orphans = frozenset[Orphan]


@click.command()
@home.state_option
@click.option("--release", is_flag=True, help="Remove them.")
def orphans(state: Path, release: bool) -> None:
    """Show ports, servers and the like whose load balancer or amphora is no more.

    octavia-housekeeping removes them by itself unless [house_keeping] release_orphans says no. Nodes are told the
    whole of what they are to carry and remove the rest; only after `statera restore` they keep for a while what
    the database does not know, and that is shown too.
    """
    settings = home.read(Home(state))
    with build.opened(settings) as store:
        sources: list[Source] = [build.network(settings, store), build.compute(settings, store)]
        found = look(store, sources)
        if found:
            threading.Event().wait(SURE_SECONDS)
            found &= look(store, sources)
        with store.read() as connection:
            unknown, seconds = strays.listed(connection), strays.grace_seconds(connection)
        show(found, unknown if seconds else (), minutes=seconds / 60)
        for sentence in end(store, found) if release else ():
            click.echo(sentence)


def look(store: Store, sources: Sequence[Source]) -> Orphans:
    """All that has no owner now. Raise `DriverError`."""
    found = []
    for source in sources:
        things = source.owned()  # before the owners are read: who is made meanwhile owns nothing that was seen
        with store.read() as connection:
            found += [Orphan(source, thing) for thing in sweep.without_owner(connection, things)]
    return frozenset(found)


def let_go(found: Orphans) -> Iterator[str]:
    """Release each, and say so; one that cannot be released now is left to the next time."""
    for orphan in sorted(found, key=lambda each: each.thing.name):
        thing = orphan.thing
        try:
            orphan.source.release(thing)
        except DriverError as error:
            yield f"{thing.kind} {thing.id} cannot be released now: {error}"
        else:
            yield f"{thing.kind} {thing.id} ({thing.name}) of {thing.owner}, which is no more, is released"


def end(store: Store, found: Orphans) -> Iterator[str]:
    """Release everything, and have nodes remove what they still keep."""
    with store.write() as connection:
        strays.end_grace(connection)
    yield from let_go(found)


def show(found: Orphans, unknown: Sequence[Stray], *, minutes: float) -> None:
    if not found and not unknown:
        click.echo("Everything has an owner.")
        return
    table = Table("kind", "id", "name", "made for", box=None)
    for orphan in sorted(found, key=lambda each: each.thing.name):
        thing = orphan.thing
        kind = "amphora" if thing.is_amphoras else "load balancer"
        table.add_row(thing.kind, thing.id, thing.name, f"{kind} {thing.owner}")
    for stray in unknown:
        table.add_row("amphora", stray.amphora_id, f"on {stray.node}", f"nobody we know; {minutes:.0f} min left")
    Console().print(table)
