# SPDX-License-Identifier: Apache-2.0
"""`statera adopt` may be killed at every call and commit: nothing is half here, and it goes on, or back.

The workers live on, as they would. Whoever dies is the command alone.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from adopt.test_adopt import Here
from compat.conftest import World
from mortal import Death, Fuse, Mortal, MortalStore
from msgspec import structs

from statera.commands.adopt import Choice, Desk, read
from statera.config import ControllerWorker
from statera.controller.queue import Queue
from statera.store import adopted
from statera.store.adopted import State

STRIDE = 7
"""Of so many points of death one is tried; runs begin at different ones, so together they try all."""
CHOICE = Choice(ids=("lb-1",))


class Cursed(Here):
    """The same desk, given again and again to commands that die at a point of their own."""

    def __init__(self, world: World, there: Mapping[str, Any], *, dies_at: int) -> None:
        super().__init__(world, None)
        self.there, self.fuse, self.deaths = there, Fuse(dies_at), 0

    def command(self) -> Desk:
        store: Any = MortalStore(self.world.store, self.fuse)
        outside = structs.replace(
            self.outside, store=store, compute=Mortal(self.outside.compute, self.fuse),
            network=Mortal(self.outside.network, self.fuse))
        machines: Any = Mortal(self.machines, self.fuse)
        return Desk(self.desk.settings, outside, machines, 20.0)

    def adopt(self) -> None:
        self.command().adopt(self.there, CHOICE, dry_run=False, import_only=False)

    def back(self) -> None:
        self.command().bring_back(CHOICE, force=False)

    def live(self, command: Callable[[], None]) -> None:
        """Give the command again after its death; look before at what that left."""
        try:
            command()
        except Death:
            self.deaths += 1
            self.check()
            command()

    def check(self) -> None:
        """It is here with all that hangs on it or not at all, and somebody serves it."""
        shown = self.world.get("/loadbalancers")["loadbalancers"]
        if not shown:
            return
        assert [lb["name"] for lb in shown] == ["lb-1"]
        assert self.hanging() == self.expected()
        with self.world.store.read() as connection:
            [one] = adopted.find(connection)
        if self.machines.stopped:
            assert one.state in (State.SERVING, State.MOVED, State.RETURNING)
            assert self.amphorae()

    def hanging(self) -> dict[str, int]:
        return {kind: len(self.world.get(f"/{kind}")[kind]) for kind in KINDS}

    def expected(self) -> dict[str, int]:
        [row] = [one for one in self.there["load_balancer"] if one["name"] == "lb-1"]
        return {kind: sum(one["load_balancer_id"] == row["id"] for one in self.there[table])
                for kind, table in KINDS.items()}

    def is_back(self) -> bool:
        """As it came: theirs serve, nothing of ours is left, and no worker would touch it."""
        idle = Queue(self.outside, ControllerWorker(), owner="another").run_once() is None
        return (self.machines.stopped, self.amphorae(), idle) == ([], [], True)


KINDS = {"listeners": "listener", "pools": "pool"}


@pytest.fixture(scope="module")
def there(newest: str) -> Mapping[str, Any]:
    return read(newest)


def each_death(worlds: Callable[..., World], there: Mapping[str, Any], story: Callable[[Cursed], None]) -> int:
    for dies_at in count(uuid4().int % STRIDE + 1, STRIDE):
        here = Cursed(worlds(), there, dies_at=dies_at)
        with here.workers():
            story(here)
        if not here.deaths:
            return dies_at
    raise AssertionError("nobody counts so far")


def test_given_again_it_goes_on(worlds: Callable[..., World], there: Mapping[str, Any]) -> None:
    def story(here: Cursed) -> None:
        here.live(here.adopt)
        assert len(here.machines.stopped) == len(here.amphorae()) == 1
        assert here.named("lb-1")["provisioning_status"] == "ACTIVE"
        here.live(here.back)
        assert here.is_back()

    points = each_death(worlds, there, story)
    print(f"\ndied at every {STRIDE}th of {points} points")
    assert points > 40


def test_from_wherever_it_died_there_is_a_way_back(worlds: Callable[..., World], there: Mapping[str, Any]) -> None:
    def story(here: Cursed) -> None:
        try:
            here.adopt()
        except Death:
            here.deaths += 1
            here.check()
        here.fuse.left = 0  # nobody dies any more
        here.back()
        assert here.is_back()
        here.adopt()
        assert len(here.machines.stopped) == len(here.amphorae()) == 1

    assert each_death(worlds, there, story) > 20
