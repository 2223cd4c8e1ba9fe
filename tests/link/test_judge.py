# SPDX-License-Identifier: Apache-2.0
"""Nodes that fall silent: one is lost, all at once are not, and an agent that restarts was never away."""

import asyncio
import time

import pytest
from sqlalchemy.exc import OperationalError

from statera.fleet.judge import Judge
from statera.fleet.verdict import Patience
from statera.store import nodes, reports, tables
from statera.wire import Hello

GRACE = 6.0


class Bench:
    """A judge whose clock the test moves; *heard* is when each connected node was last heard."""

    def __init__(self, world, count):
        self.world = world
        self.start = self.now = time.monotonic()
        self.ids = [world.identity(f"node-{number}").node_id for number in range(count)]
        self.heard = {}
        self.parted = []
        self.judge = Judge(
            world.store, "hm", "host", patience=Patience(grace_seconds=GRACE), threads=None,
            heard_at=lambda: dict(self.heard),
            part=lambda nodes, why: self.parted.extend(nodes))
        with world.store.write() as connection:
            reports.alive(connection, "hm", "host", 60)
            for node_id in self.ids:
                reports.connected(connection, "hm", node_id, Hello(agent_version="1"))

    async def pass_time(self, seconds, *, silent=(), step=1.0):
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.heard.update({node_id: self.now for node_id in self.ids if node_id not in silent})
            await self.judge.hold(self.now)

    def lost(self):
        return [node_id for node_id in self.ids if self.world.row(tables.nodes, node_id).lost_ms is not None]


def test_one_of_three_is_lost_after_the_grace_time_and_its_load_balancers_are_due(world):
    async def story():
        bench = Bench(world, 3)
        victim = bench.ids[0]
        tree = world.balance(victim)
        await bench.pass_time(20)
        await bench.pass_time(GRACE - 1, silent=[victim])
        assert bench.lost() == []
        await bench.pass_time(1, silent=[victim])
        assert bench.lost() == [victim]
        assert bench.parted == [victim]
        assert world.lb(tree).due_ms is not None
        assert world.lb(tree).manager_id is None
        assert "node-0 has not been heard for 6 s" in world.events("node_lost")[0]

    asyncio.run(story())


def test_most_at_once_are_not_lost_but_said_once(world):
    async def story():
        bench = Bench(world, 3)
        await bench.pass_time(20)
        await bench.pass_time(30, silent=bench.ids[:2])
        assert bench.lost() == []
        [said] = world.events("fleet_silent")
        assert said.startswith("2 of 3 nodes fell silent at once, which looks like our own fault")

    asyncio.run(story())


def test_two_of_three_are_lost_after_a_minute_in_which_the_third_was_heard(world):
    async def story():
        bench = Bench(world, 3)
        await bench.pass_time(20)
        await bench.pass_time(59, silent=bench.ids[:2])
        assert bench.lost() == []
        await bench.pass_time(2, silent=bench.ids[:2])
        assert bench.lost() == bench.ids[:2]
        assert world.events("fleet_judged") == [
            "silent nodes are judged again: they stayed silent while others were heard"]

    asyncio.run(story())


def test_when_nobody_is_heard_nobody_is_lost_until_an_operator_says_so(world):
    async def story():
        bench = Bench(world, 3)
        tree = world.balance(bench.ids[0])
        await bench.pass_time(20)
        await bench.pass_time(200, silent=bench.ids)
        assert bench.lost() == []
        with world.store.write() as connection:
            assert reports.give_up(connection, "node-0") == 1
        assert bench.lost() == bench.ids[:1]
        assert world.lb(tree).due_ms is not None
        assert "node node-0 is dead, an operator says" in world.events("node_lost")[0]

    asyncio.run(story())


def test_a_node_that_is_connected_is_not_given_up(world):
    bench = Bench(world, 1)
    with world.store.write() as connection, pytest.raises(nodes.Refused, match="is connected, so it is not dead"):
        reports.give_up(connection, "node-0")
    assert bench.lost() == []


