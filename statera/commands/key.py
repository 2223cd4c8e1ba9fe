# SPDX-License-Identifier: Apache-2.0
"""`statera key`: the master key that seals secrets in the database, and its exchange for a new one."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import click
from cryptography.fernet import Fernet
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from statera.commands import build, home
from statera.commands.home import Home
from statera.config import Settings
from statera.errors import SetupError
from statera.store import resealing
from statera.store.engine import Store
from statera.store.secrets import ensure_sealer, read_keys, write_keys


@click.group()
def key() -> None:
    """Show and exchange the master key, which seals secrets in the database."""


@key.command()
@home.state_option
def show(state: Path) -> None:
    """Show the keys of the master key file and how many sealed rows each opens."""
    with _opened(state) as (settings, store):
        keys = read_keys(settings.master_key)
        found = resealing.opened_by(store, keys)
    table = Table("key", "use", "rows", title=str(settings.master_key), box=None)
    for place, each in enumerate(keys):
        table.add_row(name(each), "opens" if place else "seals", str(found[place]))
    if found[None]:
        table.add_row("unknown", "sealed by a key that is not here", str(found[None]))
    Console().print(table)


@key.command()
@home.state_option
@click.option("--stage", is_flag=True, help="Only add a key that opens and does not seal yet: copy the file to every "
              "host, then use --promote on one, and copy it again.")
@click.option("--promote", is_flag=True, help="Have the last key of the file seal from now on.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
def rotate(state: Path, stage: bool, promote: bool, dry_run: bool) -> None:
    """Exchange the master key, while everything runs.

    A new key is put in front of the others in the master key file, and everything in the database is sealed
    with it. Running services notice. Safe to interrupt: the same command goes on where it was. The former keys stay in
    the file until `statera key prune`.
    """
    if stage and promote:
        raise click.UsageError("--stage and --promote are two steps: copy the file to every host between them")
    with _opened(state) as (settings, store):
        path = settings.master_key
        keys = read_keys(path)
        wanted = exchanged(keys, is_complete=is_complete(store, keys), stage=stage, promote=promote)
        if dry_run:
            click.echo("\n".join(forecast(store, keys, wanted)))
            return
        if wanted != keys:
            write_keys(path, wanted)
        if stage:
            click.echo(f"{path} ends with key {name(wanted[-1])} now; copy it to every host, then use --promote")
            return
        reseal(store, wanted)
        click.echo(f"Everything is sealed with key {name(wanted[0])}. The former keys are in {path} still;"
                   " `statera key prune` removes them.")


@key.command()
@home.state_option
def prune(state: Path) -> None:
    """Remove keys from the master key file that open nothing any more; the first stays."""
    with _opened(state) as (settings, store):
        keys = read_keys(settings.master_key)
        found = resealing.opened_by(store, keys)
        kept = [each for place, each in enumerate(keys) if place == 0 or found[place]]
        if kept != keys:
            write_keys(settings.master_key, kept)
    click.echo(f"{len(keys) - len(kept)} of {len(keys)} keys are removed from {settings.master_key}")


def exchanged(keys: list[bytes], *, is_complete: bool, stage: bool, promote: bool) -> list[bytes]:
    """The keys as the file is to have them. An exchange that was interrupted is completed before another begins."""
    if stage:
        return [*keys, Fernet.generate_key()]
    if promote:
        return [keys[-1], *keys[:-1]]
    return [Fernet.generate_key(), *keys] if is_complete else keys


def is_complete(store: Store, keys: list[bytes]) -> bool:
    """Whether the first key opens everything that any of them opens."""
    found = resealing.opened_by(store, keys)
    return not any(found[place] for place in range(1, len(keys)))


def forecast(store: Store, keys: list[bytes], wanted: list[bytes]) -> Iterator[str]:
    """What `rotate` would do, a sentence each."""
    with store.read() as connection:
        rows = resealing.count(connection)
    if wanted == keys:
        yield "The last exchange was interrupted and would be completed."
    if wanted[0] == keys[0] and wanted != keys:
        yield "A key would be added that opens and does not seal."
    else:
        yield f"{rows} rows would be sealed with the first key of the file, as far as they are not."


def reseal(store: Store, keys: list[bytes]) -> None:
    lost = 0
    with store.read() as connection:
        total = resealing.count(connection)
    with Progress() as progress:
        bar = progress.add_task("sealing anew", total=total)
        for step in resealing.reseal(store, keys):
            lost += step.lost
            progress.advance(bar, step.seen)
    if lost:
        click.echo(f"{lost} rows were sealed by a key that is not in the file; they stay as they are", err=True)


def name(key: bytes) -> str:
    """What the key is called where people see it; nothing of the key itself."""
    return sha256(key).hexdigest()[:12]


@contextmanager
def _opened(state: Path) -> Iterator[tuple[Settings, Store]]:
    settings = home.read(Home(state))
    if not settings.master_key.exists():
        raise SetupError(f"there is no master key {settings.master_key} yet; services make it when they first need it")
    ensure_sealer(settings.master_key)
    with build.current(settings) as store:
        yield settings, store
