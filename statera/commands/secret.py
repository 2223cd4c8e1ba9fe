# SPDX-License-Identifier: Apache-2.0
"""`statera secret`: keep certificates for listeners and pools, in the place of an OpenStack key manager."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import click

from statera.api.standalone.users import load_users
from statera.commands import build, home
from statera.commands.home import ADMIN, Home
from statera.config import Settings
from statera.errors import SetupError
from statera.model import pem
from statera.model.pem import Material
from statera.model.secrets import Secret
from statera.store.secrets import SecretBook

user_option = click.option("--user", default=ADMIN, show_default=True, help="Whose project it belongs to.")
passphrase_option = click.option(
    "--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Holds what opens the file; it is opened once, now.")


@click.group()
def secret() -> None:
    """Keep certificates for listeners and pools."""


@secret.command()
@home.state_option
@user_option
@passphrase_option
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def add(state: Path, user: str, passphrase_file: Path | None, name: str, files: tuple[Path, ...]) -> None:
    """Keep as NAME what is in FILES: a PKCS12 file, or PEM files with a certificate, its key and its chain.

    An authority's certificate or a revocation list, PEM, is kept as well. Prints the reference by which
    listeners and pools name it.
    """
    settings, material = home.read(Home(state)), read_files(files, passphrase_file)
    made = Secret(
        id=str(uuid4()), project_id=project_of(Home(state), user), name=name, payload_content_type="text/plain",
        created_at=datetime.now(UTC).replace(tzinfo=None))
    with opened(settings) as book:
        book.add(made, material.pem().encode())
    click.echo(ref(settings, made))


@secret.command()
@home.state_option
@passphrase_option
@click.argument("reference")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def renew(state: Path, passphrase_file: Path | None, reference: str, files: tuple[Path, ...]) -> None:
    """Have REFERENCE hold what is in FILES; load balancers that use it take it up by themselves, within a minute."""
    material, id = read_files(files, passphrase_file), reference.rstrip("/").rpartition("/")[2]
    with opened(home.read(Home(state))) as book:
        payload = book.payload(id)
        if payload is None:
            raise SetupError(f"there is no secret {reference}")
        if fault := pem.renewal_fault(pem.read(payload, now=datetime.now(UTC)), material):
            raise SetupError(f"the new content cannot be used: {fault}")
        book.replace(id, material.pem().encode())


@secret.command("list")
@home.state_option
@user_option
def list_(state: Path, user: str) -> None:
    """Show since when what is kept and until when it is valid, by which reference."""
    settings = home.read(Home(state))
    with opened(settings) as book:
        for each in book.list(project_of(Home(state), user)):
            expires_at = pem.read(book.payload(each.id) or b"", now=datetime.now(UTC)).expires_at
            until = f"{expires_at:%Y-%m-%d %H:%M}" if expires_at else "-".ljust(16)
            click.echo(f"{each.created_at:%Y-%m-%d %H:%M}  {until}  {ref(settings, each)}  {each.name or ''}")


@secret.command()
@home.state_option
@click.argument("reference")
def remove(state: Path, reference: str) -> None:
    """Keep it no more; load balancers that use it go on as they are."""
    with opened(home.read(Home(state))) as book:
        book.remove(reference.rstrip("/").rpartition("/")[2])


def read_files(files: Iterable[Path], passphrase_file: Path | None) -> Material:
    passphrase = passphrase_file.read_bytes().rstrip(b"\r\n") if passphrase_file else None
    return readable(b"\n".join(file.read_bytes() for file in files), passphrase)


def readable(payload: bytes, passphrase: bytes | None) -> Material:
    """What the files hold. Raise `SetupError` when that is of no use."""
    material = pem.read(payload, passphrase, now=datetime.now(UTC))
    if material.problem:
        raise SetupError(f"cannot read the files: {material.problem}")
    if material.key and material.flaw:
        raise SetupError(f"the certificate cannot be used: {material.flaw}")
    return material


def project_of(place: Home, user: str) -> str:
    users = load_users(place.users)
    if user not in users:
        raise SetupError(f"{place.users} has no user {user}")
    return users[user].project_id


def ref(settings: Settings, kept: Secret) -> str:
    return f"{home.api_url(settings)}/v1/secrets/{kept.id}"


@contextmanager
def opened(settings: Settings) -> Iterator[SecretBook]:
    """The secret store. Raise `SetupError` when this installation has another one."""
    if settings.certificates.cert_manager != "local":
        raise SetupError(f"[certificates] cert_manager is {settings.certificates.cert_manager}, not local: there is no "
                         "secret store here")
    with build.opened(settings) as store:
        yield build.secret_book(settings, store)
