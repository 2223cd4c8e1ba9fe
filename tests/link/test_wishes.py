# SPDX-License-Identifier: Apache-2.0
"""A wish reaches the node that is to run it, and what the node says reaches the store."""

import asyncio
import time
from functools import partial

import aiohttp
from aiohttp import WSMsgType

from statera.store import tables
from statera.wire import Gone, Hello, Roster, decode_down, encode


def test_a_new_load_balancer_becomes_active_when_its_node_runs_it(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.service(), world.node(identity) as host:
            await until(lambda: host.rosters)
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            spec = host.specs[tree.amphorae[0]]
            assert [member.id for member in spec.pools[0].members] == [tree.member]
            assert host.rosters[-1].amphorae == (tree.amphorae[0],)
            assert host.rosters[-1].networks[0].bridge == "st-net1"
            await until(lambda: world.lb(tree).reported_status == "ONLINE")

    asyncio.run(story())


def test_a_member_change_is_on_the_wire_within_milliseconds(world, until, capsys):
    identity = world.identity("node-1")
    waits = []

    async def story():
        async with world.service(), world.node(identity) as host:
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            for weight in range(2, 32):
                version = await asyncio.to_thread(world.wish, tree, weight=weight)
                committed = time.monotonic()
                await until(partial(host.put_at.__contains__, (tree.amphorae[0], version)))
                waits.append((host.put_at[tree.amphorae[0], version] - committed) * 1000)
            await until(lambda: world.lb(tree).done_version == version)

    asyncio.run(story())
    waits.sort()
    with capsys.disabled():
        print(f"\ncommit to Put at the node: median {waits[15]:.1f} ms, worst of 30 {waits[-1]:.1f} ms")
    assert waits[15] < 50


def test_a_spec_that_cannot_be_applied_shows_why_until_it_can(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.service(), world.node(identity) as host:
            host.refuses = "port 80 is taken"
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).failed_version == 1)
            assert world.lb(tree).failure == "port 80 is taken"
            assert world.events("not_applied") == ["port 80 is taken"]
            host.refuses = None
            await host.put(host.specs[tree.amphorae[0]])
            await until(lambda: world.lb(tree).done_version == 1)
            assert world.lb(tree).failed_version is None

    asyncio.run(story())


def test_what_a_node_says_it_runs_counts_even_if_its_word_was_lost(world, until):
    identity = world.identity("node-1")
    tree = world.balance(identity.node_id)

    async def story():
        async with world.service(), world.node(identity, running={tree.amphorae[0]: 1}) as host:
            await until(lambda: world.lb(tree).done_version == 1)
            assert not host.specs

    asyncio.run(story())


def test_an_amphora_that_leaves_is_gone_when_its_node_says_so(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.service(), world.node(identity) as host:
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            world.change(tables.amphorae, tree.amphorae[0], leaving=True)
            world.wish(tree)
            await until(lambda: host.rosters[-1].amphorae == ())
            assert not world.row(tables.amphorae, tree.amphorae[0]).gone
            host.emit(Gone(amphora_id=tree.amphorae[0]))
            await until(lambda: world.row(tables.amphorae, tree.amphorae[0]).gone)
            assert world.lb(tree).due_ms is not None

    asyncio.run(story())


def test_an_amphora_that_leaves_a_node_without_it_is_gone_at_once(world, until):
    identity = world.identity("node-1")
    tree = world.balance(identity.node_id)
    world.change(tables.amphorae, tree.amphorae[0], leaving=True)

    async def story():
        async with world.service(), world.node(identity):
            await until(lambda: world.row(tables.amphorae, tree.amphorae[0]).gone)

    asyncio.run(story())


def test_a_node_is_told_everything_again_after_the_health_manager_restarts(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.node(identity) as host:
            async with world.service():
                await until(lambda: host.rosters)
            tree = world.balance(identity.node_id)
            started = time.monotonic()
            async with world.service():
                await until(lambda: world.lb(tree).done_version == 1)
                print(f"\nreconnected and applied {time.monotonic() - started:.2f} s after the restart")

    asyncio.run(story())


def test_a_node_whose_agent_cannot_read_the_spec_says_so(world, until):
    identity = world.identity("node-1")
    tree = world.balance(identity.node_id)

    async def story():
        async with world.service(), aiohttp.ClientSession() as client:
            url = f"wss://127.0.0.1:{world.port}/v1/link"
            async with client.ws_connect(url, ssl=identity.tls_context()) as ws:
                hello = Hello(agent_version="0.0.1", hostname="old-1", spec_versions=(0,))
                await ws.send_frame(encode(hello), WSMsgType.TEXT)
                assert isinstance(decode_down((await ws.receive(timeout=5)).data), Roster)
                await until(lambda: world.lb(tree).failure is not None)
        assert "agent 0.0.1 on old-1 is too old" in world.lb(tree).failure

    asyncio.run(story())


def test_a_node_is_welcome_before_its_many_specs_are_read(world, until):
    identity = world.identity("node-1")
    trees = [world.balance(identity.node_id) for _ in range(50)]

    async def story():
        async with world.service() as service, world.node(identity) as host:
            await until(lambda: host.rosters)
            session = service.sessions[identity.node_id]
            assert len(host.rosters[0].amphorae) == len(trees)
            assert len(host.specs) < len(trees)
            await until(lambda: len(host.specs) == len(trees))
            await until(lambda: all(world.lb(tree).done_version == 1 for tree in trees))
            assert session.early == []

    asyncio.run(story())
