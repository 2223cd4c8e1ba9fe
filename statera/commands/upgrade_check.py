# SPDX-License-Identifier: Apache-2.0
"""octavia-status upgrade check: can this release start here? Exit status 0, 1 for a warning, 2 for a failure."""

import shutil
import subprocess
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable, Sequence
from enum import IntEnum

from oslo_config import cfg

from statera.commands import build, octavia_options, start
from statera.config import Settings
from statera.errors import SetupError

PROG = "octavia-status"


class Result(IntEnum):
    """Also the exit status: the worst one counts."""

    SUCCESS = 0
    WARNING = 1
    FAILURE = 2


Finding = tuple[Result, str]


def main() -> None:
    start.run(PROG, check, options=OPTIONS)


def check(settings: Settings, conf: cfg.ConfigOpts) -> None:
    """Print one line per check and end with the status of the worst."""
    findings = {name: examine(settings) for name, examine in CHECKS.items()}
    findings["Options"] = options(conf.config_file or ())
    for name, (result, text) in findings.items():
        print(f"{name + ':':12} {result.name.title():8} {text}")
    sys.exit(max(result for result, _ in findings.values()))


def schema(settings: Settings) -> Finding:
    """The database has this release's schema."""
    try:
        with build.current(settings):
            return Result.SUCCESS, "has the schema of this release"
    except SetupError as error:
        return Result.FAILURE, str(error)


def drivers(settings: Settings) -> Finding:
    """The configured drivers exist."""
    try:
        with build.opened(settings) as store:
            build.compute(settings, store), build.network(settings, store)
    except SetupError as error:
        return Result.FAILURE, str(error)
    return Result.SUCCESS, f"compute {settings.controller_worker.compute_driver}, network " + (
        settings.controller_worker.network_driver)


def options(files: Sequence[str]) -> Finding:
    """Every option in the files means something here."""
    gone, unknown = octavia_options.judged(octavia_options.written(files))
    lines = [*(f"{name} means nothing here: {words}" for name, words in gone.items()),
             *(f"{name} is not known" for name in unknown)]
    if lines:
        return Result.WARNING, "".join(f"\n    {line}" for line in lines)
    return Result.SUCCESS, f"all in {', '.join(files) or 'no file'} mean something"


def haproxy(settings: Settings) -> Finding:
    """HAProxy is installed, which only nodes need."""
    program = shutil.which(settings.haproxy_amphora.haproxy_cmd)
    if program is None:
        return Result.WARNING, f"{settings.haproxy_amphora.haproxy_cmd} is not here: this host cannot be a node"
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stdout
    return Result.SUCCESS, said.splitlines()[0] if said else program


CHECKS: dict[str, Callable[[Settings], Finding]] = {"Database": schema, "Drivers": drivers, "HAProxy": haproxy}


def _add_commands(parsers: "_SubParsersAction[ArgumentParser]") -> None:
    upgrade = parsers.add_parser("upgrade", help="what to know before an upgrade")
    upgrade.add_subparsers(dest="action", required=True).add_parser("check", help=check.__doc__)


OPTIONS = [cfg.SubCommandOpt("command", title="commands", handler=_add_commands)]
