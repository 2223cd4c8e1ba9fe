# SPDX-License-Identifier: Apache-2.0
"""`statera backup` and `statera restore`: one file that holds all that was wished, taken and put back on the run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from cryptography.fernet import Fernet
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from statera.commands import build, home
from statera.commands.home import Home
from statera.config import Settings
from statera.errors import SetupError
from statera.store import backup as format
from statera.store import resealing
from statera.store.backup import Header
from statera.store.engine import Store
from statera.store.restoring import difference
from statera.store.restoring import restore as put_back
from statera.store.secrets import ensure_sealer, read_keys, write_keys

HOUR_SECONDS = 3600.0
passphrase_option = click.option(
    "--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its first line seals or opens the master keys in the backup; else you are asked.")


@click.command()
@home.state_option
@passphrase_option
@click.option("--with-keys", is_flag=True, help="Put the master keys in too, sealed with a passphrase. Without them "
              "the backup's secrets can be read only where the keys are kept.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(state: Path, passphrase_file: Path | None, with_keys: bool, file: Path) -> None:
    """Write everything that the database holds into FILE, while everything runs.

    The file is the same whether the database is SQLite, PostgreSQL or MariaDB. It appears when it is whole.
    """
    with _opened(state) as (settings, store):
        keys = None
        if with_keys:
            passphrase = _passphrase(passphrase_file, confirm=True)
            keys = format.seal_keys(read_keys(settings.master_key), passphrase)
        draft = file.with_name(f".{file.name}.part")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
                rows = _followed("rows", format.write(store, output, keys=keys))
                output.flush()
                os.fsync(output.fileno())
            draft.replace(file)
        except OSError as error:
            raise SetupError(f"cannot write {file}: {error.strerror}") from error
        finally:
            draft.unlink(missing_ok=True)
    click.echo(f"{file} holds {rows} rows, {file.stat().st_size / 1e6:.1f} MB"
               f"{'' if keys else '; the master keys are not in it'}")


@click.command()
@home.state_option
@passphrase_option
@click.option("--grace-hours", default=1.0, show_default=True, help="How long nodes keep load balancers that the "
              "backup does not know. `statera orphans` shows them meanwhile, and removes them earlier.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore(
    state: Path, passphrase_file: Path | None, grace_hours: float, dry_run: bool, yes: bool, file: Path
) -> None:
    """Put what FILE holds into the place of the database, while everything runs.

    The fleet follows: load balancers run what the backup says of them, those that were deleted since come back,
    and those that it does not know go after the grace. What a load balancer serves unchanged is not interrupted.
    """
    with _opened(state) as (settings, store):
        header = format.read_header(file)
        with store.read() as connection:
            found = difference(connection, file)
        click.echo(f"{file}: {header.rows} rows of {header.made_at:%Y-%m-%d %H:%M:%S} UTC, release {header.release}")
        for what, names in (("come back", found.back), ("are not in the backup", found.unknown)):
            click.echo(f"load balancers that {what}: {', '.join(names) or 'none'}")
        if dry_run:
            return
        if not yes:
            click.confirm("Everything that was wished since is forgotten. Go on?", abort=True)
        _bring_keys(settings, file, header, passphrase_file)
        _put(store, file, header, grace_seconds=grace_hours * HOUR_SECONDS)
    click.echo("The backup is restored; `statera status` shows how the fleet follows.")
    if found.unknown:
        click.echo(f"What is not in the backup is removed in {grace_hours:g} h; until then `statera orphans` shows it.")


def _put(store: Store, file: Path, header: Header, *, grace_seconds: float) -> None:
    with Progress() as progress:
        bar = progress.add_task("rows", total=header.rows)
        with store.write() as connection:
            put_back(connection, file, made_at=header.made_at, grace_seconds=grace_seconds,
                     seen=lambda count: progress.advance(bar, count))


def _bring_keys(settings: Settings, file: Path, header: Header, passphrase_file: Path | None) -> None:
    """Have keys here that open what the backup holds. Raise `SetupError` when there are none."""
    ensure_sealer(settings.master_key)
    here = read_keys(settings.master_key)
    sealed = [row["sealed"] for _, rows in format.read_rows(file) for row in rows if row.get("sealed")]
    if all(opens(here, each) for each in sealed):
        return
    if header.keys is None:
        raise SetupError(f"{settings.master_key} does not open the secrets in {file}, and the keys are not in it: "
                         f"append the master keys of when it was made to {settings.master_key}, one a line")
    brought = [key for key in format.open_keys(header.keys, _passphrase(passphrase_file)) if key not in here]
    write_keys(settings.master_key, [*here, *brought])


def opens(keys: list[bytes], sealed: str) -> bool:
    return any(resealing.opens(Fernet(key), sealed) for key in keys)


def _passphrase(file: Path | None, *, confirm: bool = False) -> bytes:
    if file is None:
        return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm)).encode()
    words = file.read_bytes().splitlines()
    if not words or not words[0]:
        raise SetupError(f"{file} holds no passphrase")
    return words[0]


def _followed(what: str, steps: Iterator[tuple[int, int]]) -> int:
    """Go through *steps*, which say how much of how much is done, and show it; the last of how much."""
    done = 0
    with Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        bar = progress.add_task(what, total=None)
        for done, total in steps:
            progress.update(bar, completed=done, total=total)
    return done


@contextmanager
def _opened(state: Path) -> Iterator[tuple[Settings, Store]]:
    settings = home.read(Home(state))
    with build.current(settings) as store:
        yield settings, store
