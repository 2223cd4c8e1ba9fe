# SPDX-License-Identifier: Apache-2.0
"""`statera`: all of it on one host, by a few words. Each command is imported when it is used."""

import importlib
import sys

import click

from statera.errors import StateraError

COMMANDS = {
    "up": ("statera.commands.up:up", "Run load balancing on this host, until Ctrl-C."),
    "down": ("statera.commands.down:down", "Stop it, the load balancers' traffic too."),
    "status": ("statera.commands.status:status", "Show services, nodes and load balancers."),
    "node": ("statera.commands.node:node", "Let hosts join, drain and leave."),
    "secret": ("statera.commands.secret:secret", "Keep certificates for listeners and pools."),
    "key": ("statera.commands.key:key", "Show and exchange the key that seals secrets."),
    "ca": ("statera.commands.ca:ca", "Show and exchange the authority that certifies nodes."),
    "orphans": ("statera.commands.orphans:orphans", "Show what was made for load balancers that are no more."),
    "backup": ("statera.commands.backup:backup", "Write all that the database holds into a file."),
    "restore": ("statera.commands.backup:restore", "Put a backup into the place of the database."),
    "rotate": ("statera.commands.rotate:rotate", "Make amphorae anew, a few load balancers at a time."),
    "openstack": ("statera.commands.openstack:cloud", "Prepare an OpenStack cloud, check it, take it back."),
    "doctor": ("statera.commands.openstack:doctor", "Look whether an OpenStack cloud has all that is needed."),
    "image": ("statera.commands.image:image", "Make the machine image of amphorae, and give it to Glance."),
    "adopt": ("statera.commands.adopt:adopt", "Take load balancers over from another Octavia."),
    "lb": ("statera.commands.log:lb", "Say what happens to a load balancer and why."),
}


class Lazy(click.Group):
    """A group that knows its commands' names and help, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def statera() -> None:
    """Load balancing as a service that speaks OpenStack Octavia's API."""


def main() -> None:
    """The entry point: what we raise on purpose becomes one sentence and exit status 1."""
    try:
        statera.main(prog_name="statera", auto_envvar_prefix="STATERA")
    except StateraError as error:
        sys.exit(f"statera: {error}")