def test_a_judge_that_slept_does_not_blame_others(world):
    async def story():
        bench = Bench(world, 3)
        await bench.pass_time(20)
        await bench.pass_time(60, silent=bench.ids[:1], step=60)
        assert bench.lost() == bench.parted == []
        await bench.pass_time(GRACE, silent=bench.ids[:1])
        assert bench.lost() == bench.ids[:1]

    asyncio.run(story())


def test_while_the_database_is_away_nobody_is_lost_and_in_the_end_nodes_are_sent_elsewhere(world):
    class Away:
        def write(self):
            raise OperationalError("UPDATE", {}, Exception("gone"))

        read = write

    async def story():
        bench = Bench(world, 2)
        await bench.pass_time(20)
        store, bench.judge._store = bench.judge._store, Away()
        await bench.pass_time(12, silent=bench.ids[:1])
        assert set(bench.parted) == set(bench.ids)
        bench.judge._store = store
        await bench.pass_time(GRACE - 1, silent=bench.ids[:1])
        assert bench.lost() == []

    asyncio.run(story())


def test_a_node_that_comes_back_is_not_lost_any_more(world):
    async def story():
        bench = Bench(world, 3)
        tree = world.balance(bench.ids[0])
        await bench.pass_time(20)
        await bench.pass_time(10, silent=bench.ids[:1])
        world.change(tables.load_balancers, tree.lb, due_ms=None)
        with world.store.write() as connection:
            reports.connected(connection, "hm", bench.ids[0], Hello(agent_version="2"))
        assert bench.lost() == []
        assert world.lb(tree).due_ms is not None
        assert world.lb(tree).manager_id == "hm"
        await bench.pass_time(20)
        assert bench.lost() == []

    asyncio.run(story())


def test_a_pair_is_vouched_for_by_who_still_hears_one_of_it(world):
    async def story():
        bench = Bench(world, 3)
        tree = world.balance(*bench.ids[:2])
        await bench.pass_time(20)
        with world.store.write() as connection:
            reports.alive(connection, "hm-2", "host-2", 600)
            reports.connected(connection, "hm-2", bench.ids[1], Hello(agent_version="1"))
            reports.connected(connection, "hm", bench.ids[0], Hello(agent_version="1"))
        await bench.pass_time(10, silent=bench.ids[:1])
        assert world.lb(tree).manager_id == "hm-2"

    asyncio.run(story())


@pytest.mark.parametrize("pause", [pytest.param(0.3, id="a short pause"), pytest.param(0.0, id="no pause")])
def test_an_agent_that_restarts_was_never_away(world, until, pause):
    identity = world.identity("node-1")

    async def story():
        async with world.service():
            async with world.node(identity) as host:
                tree = world.balance(identity.node_id)
                await until(lambda: world.lb(tree).done_version == 1)
            await asyncio.sleep(pause)
            manager_id = world.lb(tree).manager_id
            async with world.node(identity, running={tree.amphorae[0]: 1}) as host:
                await until(lambda: host.rosters)
                assert world.lb(tree).manager_id == manager_id is not None
            assert world.row(tables.nodes, identity.node_id).lost_ms is None

    asyncio.run(story())


def test_a_node_that_dies_is_lost_within_seconds(world, until, capsys):
    world.configure(grace_seconds=3.0)
    identities = [world.identity(f"node-{number}") for number in range(3)]

    async def story():
        async with world.service(), world.node(identities[0]) as one, world.node(identities[1]) as two:
            async with world.node(identities[2]) as dying:
                await until(lambda: one.rosters and two.rosters and dying.rosters)
            died = time.monotonic()
            await until(lambda: world.row(tables.nodes, identities[2].node_id).lost_ms is not None, seconds=20)
            with capsys.disabled():
                print(f"\nlost {time.monotonic() - died:.1f} s after it died, the grace time is 3 s")

    asyncio.run(story())
