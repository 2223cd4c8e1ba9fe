# SPDX-License-Identifier: Apache-2.0
"""`script/bench NAME`: each suite is a module with a command; only the one that runs is loaded."""

import signal
import sys
from importlib import import_module

import click

SUITES = {
    "main-job": "benchmarks.main_job",
    "soak": "benchmarks.soak",
    "vrrp": "benchmarks.vrrp",
    "failover": "benchmarks.failover",
    "api": "benchmarks.peers.api",
    "control-plane": "benchmarks.peers.control",
    "data-plane": "benchmarks.peers.data_plane",
    "growth": "benchmarks.peers.growth",
    "health": "benchmarks.peers.health",
    "limits": "benchmarks.limits",
    "footprint": "benchmarks.footprint",
    "fleet": "benchmarks.fleet",
    "targets": "benchmarks.targets",
}


class Suites(click.Group):
    """The table above as commands."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(SUITES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return import_module(SUITES[name]).main if name in SUITES else None


@click.group(cls=Suites, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Measure what Statera promises on this host; without a NAME the main job."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # what was started is ended too
    if context.invoked_subcommand is None:
        context.invoke(import_module(SUITES["main-job"]).main, only=(), short=False, file=None, docs=None)


if __name__ == "__main__":
    main(prog_name="script/bench")
