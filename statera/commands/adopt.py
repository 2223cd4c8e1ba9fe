# SPDX-License-Identifier: Apache-2.0
"""`statera adopt`: takes load balancers over from another Octavia, and moves them to our amphorae one by one."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from msgspec import Struct, structs
from oslo_config import cfg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from statera.commands import build, home
from statera.commands.home import Home
from statera.config import Settings, load
from statera.controller.observe import observe
from statera.controller.perform import perform
from statera.controller.plan import plan
from statera.controller.reconcile import ACTIONS
from statera.controller.steps import FinishDelete
from statera.controller.world import World
from statera.drivers.cloud import Cloud
from statera.drivers.compute.theirs import LeftAlone, Machines, NovaMachines
from statera.drivers.protocols import Caller
from statera.errors import DriverError, SetupError, TryAgain
from statera.model import pem
from statera.store import adopted, adoption
from statera.store.adopted import Adopted, Outcome, State
from statera.store.adoption import Found
from statera.store.engine import Store
from statera.store.migrations import require_schema
from statera.store.passes import Lease
from statera.store.secrets import Kept, sealed

Item = TypeVar("Item")
POLL_SECONDS = 0.2


class Choice(Struct, frozen=True, kw_only=True):
    """Which load balancers are meant: all where nothing is said."""

    project: str | None = None
    ids: tuple[str, ...] = ()

    def means(self, one: Found | Adopted, id: str) -> bool:
        return self.project in (None, one.project_id) and (not self.ids or bool({id, one.name} & set(self.ids)))


@click.command()
@home.state_option
@click.option("--config-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Configuration, where Statera does not run by `statera up`.")
@click.option("--from", "source", help="SQLAlchemy URL of the other Octavia's database.")
@click.option("--project", help="Only load balancers of this project.")
@click.option("--load-balancer", "names", multiple=True, help="Only this one, by id or name; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--import-only", is_flag=True, help="Take them over, but move none.")
@click.option("--pause", is_flag=True, help="Move no more of them, also where another `statera adopt` is at it.")
@click.option("--back", is_flag=True, help="Let the other Octavia's machines serve them again.")
@click.option("--force", is_flag=True, help="With --back: although they were changed here since.")
@click.option("--leave-machines", is_flag=True, help="Neither stop nor start the other Octavia's servers.")
@click.option("--patience", default=300.0, show_default=True, help="Seconds in which a moved one has to serve.")
def adopt(
    state: Path, config_file: Path | None, source: str | None, project: str | None, names: tuple[str, ...],
    dry_run: bool, import_only: bool, pause: bool, back: bool, force: bool, leave_machines: bool, patience: float,
) -> None:
    """Take load balancers over from another Octavia, with their ids, addresses and ports, and move them here.

    They keep being served by the other Octavia's machines until each is moved: then ours are made, and theirs
    stopped. The command may be stopped and given again at any time.
    """
    settings = settings_of(state, config_file)
    choice = Choice(project=project, ids=names)
    with ready(settings, leave_machines=leave_machines, patience=patience) as desk:
        if pause:
            click.echo(f"{desk.pause(choice)} load balancers will not be moved until `statera adopt` is given again")
        elif back:
            desk.bring_back(choice, force=force)
        elif source is None:
            raise click.UsageError("--from is needed: the URL of the other Octavia's database")
        else:
            desk.adopt(read(source), choice, dry_run=dry_run, import_only=import_only)


def settings_of(state: Path, config_file: Path | None) -> Settings:
    if config_file is None:
        return home.read(Home(state))
    return load(cfg.ConfigOpts(), [], prog="statera", files=[str(config_file)])


@contextmanager
def ready(settings: Settings, *, leave_machines: bool, patience: float) -> Iterator["Desk"]:
    store = build.open_store(settings)
    require_schema(store)
    try:
        machines = LeftAlone() if leave_machines else machines_of(settings)
        yield Desk(settings, build.world(settings, store), machines, patience)
    finally:
        store.close()


def machines_of(settings: Settings) -> Machines:
    """Nova's servers where there is a Nova, and otherwise nobody's."""
    if not settings.service_auth.auth_url:
        return LeftAlone()
    return NovaMachines(Cloud(settings.service_auth).service("compute", "Nova", settings.nova))


def read(source: str) -> Mapping[str, list[adoption.Row]]:
    """All that the other database holds. Raise `SetupError` when it cannot be read."""
    try:
        engine = create_engine(source)
        with engine.connect() as connection:
            return adoption.read(connection)
    except (ArgumentError, SQLAlchemyError, ModuleNotFoundError) as error:
        raise SetupError(f"cannot read --from: {error}") from error


class Desk(Struct, frozen=True):
    """Does the work; *patience* is how many seconds a load balancer may take to be served by ours."""

    settings: Settings
    world: World
    machines: Machines
    patience: float

    @property
    def store(self) -> Store:
        return self.world.store

    # Coming in.

    def adopt(
        self, there: Mapping[str, list[adoption.Row]], choice: Choice, *, dry_run: bool, import_only: bool
    ) -> None:
        found = [one for one in adoption.load_balancers(there) if choice.means(one, one.id)]
        if dry_run:
            self._tell(found)
            return
        with self.store.write() as connection:
            added = adopted.add_offers(connection, adoption.offers(there))
        click.echo(f"{added} flavors, zones, their profiles and quotas added")
        outcomes = Counter(self._take(one) for one in _shown("taking over", found))
        click.echo(", ".join(f"{count} {word}" for word, count in sorted(outcomes.items())) or "nothing to take over")
        if not import_only:
            self._resume(choice)
            self._move(choice)

    def _tell(self, found: Sequence[Found]) -> None:
        table = Table("id", "name", "provider", "listeners", "pools", "members", "machines", "remark", box=None)
        for one in found:
            counts = [str(len(one.rows.get(name, ()))) for name in ("listeners", "pools", "members")]
            remark = one.problem or self._secrets(one)[1] or "can be taken over"
            table.add_row(one.id, one.name, one.provider, *counts, str(len(one.machines)), remark)
        Console(width=200).print(table)
        click.echo(f"{len(found)} load balancers; nothing was changed")

    def _take(self, one: Found) -> str:
        if one.problem:
            click.echo(f"{one.id} {one.name}: {one.problem}", err=True)
            return "left out"
        secrets, problem = self._secrets(one)
        with self.store.write() as connection:
            outcome = adopted.take(connection, one, secrets, problem=problem)
        if outcome is Outcome.TAKEN:
            click.echo(f"{one.id} {one.name}: lives here already, and has changed there since", err=True)
        return str(outcome)

    def _secrets(self, one: Found) -> tuple[dict[str, Kept], str]:
        """What its references hold, sealed; and which cannot be had, without which it cannot be moved."""
        store, sealer = build.secrets(self.settings, self.store), build.sealer(self.settings)
        caller, kept = Caller(project_id=one.project_id), {}
        for ref in one.references:
            payload = store.fetch(ref, caller) if store else None
            material = pem.read(payload, now=datetime.now(UTC)) if payload else None
            if material is None or material.problem or sealer is None:
                return {}, f"its secret {ref} cannot be read"
            kept[ref] = sealed(material, sealer)
        return kept, ""

    # Moving.

    def pause(self, choice: Choice) -> int:
        return self._turn(choice, to=State.PAUSED, of=State.WAITING)

    def _resume(self, choice: Choice) -> None:
        self._turn(choice, to=State.WAITING, of=State.PAUSED)

    def _turn(self, choice: Choice, *, to: State, of: State) -> int:
        ids = [one.load_balancer_id for one in self._chosen(choice)]
        with self.store.write() as connection:
            return adopted.pause(connection, ids, to=to, of=of)

    def _chosen(self, choice: Choice) -> list[Adopted]:
        with self.store.read() as connection:
            return [one for one in adopted.find(connection) if choice.means(one, one.load_balancer_id)]

    def _one(self, id: str) -> Adopted | None:
        with self.store.read() as connection:
            return next(iter(adopted.find(connection, id)), None)

    def _move(self, choice: Choice) -> None:
        """One after another; the first that does not come to serve ends it, before more suffer."""
        chosen = [one.load_balancer_id for one in self._chosen(choice) if one.state in UNDER_WAY]
        for id in _shown("moving", chosen):
            self._move_one(id)
        moved = [one for one in self._chosen(choice) if one.state is State.MOVED]
        click.echo(f"{len(moved)} of {len(self._chosen(choice))} are served by this service alone")

    def _move_one(self, id: str) -> None:
        """From wherever it is to MOVED; one that somebody paused, or whose secrets are missing, stays."""
        while (one := self._one(id)) is not None and one.state in STEPS:
            if one.problem and one.state is State.WAITING:
                click.echo(f"{id} {one.name}: is not moved: {one.problem}", err=True)
                return
            STEPS[one.state](self, one)

    def _begin(self, one: Adopted) -> None:
        with self.store.write() as connection:
            if adopted.set_state(connection, one.load_balancer_id, State.MOVING, only_from=State.WAITING):
                adopted.hand_over(connection, one.load_balancer_id)

    def _await_ours(self, one: Adopted) -> None:
        end = time.monotonic() + self.patience
        while not (now := self._one(one.load_balancer_id)) or not now.runs:
            if now is None or now.state is not State.MOVING:
                return
            if time.monotonic() > end:
                raise SetupError(
                    f"{one.load_balancer_id} {one.name} is not served by our amphorae after {self.patience:.0f} s; "
                    f"`statera lb explain {one.load_balancer_id}` says why, `statera adopt --back --load-balancer "
                    f"{one.load_balancer_id}` gives it back. Theirs still serve it, and no other was touched")
            _pause(POLL_SECONDS)
        self._go(one, State.SERVING)

    def _stop_theirs(self, one: Adopted) -> None:
        for machine in one.machines:
            if machine["compute_id"]:
                self._ask(self.machines.stop, one, str(machine["compute_id"]))
        self._go(one, State.MOVED)

    def _go(self, one: Adopted, to: State) -> None:
        with self.store.write() as connection:
            adopted.set_state(connection, one.load_balancer_id, to, only_from=one.state)

    def _ask(self, ask: Callable[[str], None], one: Adopted, compute_id: str) -> None:
        try:
            ask(compute_id)
        except DriverError as error:
            with self.store.write() as connection:
                adopted.note(connection, one.load_balancer_id, str(error))
            raise SetupError(f"{one.load_balancer_id} {one.name}: {error}") from error

    # The way back.

    def bring_back(self, choice: Choice, *, force: bool) -> None:
        """Theirs first, then ours go: nobody is without. Changes that were made here are not known over there."""
        away = [one for one in self._chosen(choice) if one.state in RETURNABLE and one.machines]
        changed = [one for one in away if self._changes(one)]
        if changed and not force:
            raise SetupError(
                f"{len(changed)} of them were changed here since, which the other Octavia does not know of: "
                f"{', '.join(one.load_balancer_id for one in changed[:5])}; --force brings them back all the same")
        for one in _shown("bringing back", away):
            self._bring_back(one)
        click.echo(f"{len(away)} load balancers are served by the other Octavia's machines again")

    def _changes(self, one: Adopted) -> int:
        with self.store.read() as connection:
            return adopted.wishes_since(connection, one.load_balancer_id)

    def _bring_back(self, one: Adopted) -> None:
        self._go(one, State.RETURNING)
        for machine in one.machines:
            if machine["compute_id"]:
                self._ask(self.machines.start, one, str(machine["compute_id"]))
        with self.store.write() as connection:
            lease = adopted.take_back(connection, one.load_balancer_id)
        self._ask(lambda _id: self._remove_ours(lease), one, "")
        with self.store.write() as connection:
            adopted.rest(connection, one.load_balancer_id)
            adopted.set_state(connection, one.load_balancer_id, State.PAUSED, only_from=State.RETURNING)

    def _remove_ours(self, lease: Lease) -> None:
        """As a delete would, but for the VIP, which stays."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            desired, seen = observe(self.world, lease.load_balancer_id)
            steps = plan(structs.replace(desired, deleting=True), seen) if desired else []
            if desired is None or steps == [FinishDelete()]:
                return
            for step in steps:
                if isinstance(step, ACTIONS):
                    perform(step, desired, self.world, lease=lease)
            _pause(POLL_SECONDS)
        raise TryAgain("not_gone", f"our amphorae are not gone after {self.patience:.0f} s; "
                       "the same command goes on with it")


STEPS: Mapping[State, Callable[[Desk, Adopted], None]] = {
    State.WAITING: Desk._begin, State.MOVING: Desk._await_ours, State.SERVING: Desk._stop_theirs,
}
UNDER_WAY = tuple(STEPS)
RETURNABLE = (State.MOVING, State.SERVING, State.MOVED, State.RETURNING)
_pause = threading.Event().wait


def _shown(what: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, with a bar that says how many are done."""
    with Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=len(items))
