# SPDX-License-Identifier: Apache-2.0
"""What HAProxy says becomes statuses and totals; a fleet that has nothing to say writes nothing."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp import WSMsgType
from sqlalchemy import event, select

from statera.store import tables
from statera.wire import Applied, Counters, Gone, Hello, Report, encode


def words(tree, *, member="UP", pool="UP", listener="OPEN", number=0, **more):
    return Report(
        amphora_id=tree.amphorae[number], full=True, listeners={tree.listener: listener}, pools={tree.pool: pool},
        members={tree.member: member}, **more)


def statuses(world, tree):
    return (
        world.lb(tree).reported_status, world.status(tables.listeners, tree.listener),
        world.status(tables.pools, tree.pool), world.status(tables.members, tree.member),
    )


@pytest.mark.parametrize(("said", "shown"), [
    pytest.param({}, ("ONLINE", "ONLINE", "ONLINE", "ONLINE"), id="all up"),
    pytest.param({"member": "no check"}, ("ONLINE", "ONLINE", "ONLINE", "NO_MONITOR"), id="no monitor"),
    pytest.param({"member": "DOWN 1/2"}, ("DEGRADED", "ONLINE", "DEGRADED", "ERROR"), id="a member down"),
    pytest.param({"member": "DOWN", "pool": "DOWN"}, ("ERROR", "ONLINE", "ERROR", "ERROR"), id="no member left"),
    pytest.param({"listener": "FULL"}, ("DEGRADED", "DEGRADED", "ONLINE", "ONLINE"), id="listener full"),
])
def test_words_become_statuses(world, until, said, shown):
    identity = world.identity("node-1")

    async def story():
        async with world.service(), world.node(identity) as host:
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            host.emit(words(tree, **said))
            await until(lambda: statuses(world, tree) == shown)

    asyncio.run(story())


def test_a_listener_that_haproxy_does_not_serve_is_an_error(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.service(), world.node(identity) as host:
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            host.emit(words(tree))
            await until(lambda: world.status(tables.listeners, tree.listener) == "ONLINE")
            host.emit(Report(amphora_id=tree.amphorae[0], full=True))
            await until(lambda: statuses(world, tree) == ("ERROR", "ERROR", "OFFLINE", "OFFLINE"))

    asyncio.run(story())


def test_a_pool_is_well_again_when_the_member_that_ailed_is_deleted(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.service(), world.node(identity) as host:
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            host.emit(words(tree, member="DOWN"))
            await until(lambda: world.status(tables.pools, tree.pool) == "DEGRADED")
            version = world.wish(tree, deleting=True)
            await until(lambda: world.lb(tree).done_version == version)
            await until(lambda: world.status(tables.pools, tree.pool) == "ONLINE")

    asyncio.run(story())


def test_the_master_of_a_pair_counts(world, until):
    first, second = world.identity("node-1"), world.identity("node-2")

    async def story():
        async with world.service(), world.node(first) as one, world.node(second) as two:
            tree = world.balance(first.node_id, second.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            one.emit(words(tree, vrrp="MASTER"))
            await until(lambda: world.status(tables.members, tree.member) == "ONLINE")
            two.emit(words(tree, number=1, member="DOWN", vrrp="BACKUP"))
            await until(lambda: world.row(tables.amphorae, tree.amphorae[1]).vrrp_state == "BACKUP")
            assert world.status(tables.members, tree.member) == "ONLINE"
            two.emit(Report(amphora_id=tree.amphorae[1], vrrp="MASTER"))
            await until(lambda: world.status(tables.members, tree.member) == "ERROR")

    asyncio.run(story())


def test_totals_are_kept_and_never_fall(world, until):
    identity = world.identity("node-1")

    def total(tree):
        with world.store.read() as connection:
            row = connection.execute(select(tables.listener_statistics).where(
                tables.listener_statistics.c.listener_id == tree.listener)).one_or_none()
        return row and (row.bytes_in, row.active_connections)

    async def story():
        async with world.service(), world.node(identity) as host:
            tree = world.balance(identity.node_id)
            await until(lambda: world.lb(tree).done_version == 1)
            stranger = {"not-mine": Counters(bytes_in=9)}
            host.emit(words(tree, counters={
                tree.listener: Counters(bytes_in=100, active_connections=5), **stranger}))
            await until(lambda: total(tree) == (100, 5))
        async with world.service(), world.node(identity, running={tree.amphorae[0]: 1}) as host:
            await until(lambda: host.rosters)
            host.emit(words(tree, counters={tree.listener: Counters(bytes_in=7, active_connections=2)}))
            await until(lambda: total(tree) == (100, 2))

    asyncio.run(story())


def test_a_node_is_not_heard_on_what_others_carry(world, until):
    mine, other = world.identity("node-1"), world.identity("node-2")
    tree = world.balance(mine.node_id)
    world.change(tables.amphorae, tree.amphorae[0], leaving=False)

    async def story():
        async with world.service(), world.node(other) as host:
            await until(lambda: host.rosters)
            host.emit(Applied(amphora_id=tree.amphorae[0], version=1))
            host.emit(words(tree))
            host.emit(Gone(amphora_id=tree.amphorae[0]))
            own = world.balance(other.node_id)
            await until(lambda: world.lb(own).done_version == 1)
            assert world.lb(tree).done_version == 0
            assert statuses(world, tree) == ("OFFLINE", "OFFLINE", "OFFLINE", "NO_MONITOR")

    asyncio.run(story())


@pytest.mark.parametrize("message", [
    pytest.param(b"{", id="no JSON"),
    pytest.param(b'{"type":"surprise"}', id="an unknown kind"),
    pytest.param(encode(Hello(agent_version="1")), id="a second hello"),
    pytest.param(b'{"type":"renew","csr":"rubbish"}', id="a bad certificate request"),
])
def test_a_broken_message_ends_the_connection(world, until, message):
    identity = world.identity("node-1")

    async def story():
        async with world.service() as service, aiohttp.ClientSession() as client:
            url = f"wss://127.0.0.1:{world.port}/v1/link"
            async with client.ws_connect(url, ssl=identity.tls_context()) as ws:
                await ws.send_frame(encode(Hello(agent_version="1")), WSMsgType.TEXT)
                await ws.receive(timeout=5)
                await ws.send_frame(message, WSMsgType.TEXT)
                assert (await ws.receive(timeout=5)).type is WSMsgType.CLOSE
                assert ws.close_code == 1008
            await until(lambda: not service.sessions)

    asyncio.run(story())


def test_a_newer_connection_takes_the_place_of_an_older(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.service() as service, aiohttp.ClientSession() as client:
            url = f"wss://127.0.0.1:{world.port}/v1/link"
            async with client.ws_connect(url, ssl=identity.tls_context()) as older:
                await older.send_frame(encode(Hello(agent_version="1")), WSMsgType.TEXT)
                await older.receive(timeout=5)
                async with world.node(identity) as host:
                    await until(lambda: host.rosters)
                    assert (await older.receive(timeout=5)).type is WSMsgType.CLOSE
                    assert len(service.sessions) == 1

    asyncio.run(story())


def test_in_steady_state_nothing_is_written(world, until):
    identity = world.identity("node-1")
    written = []

    def note(_connection, _cursor, statement, *_):
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE"):
            written.append(statement)

    async def story():
        async with world.service(), world.node(identity) as host:
            trees = [world.balance(identity.node_id) for _ in range(5)]
            await until(lambda: all(world.lb(tree).done_version == 1 for tree in trees))
            for tree in trees:
                host.emit(words(tree, counters={tree.listener: Counters(bytes_in=1)}))
            await until(lambda: all(statuses(world, tree)[0] == "ONLINE" for tree in trees))
            await asyncio.sleep(1.5)
            event.listen(world.store.engine, "before_cursor_execute", note)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                for tree in trees:
                    host.emit(words(tree, counters={tree.listener: Counters(bytes_in=1)}))
                await asyncio.sleep(0.02)

    asyncio.run(story())
    signs = [statement for statement in written if statement.startswith("UPDATE managers")]
    assert 1 <= len(signs) <= 2
    assert written == signs


def test_how_many_reports_one_health_manager_takes_in(world, until, capsys):
    """Of an event loop that also plays the nodes: what is counted is what both sides together manage."""
    identities = [world.identity(f"node-{number}") for number in range(4)]
    each = 2500

    async def say(identity, tree):
        async with aiohttp.ClientSession() as client:
            url = f"wss://127.0.0.1:{world.port}/v1/link"
            async with client.ws_connect(url, ssl=identity.tls_context()) as ws:
                await ws.send_frame(encode(Hello(agent_version="1", running={tree.amphorae[0]: 1})), WSMsgType.TEXT)
                await ws.receive(timeout=5)
                report = encode(words(tree))
                for _ in range(each):
                    await ws.send_frame(report, WSMsgType.TEXT)
                await ws.send_frame(encode(words(tree, member="DOWN")), WSMsgType.TEXT)
                await until(lambda: world.status(tables.members, tree.member) == "ERROR", seconds=30)

    async def story():
        trees = [world.balance(identity.node_id) for identity in identities]
        async with world.service():
            await asyncio.gather(*(say(*pair) for pair in zip(identities, trees, strict=True)))

    started, used = time.monotonic(), time.process_time()
    asyncio.run(story())
    seconds, cpu = time.monotonic() - started, time.process_time() - used
    count = each * len(identities)
    with capsys.disabled():
        print(f"\n{count} reports, both sides: {count / seconds:.0f}/s, {count / cpu:.0f} per CPU second")
    assert count / cpu > 1000
