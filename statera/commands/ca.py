# SPDX-License-Identifier: Apache-2.0
"""`statera ca`: which certificate authority nodes and health managers trust, and its exchange for a new one."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import click
from cryptography import x509
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from statera.commands import build, home
from statera.commands.home import Home
from statera.config import Settings
from statera.errors import SetupError
from statera.model.authorities import LEARN, RENEW, Authority, Holder, Step, Wait
from statera.store import authorities
from statera.store.engine import Store

LOOK_SECONDS = 0.5


@click.group()
def ca() -> None:
    """Show and exchange the authority that certifies nodes and health managers."""


@ca.command()
@home.state_option
def show(state: Path) -> None:
    """Show the authorities that are trusted, who signs, and who shows a certificate of which."""
    with build.current(home.read(Home(state))) as store, store.read() as connection:
        trusted, holders = authorities.trusted(connection), list(authorities.holders(connection))
    table = Table("authority", "made", "good until", "state", "has certified", box=None)
    for each in trusted:
        table.add_row(*row(each, holders, signs=each is trusted[0] and each.signs_since is not None))
    Console().print(table)


def row(authority: Authority, holders: Sequence[Holder], *, signs: bool) -> tuple[str, ...]:
    """The authority as it is shown."""
    shown = counted([holder for holder in holders if holder.issuer == authority.id])
    state = "signs" if signs else "new, does not sign yet" if authority.signs_since is None else "former"
    return (authority.id[:16], f"{authority.created_at:%Y-%m-%d}", f"{ends(authority):%Y-%m-%d}", state, shown)


def counted(holders: Sequence[Holder]) -> str:
    kinds = Counter(holder.kind for holder in holders)
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items())) or "nobody"


def ends(authority: Authority) -> datetime:
    return x509.load_pem_x509_certificate(authority.certificate.encode()).not_valid_after_utc


@ca.command()
@home.state_option
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@click.option("--no-wait", is_flag=True, help="Begin and return; octavia-housekeeping does the rest.")
def rotate(state: Path, dry_run: bool, no_wait: bool) -> None:
    """Exchange the authority for a new one, while everything runs.

    Nodes and health managers first learn to trust the new one, then it signs for all of them, and when
    nothing of the old one is left, nobody trusts that any more. A node that is away holds the exchange up until
    it comes back or its certificate runs out. Safe to interrupt: octavia-housekeeping goes on with it, and the
    same command shows how far it is.
    """
    settings = home.read(Home(state))
    if settings.certificates.ca_certificate:
        raise SetupError("the authority is your own: name the new one in [certificates] ca_certificate and "
                         "ca_private_key and restart the health managers; the exchange then begins by itself")
    with build.current(settings) as store:
        if dry_run:
            click.echo("\n".join(forecast(store)))
            return
        if begin(settings, store):
            click.echo("A new authority is made.")
        if not no_wait:
            follow(store, Console())


def forecast(store: Store) -> Iterator[str]:
    """What `rotate` would do, a sentence each."""
    with store.read() as connection:
        trusted, holders = authorities.trusted(connection), list(authorities.holders(connection))
    if len(trusted) < 2:
        yield "A new authority would be made."
    yield f"{counted(holders)} would learn to trust it and get new certificates."
    yield "; ".join(f"authority {each.id[:16]}" for each in trusted) + " would be withdrawn when they all have."


def begin(settings: Settings, store: Store) -> bool:
    """Have a new authority trusted, unless an exchange is under way; whether that was so."""
    with store.read() as connection:
        is_under_way = len(authorities.trusted(connection)) > 1
    if not is_under_way:
        build.authority(settings, store).add_another()
    return not is_under_way


def follow(store: Store, console: Console) -> None:
    """Take what steps can be taken until none is left, and show how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[waits]}"))
    with Progress(*columns, console=console) as progress:
        bars = {what: progress.add_task(what, total=None, waits="") for what in (LEARN, RENEW)}
        while step := take(store):
            for what, holders, count in progress_of(step):
                progress.update(bars[what], total=count, completed=count - len(holders), waits=", ".join(holders[:3]))
            if isinstance(step, Wait):
                threading.Event().wait(LOOK_SECONDS)
        for task in progress.tasks:
            progress.update(task.id, total=task.total or 1, completed=task.total or 1, waits="")
    click.echo("The exchange is over: one authority is trusted.")


def progress_of(step: Step) -> Iterator[tuple[str, Sequence[str], int]]:
    """What of which bar is still missing, and of how many."""
    match step:
        case Wait(what=what, holders=holders, count=count) if what in (LEARN, RENEW):
            yield what, holders, count
            if what == RENEW:
                yield LEARN, (), count
        case Wait(count=count):
            yield from ((what, (), count) for what in (LEARN, RENEW))


def take(store: Store) -> Step | None:
    with store.write() as connection:
        return authorities.advance(connection)
