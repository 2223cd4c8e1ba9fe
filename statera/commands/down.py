# SPDX-License-Identifier: Apache-2.0
"""`statera down`: stop the services and then the data plane; `--purge` forgets everything."""

import os
import select
import signal
from pathlib import Path

import click

from statera.agent.teardown import teardown
from statera.commands import home
from statera.commands.home import Home
from statera.errors import SetupError

STOP_SECONDS = 60.0


@click.command()
@home.state_option
@click.option("--purge", is_flag=True, help="Remove the state folder too: networks, load balancers, users.")
def down(state: Path, purge: bool) -> None:
    """Stop the services, and the load balancers of this host with them.

    Without --purge, `statera up` brings all of it back.
    """
    place = Home(state)
    home.read(place)
    if pid := home.holder(place):
        stop(pid)
        click.echo(f"services stopped (process {pid})")
    for line in teardown(place.state):
        click.echo(line)
    if purge:
        home.remove(place)
        click.echo(f"{place.state} removed")


def stop(pid: int) -> None:
    """End the process that runs the services and wait until it is gone; raise `SetupError` if it stays."""
    with open(os.pidfd_open(pid), "rb") as process:
        os.kill(pid, signal.SIGTERM)
        ended, _, _ = select.select((process,), (), (), STOP_SECONDS)
    if not ended:
        raise SetupError(f"process {pid} has not ended after {STOP_SECONDS:g} s; end it, then try again")
