# SPDX-License-Identifier: Apache-2.0
"""`statera rotate`: make amphorae anew, or give them HAProxy's new program, a few load balancers at a time."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sqlalchemy import Connection

from statera.commands import home
from statera.commands.lb import opened, require
from statera.errors import SetupError
from statera.store import nodes, rotations
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.rotations import CANCELLED, DONE, PAUSED, RUNNING, Refused, Rotation, Wanted

UNITS = {"m": 60, "h": 3600, "d": 86_400}
HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
LOOK_SECONDS = 1.0


def age(_ctx: click.Context, _option: click.Parameter, said: str | None) -> timedelta | None:
    """`30d`, `12h`, `90m`."""
    found = re.fullmatch(r"(\d+)([mhd])", said or "")
    if said and found is None:
        raise click.BadParameter(f"{said} is not a number with m, h or d")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]]) if found else None


def hours(_ctx: click.Context, _option: click.Parameter, said: str | None) -> str | None:
    """`22:00-04:00`."""
    if said and not HOURS.fullmatch(said):
        raise click.BadParameter(f"{said} is not like 22:00-04:00")
    return said


@click.group(invoke_without_command=True)
@click.pass_context
@home.state_option
@click.option("--all", "everything", is_flag=True, help="All amphorae take up HAProxy's program anew.")
@click.option("--older-than", callback=age, help="Those made so long ago: 30d, 12h.")
@click.option("--agent", "agent_version", help="Those whose node runs another agent than this version.")
@click.option("--haproxy", "haproxy_version", help="Those that run another HAProxy than this version.")
@click.option("--image", "image_id", help="Those made from another image than this id.")
@click.option("--certificates-within", callback=age, help="Those whose certificate runs out so soon.")
@click.option("--replace", is_flag=True, help="Make them anew, even where a program could be exchanged in place.")
@click.option("--load-balancer", help="Of this one alone.")
@click.option("--node", help="On this one alone.")
@click.option("--max-unavailable", default=1, show_default=True, type=click.IntRange(1),
              help="Load balancers that are under way at once.")
@click.option("--window", callback=hours, help="Only in these hours, by the workers' clock: 22:00-04:00.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--no-wait", is_flag=True, help="Do not watch it to its end.")
@click.option("--pause", "turned", flag_value=PAUSED, help="Begin with no more until it is resumed.")
@click.option("--resume", "turned", flag_value=RUNNING, help="Go on.")
@click.option("--cancel", "turned", flag_value=CANCELLED, help="Begin with no more, for good.")
def rotate(
    ctx: click.Context, state: Path, everything: bool, older_than: timedelta | None, agent_version: str | None,
    haproxy_version: str | None, image_id: str | None, certificates_within: timedelta | None, replace: bool,
    load_balancer: str | None, node: str | None, max_unavailable: int, window: str | None, dry_run: bool,
    no_wait: bool, turned: str | None,
) -> None:
    """Make amphorae anew, a few load balancers at a time, while all of them serve.

    HAProxy's program is exchanged in place, by a reload; for the rest a new amphora takes over from the old.
    Ctrl-C ends the watching, not the rotation.
    """
    if ctx.invoked_subcommand is not None:
        return
    with opened(state) as (_, store):
        if turned:
            with store.write() as connection:
                show(_guarded(lambda: rotations.turn(connection, turned)), 0)
            return
        now = utc_now()
        wanted = Wanted(
            everything=everything, agent_version=agent_version, haproxy_version=haproxy_version, image_id=image_id,
            created_after=now - older_than if older_than else None, replace=replace,
            certificate_until=now + certificates_within if certificates_within else None)
        if wanted == Wanted(replace=replace):
            raise SetupError("say which amphorae: --all, --older-than, --agent, --haproxy …; `--help` shows all")
        with store.write() as connection:
            rotation = rotations.new(
                wanted, max_unavailable=max_unavailable, hours=window,
                load_balancer_id=require(connection, load_balancer) if load_balancer else None,
                node_id=_node(connection, node) if node else None)
            if dry_run:
                preview(rotations.concerned(connection, rotation))
                return
            rotation = _guarded(lambda: rotations.begin(connection, rotation))
        click.echo(f"{rotation.total} amphorae are to be rotated")
        if not no_wait:
            watch(store, rotation)


@rotate.command()
@home.state_option
def status(state: Path) -> None:
    """Say how far the latest rotation is."""
    with opened(state) as (_, store), store.read() as connection:
        rotation = rotations.latest(connection)
        if rotation is None:
            click.echo("there has been no rotation")
            return
        left = rotations.concerned(connection, rotation) if rotation.ended_at is None else []
        show(rotation, len(left))


def show(rotation: Rotation, left: int) -> None:
    over = rotation.ended_at is not None
    done = "" if over else f", {rotation.total - left} of {rotation.total} done"
    hours = f", only {rotation.hours}" if rotation.hours and not over else ""
    pace = f"{rotation.max_unavailable} load balancers at once{hours}"
    click.echo(f"{rotation.state}{done}: {rotation.total} amphorae, {pace}")


def preview(concerned: list[rotations.Concerned]) -> None:
    balancers = {one.load_balancer_id for one in concerned}
    click.echo(f"{len(concerned)} amphorae of {len(balancers)} load balancers would be rotated")
    for one in concerned:
        click.echo(f"  amphora {one.amphora_id} of load balancer {one.load_balancer_id}")


def watch(store: Store, rotation: Rotation) -> None:
    """A progress bar until it is over."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(RUNNING, total=rotation.total)
        while True:
            with store.read() as connection:
                now = rotations.latest(connection)
                if now is None or now.id != rotation.id or now.ended_at is not None:
                    break
                left = len(rotations.concerned(connection, now))
            progress.update(task, completed=rotation.total - left, description=now.state)
            threading.Event().wait(LOOK_SECONDS)
        progress.update(task, completed=rotation.total if now and now.state == DONE else None)
    click.echo(now.state if now else DONE)


def _guarded(act: Callable[[], Rotation]) -> Rotation:
    try:
        return act()
    except Refused as error:
        raise SetupError(str(error)) from error


def _node(connection: Connection, name: str) -> str:
    node_id = nodes.find(connection, name)
    if node_id is None:
        raise SetupError(f"there is no node {name}; `statera node list` shows them")
    return node_id
