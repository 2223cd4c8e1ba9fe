# SPDX-License-Identifier: Apache-2.0
"""`statera lb log`: where the lines about a load balancer's connections go."""

from pathlib import Path

import click
from sqlalchemy import select

from statera.api.log_targets import checked
from statera.commands import home
from statera.commands.lb import lb, opened, require
from statera.errors import ApiError, SetupError
from statera.store import events, wishes
from statera.store.events import Event
from statera.store.tables import load_balancers

__all__ = ["lb"]


@lb.command("log")
@home.state_option
@click.argument("name")
@click.option("--to", "url", help="A log server that the amphora reaches: tcp://10.0.0.5:514 or udp://….")
@click.option("--off", is_flag=True, help="Send nothing to a log server of its own any more.")
def log(state: Path, name: str, url: str | None, off: bool) -> None:
    """Show or say where the load balancer NAME sends a line about each of its connections."""
    if url and off:
        raise SetupError("say either --to or --off")
    with opened(state) as (settings, store):
        if url or off:
            target = None if off else accepted(url or "")
            with store.write() as connection:
                id = require(connection, name)
                wishes.change_load_balancer(connection, id, log_target=target)
                wishes.touch(connection, id)
                events.record(connection, Event(
                    load_balancer_id=id, reason="accepted", message=f"log target {target or 'none'}"))
        with store.read() as connection:
            id = require(connection, name)
            now = connection.execute(
                select(load_balancers.c.log_target).where(load_balancers.c.id == id)).scalar_one()
    click.echo(f"log server: {now or 'none'}")
    if not settings.amphora_agent.disable_local_log_storage:
        click.echo(f"files on the nodes: {settings.state}/amphorae/<amphora>/logs")


def accepted(url: str) -> str:
    try:
        return checked(url)
    except ApiError as error:
        raise SetupError(str(error)) from error
