# SPDX-License-Identifier: Apache-2.0
"""octavia-db-manage: bring the database's schema to what this release needs."""

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable, Mapping

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from oslo_config import cfg

from statera.commands import build, start
from statera.config import Settings
from statera.errors import SetupError
from statera.store import measures
from statera.store.engine import Store
from statera.store.migrations import require_schema
from statera.store.migrations.upgrade import alembic_config

PROG = "octavia-db-manage"


def main() -> None:
    start.run(PROG, manage, options=OPTIONS)


def manage(settings: Settings, conf: cfg.ConfigOpts) -> None:
    """Run the command that *conf* names."""
    if conf.command.name is None:
        raise SetupError(f"say what to do: {', '.join(COMMANDS)}")
    try:
        with build.opened(settings) as store:
            COMMANDS[conf.command.name](store, conf.command)
    except CommandError as error:
        raise SetupError(str(error)) from error


def upgrade(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Upgrade to a revision, or by --delta steps; with --sql only print the statements."""
    revision = f"+{said.delta}" if said.delta else said.revision
    if not revision:
        raise SetupError("say how far to upgrade: `upgrade head`, a revision, or --delta N")
    _run(store, lambda config: command.upgrade(config, revision, sql=said.sql), sql=said.sql, write=True)


def stamp(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Write down that the schema is at a revision, without changing it."""
    _run(store, lambda config: command.stamp(config, said.revision, sql=said.sql), sql=said.sql, write=True)


def revision(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """For developers: start a new migration, with --autogenerate from what store/tables.py has more."""
    _run(store, lambda config: command.revision(config, said.message, autogenerate=said.autogenerate), write=True)


def current(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Print the revision that the database is at."""
    _run(store, lambda config: command.current(config, verbose=said.verbose))


def history(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Print all revisions, newest first."""
    command.history(alembic_config(), verbose=said.verbose)


def branches(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Print where the history forks; it never should."""
    command.branches(alembic_config())


def check_migration(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Fail unless the database has the schema that this program needs."""
    require_schema(store)
    print("The schema is up to date.")


def upgrade_persistence(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Nothing to do: there are no task flows to persist."""
    print("Nothing to do: the database holds no task flows. `upgrade head` is all that is needed.")


def downgrade(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Refused: restore a backup instead."""
    raise SetupError("downgrades are not supported: restore a backup taken before the upgrade")


def statistics(store: Store, said: cfg.ConfigOpts.SubCommandAttr) -> None:
    """Print how many rows each table has, how large the database is and what waits the longest."""
    require_schema(store)
    with store.read() as connection:
        for name, count in measures.rows(connection):
            print(f"{name:28}{count:>12}")
        size = measures.size(connection)
        waits = {name: value for name, _, value in measures.queue(connection)}
    print(f"{'bytes':28}{size if size is not None else 'unknown':>12}")
    print(f"{'load balancers due':28}{waits['statera_due_load_balancers']:>12.0f}")
    print(f"{'the first waits, seconds':28}{waits['statera_due_seconds']:>12.1f}")


Command = Callable[[Store, "cfg.ConfigOpts.SubCommandAttr"], None]
COMMANDS: Mapping[str, Command] = {
    act.__name__: act
    for act in (upgrade, current, history, branches, check_migration, stamp, revision, upgrade_persistence, downgrade,
                statistics)
}


def _add_commands(parsers: "_SubParsersAction[ArgumentParser]") -> None:
    of = {name: parsers.add_parser(name, help=act.__doc__, description=act.__doc__) for name, act in COMMANDS.items()}
    for name in ("upgrade", "downgrade"):
        of[name].add_argument("revision", nargs="?", help="a revision, or head for the newest")
        of[name].add_argument("--delta", type=int, help="number of steps instead")
    of["stamp"].add_argument("revision")
    of["revision"].add_argument("-m", "--message")
    of["revision"].add_argument("--autogenerate", action="store_true")
    for name in ("upgrade", "downgrade", "stamp", "revision"):
        of[name].add_argument("--sql", action="store_true", help="print SQL instead of running it")
    for name in ("current", "history"):
        of[name].add_argument("--verbose", action="store_true")


def _run(store: Store, act: Callable[[Config], object], *, sql: bool = False, write: bool = False) -> None:
    """Let Alembic act on the database; for *sql* on none, it only needs to know which kind."""
    config = alembic_config()
    if sql:
        config.attributes["url"] = str(store.engine.url)
        act(config)
        return
    with store.write() if write else store.read() as connection:
        config.attributes["connection"] = connection
        act(config)


OPTIONS = [cfg.SubCommandOpt("command", title="commands", handler=_add_commands)]
