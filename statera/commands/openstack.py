# SPDX-License-Identifier: Apache-2.0
"""`statera openstack`: prepare a cloud for Statera, see whether it still is, and take all of that back."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import openstack
import openstack.exceptions
from keystoneauth1.exceptions import ClientException

from statera.commands.steps import USER, Site, Wish, by_nova, conf
from statera.errors import SetupError

CONFIGURATION = "/etc/octavia/octavia.conf"


@click.group(name="openstack")
def cloud() -> None:
    """Prepare an OpenStack cloud. OS_CLOUD, or OS_AUTH_URL and friends, name it and its administrator."""


def _options(command: Any) -> Any:
    """What all three have to know alike."""
    for option in (
        click.option("--api-url", default="http://127.0.0.1:9876", show_default=True, help="Where clients find us."),
        click.option("--nodes", default="172.31.0.1:5555", show_default=True,
                     help="Where machines find the health managers, host:port, joined by commas."),
        click.option("--mgmt-network", default="lb-mgmt-net", show_default=True, help="The management network."),
        click.option("--mgmt-cidr", default="172.31.0.0/24", show_default=True,
                     help="Its subnet, if it has to be made."),
        click.option("--load-balancers", default=100, show_default=True, type=click.IntRange(1),
                     help="How many are wanted: quotas follow."),
        click.option("--image", type=click.Path(path_type=Path, exists=True, dir_okay=False),
                     help="File that `statera image build` made."),
        click.option("--ssh-key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
                     help="Public key for troubleshooting; only images with an SSH server use it."),
        click.option("--compute-driver", default="nova", show_default=True, type=click.Choice(["nova", "hosts"]),
                     help="Machines or namespaces: namespaces need no image, flavor and management network."),
        click.option("--configuration", default=CONFIGURATION, show_default=True, help="The file octavia.conf.",
                     type=click.Path(path_type=Path, dir_okay=False)),
    ):
        command = option(command)
    return command


@cloud.command()
@_options
@click.option("--password", help="Of the service user; one that has to be made gets one of its own.")
@click.option("--dry-run", is_flag=True, help="Only say what would be made.")
def bootstrap(password: str | None, dry_run: bool, **wish: Any) -> None:
    """Make what is missing and write octavia.conf. Repeating makes only what is still missing."""
    with _site(Wish(**wish, password=password or secrets.token_urlsafe(24))) as site:
        unknown = not password and not dry_run and not site.wish.configuration.exists()
        if unknown and site.connection.identity.find_user(USER):
            raise SetupError(f"there is a user {USER} already: say its --password, which octavia.conf has to hold")
        for number, step in enumerate(site.steps, 1):
            said = f"{number}/{len(site.steps)} {step.title}"
            if (found := step.find(site)) is not None:
                click.echo(f"{said}: there ({found})")
            elif dry_run:
                click.echo(f"{said}: missing, would be made")
            else:
                click.echo(f"{said}: {step.make(site)}")
        if not dry_run:
            _write(site)


@cloud.command()
@_options
def doctor(**wish: Any) -> None:
    """Look whether everything is there; the first that is missing ends it with status 1 and what to do."""
    with _site(Wish(**wish)) as site:
        missing = [step for step in site.steps if step.find(site) is None]
        for step in site.steps:
            click.echo(f"{'MISSING' if step in missing else 'ok':8}{step.title}"
                       + (f": {step.advice}" if step in missing else ""))
    if missing:
        raise SetupError(f"{len(missing)} of {len(site.steps)} are missing; `statera openstack bootstrap` makes them")


@cloud.command()
@_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def teardown(yes: bool, **wish: Any) -> None:
    """Remove what bootstrap made, and nothing else; load balancers must be gone."""
    if not yes:
        click.confirm("Remove all that `statera openstack bootstrap` made in this cloud?", abort=True)
    with _site(Wish(**wish)) as site:
        machines = site.connection.compute.servers(name="^amphora-") if by_nova(site.wish) else ()
        if left := [server.name for server in machines]:
            raise SetupError(f"{len(left)} machines of amphorae are left; delete their load balancers first")
        for step in reversed(site.steps):
            for gone in step.remove(site):
                click.echo(f"{step.title}: {gone} removed")


@contextmanager
def _site(wish: Wish) -> Iterator[Site]:
    """The cloud as its administrator. What it refuses becomes a `SetupError` with its words."""
    try:
        with openstack.connect() as connection:
            yield Site(connection=connection, wish=wish)
    except (openstack.exceptions.SDKException, ClientException) as error:
        raise SetupError(f"the cloud says: {error}") from error


def _write(site: Site) -> None:
    """A configuration that is there is kept: who wrote it knows passwords that nobody can look up."""
    path: Path = site.wish.configuration
    if path.exists():
        click.echo(f"{path} is kept as it is")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(conf(site))
    click.echo(f"{path} is written; next: octavia-db-manage upgrade head, then start the services")
