# SPDX-License-Identifier: Apache-2.0
"""`statera up`: check the host, complete the state folder, run the services, say how to use them."""

import asyncio
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import click
from alembic.util import CommandError

from statera.commands import build, checks, home, tree
from statera.commands.home import Bind, Home
from statera.config import Settings
from statera.errors import SetupError
from statera.fleet.enrolment import enrol_local
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.migrations import require_schema
from statera.store.migrations.upgrade import upgrade
from statera.store.nodes import list_nodes

READY_SECONDS = 60.0
POLL_SECONDS = 0.02


class BindType(click.ParamType[Bind]):
    """HOST:PORT; IPv6 addresses in brackets."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Bind:
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            self.fail(f"{value} is not HOST:PORT", param, ctx)
        return Bind(host.strip("[]"), int(port))


@click.command()
@home.state_option
@click.option("--api-bind", type=BindType(), help="Where clients connect to.  [default: 127.0.0.1:9876]")
@click.option("--health-bind", type=BindType(), help="Where nodes connect to.  [default: 127.0.0.1:5555]")
@click.option("--detach", is_flag=True, help="Return once all runs.")
def up(state: Path, api_bind: Bind | None, health_bind: Bind | None, detach: bool) -> None:
    """Run load balancing on this host, until Ctrl-C.

    Load balancers go on without it; starting again finds everything as it was.
    """
    place = Home(state)
    binds = home.binds(place, api_bind, health_bind)
    checks.check(place, binds)
    with home.held(place):
        settings = home.prepare(place, binds)
        prepare_database(settings)
        if not detach:
            run(place, settings)
    if detach:
        run_detached(place, settings)


def prepare_database(settings: Settings) -> None:
    """Bring the schema up to date and make this host a node."""
    with build.opened(settings) as store:
        bring_schema(store)
        authority = build.authority(settings, store)
        enrol_local(store, authority, settings.state, settings.agent.node_name or settings.host)


def bring_schema(store: Store) -> None:
    """Make or upgrade the schema; raise `SetupError` when a newer release has been here."""
    try:
        upgrade(store)
    except CommandError:
        require_schema(store)
        raise


def run(place: Home, settings: Settings) -> None:
    """Be the services' parent until told to stop."""
    services = tree.services(place.configuration)
    asyncio.run(tree.supervise(services, place.logs, click.echo, partial(greet, place, settings)))


async def greet(place: Home, settings: Settings) -> None:
    """Say how to use it, as soon as it can be used."""
    began = utc_now()
    await ready(settings, began)
    click.echo(how_to_use(place, settings, utc_now() - began))


def run_detached(place: Home, settings: Settings) -> None:
    """Have a process of its own run the services; raise `SetupError` with what it said if it ends instead."""
    log, began = place.logs / "statera.log", utc_now()
    argv = tree.installed("statera", "up", "--state", str(place.state)).argv
    with log.open("ab") as output:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def alive() -> None:
        if child.poll() is not None:
            raise SetupError(tree.last_line(log).removeprefix("statera: "))

    asyncio.run(ready(settings, began, alive))
    child.returncode = 0  # it is nobody's child from now on
    click.echo(how_to_use(place, settings, utc_now() - began))


async def ready(settings: Settings, since: datetime, check: Callable[[], None] = lambda: None) -> None:
    """Return when the api answers and this host's node has connected *since*; *check* may raise meanwhile."""
    store, why = build.open_store(settings), ""
    try:
        async with asyncio.timeout(READY_SECONDS):
            while why := await asyncio.to_thread(_what_is_missing, settings, store, since):
                check()
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise SetupError(f"not ready after {READY_SECONDS:g} s: {why}") from error
    finally:
        store.close()


def _what_is_missing(settings: Settings, store: Store, since: datetime) -> str:
    """What does not work yet, and which log says why; empty when all does."""
    name, logs = settings.agent.node_name or settings.host, settings.state / "log"
    with store.read() as connection:
        [node] = [node for node in list_nodes(connection) if node.name == name]
    if not node.heard or node.connected_at is None or node.connected_at < since:
        return f"this host's agent has not connected; {logs}/statera-agent.log and octavia-health-manager.log say why"
    if not _answers(home.binds_of(settings).api):
        return f"the api does not answer; {logs}/octavia-api.log says why"
    return ""


def how_to_use(place: Home, settings: Settings, taken: timedelta) -> str:
    """What a newcomer types next."""
    return f"""Statera is ready after {taken.total_seconds():.1f} s: {home.api_url(settings)}

  export OS_CLIENT_CONFIG_FILE={place.clouds} OS_CLOUD=statera
  openstack network create web
  openstack subnet create --network web --subnet-range 198.18.1.0/24 web
  openstack loadbalancer create --name lb --vip-subnet-id web --wait

Logs are in {place.logs}. `statera status` shows what runs, `statera down` stops everything."""


def _answers(api: Bind) -> bool:
    """Whether an API speaks HTTP there."""
    connection = HTTPConnection(home.local(api).host, api.port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < HTTPStatus.INTERNAL_SERVER_ERROR
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
