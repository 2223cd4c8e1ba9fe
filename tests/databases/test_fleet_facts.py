# SPDX-License-Identifier: Apache-2.0
"""The fleet's facts on each database: written once, monotone, and only about what a node carries."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from msgspec import structs
from sqlalchemy import insert, select, update

from statera.model.health import Words
from statera.model.limits import Alarm, Effective, Limits
from statera.store import events, health, limits, nodes, placements, reports, tables
from statera.store.events import utc_now
from statera.wire import Applied, Counters, Hello

HELLO = Hello(agent_version="1", hostname="h")


@pytest.fixture
def carried(store, load_balancer):
    """A load balancer with a listener and an amphora on a connected node."""
    lb_id = load_balancer(settled_version=1)
    with store.write() as connection:
        node_id = nodes.ensure(connection, "node-1")
        reports.alive(connection, "hm", "host", 60)
        connection.execute(insert(tables.amphorae).values(
            id="amphora", load_balancer_id=lb_id, role="STANDALONE", born_version=1, node_id=node_id,
            created_at=utc_now(), ports=[{"port_id": "p"}]))
        connection.execute(insert(tables.listeners).values(
            id="listener", load_balancer_id=lb_id, project_id="p", created_at=utc_now(), created_version=1,
            wanted_version=1, protocol="HTTP", protocol_port=80, timeout_client_data=1, timeout_member_connect=1,
            timeout_member_data=1, timeout_tcp_inspect=0))
        assert reports.connected(connection, "hm", node_id, HELLO)
    return lb_id, node_id


def from_node(node_id, words):
    return health.Said(manager_id="hm", node_id=node_id, amphora_id="amphora", words=words)


def lb_of(store, lb_id):
    with store.read() as connection:
        return connection.execute(
            select(tables.load_balancers).where(tables.load_balancers.c.id == lb_id)).one()


def test_what_runs_settles_the_load_balancer_and_never_falls_back(store, carried):
    lb_id, node_id = carried
    with store.write() as connection:
        assert [placement.version for placement in placements.unsettled(connection, "hm")] == [1]
        for version in (1, 0, 1, 9):
            reports.applied(connection, node_id, Applied(amphora_id="amphora", version=version))
        assert placements.unsettled(connection, "hm") == []
        (placement,) = placements.held(connection, "hm")
    assert (placement.applied_version, lb_of(store, lb_id).done_version) == (1, 1)


def test_a_pair_takes_a_change_without_a_pass_of_the_controller(store, carried):
    lb_id, node_id = carried
    lb = tables.load_balancers
    with store.write() as connection:
        connection.execute(insert(tables.amphorae).values(
            id="peer", load_balancer_id=lb_id, role="BACKUP", born_version=1, node_id=node_id, created_at=utc_now(),
            ports=[{"port_id": "q"}], applied_version=1))
        reports.applied(connection, node_id, Applied(amphora_id="amphora", version=1))
        connection.execute(update(lb).where(lb.c.id == lb_id).values(version=2, wanted_version=2, due_ms=None))
        for amphora_id in ("amphora", "peer"):
            reports.applied(connection, node_id, Applied(amphora_id=amphora_id, version=2))
    assert (lb_of(store, lb_id).done_version, lb_of(store, lb_id).due_ms) == (2, None)


def test_a_manager_stands_again_for_what_it_hears_after_its_sign_of_life_was_over(store, carried):
    lb_id, _ = carried
    lb = tables.load_balancers
    with store.write() as connection:
        connection.execute(update(lb).where(lb.c.id == lb_id).values(manager_id=None, due_ms=None))
        connection.execute(update(tables.nodes).values(lost_ms=1))
        assert reports.vouch(connection, "another") == 0
        assert reports.vouch(connection, "hm") == 1
        assert reports.vouch(connection, "hm") == 0
        assert connection.execute(select(tables.nodes.c.lost_ms)).scalars().all() == [None]
    assert lb_of(store, lb_id).manager_id == "hm"
    assert lb_of(store, lb_id).due_ms is not None


def test_a_failure_counts_while_it_is_the_newest_and_is_said_once(store, carried):
    lb_id, node_id = carried
    failure = Applied(amphora_id="amphora", version=1, failure="no")
    with store.write() as connection:
        for fact in (failure, failure, Applied(amphora_id="amphora", version=0, failure="old")):
            reports.applied(connection, node_id, fact)
        said = connection.execute(select(tables.events.c.message)).scalars().all()
    assert (said, lb_of(store, lb_id).failure) == (["no"], "no")


def test_what_broke_after_it_ran_is_no_failed_wish(store, carried):
    lb_id, node_id = carried
    with store.write() as connection:
        reports.applied(connection, node_id, Applied(amphora_id="amphora", version=1))
        reports.applied(connection, node_id, Applied(amphora_id="amphora", version=1, failure="died"))
        assert connection.execute(select(tables.events.c.message)).scalars().all() == ["died"]
    assert lb_of(store, lb_id).failed_version is None


def test_nobody_speaks_for_an_amphora_on_another_node(store, carried):
    lb_id, _ = carried
    with store.write() as connection:
        other = nodes.ensure(connection, "node-2")
        reports.applied(connection, other, Applied(amphora_id="amphora", version=1))
        reports.gone(connection, other, "amphora")
        assert health.report(connection, from_node(other, Words(listeners={"listener": "OPEN"}))) == 0
    assert lb_of(store, lb_id).done_version == 0


def test_only_one_that_leaves_can_be_gone(store, carried):
    lb_id, node_id = carried
    with store.write() as connection:
        connection.execute(update(tables.load_balancers).values(due_ms=None))
        reports.gone(connection, node_id, "amphora")
        assert not connection.execute(select(tables.amphorae.c.gone)).scalar_one()
        connection.execute(update(tables.amphorae).values(leaving=True))
        reports.gone(connection, node_id, "amphora")
        assert connection.execute(select(tables.amphorae.c.gone)).scalar_one()
    assert lb_of(store, lb_id).due_ms is not None


def test_a_report_is_written_once(store, carried):
    _, node_id = carried
    words = Words(as_of=1, listeners={"listener": "OPEN"})
    with store.write() as connection:
        assert health.report(connection, from_node(node_id, words)) == 2
        assert health.report(connection, from_node(node_id, words)) == 0


def test_what_is_known_is_told_from_what_is_new_without_writing(store, carried):
    _, node_id = carried
    words = Words(as_of=1, listeners={"listener": "OPEN"})
    with store.write() as connection:
        assert health.known(connection, [from_node(node_id, words)]) == set()
        health.report(connection, from_node(node_id, words))
        assert health.known(connection, [from_node(node_id, words)]) == {"amphora"}
        assert health.known(connection, [from_node(node_id, Words(as_of=1, listeners={"listener": "FULL"}))]) == set()
        assert health.known(connection, [from_node("elsewhere", words)]) == {"amphora"}


def test_totals_never_fall(store, carried):
    with store.write() as connection:
        for total in (5, 9, 3):
            health.save_statistics(connection, {
                ("amphora", "listener"): Counters(bytes_in=total, active_connections=total),
                ("amphora", "another's"): Counters(bytes_in=1), ("nobody", "listener"): Counters(bytes_in=1)})
        (row,) = connection.execute(select(tables.listener_statistics)).all()
    assert (row.bytes_in, row.active_connections, row.load_balancer_id) == (9, 3, carried[0])


def test_a_lost_node_makes_its_load_balancers_due_and_comes_back(store, carried):
    lb_id, node_id = carried
    with store.write() as connection:
        assert reports.unheard(connection) == []
        assert reports.lost(connection, node_id, 6) == 0, "somebody hears it"
        reports.disconnected(connection, "hm", [node_id])
        assert [name for _, name in reports.unheard(connection)] == ["node-1"]
        connection.execute(update(tables.load_balancers).values(due_ms=None))
        assert reports.lost(connection, node_id, 6) == 1
        assert reports.lost(connection, node_id, 7) == 0
        assert reports.unheard(connection) == []
    assert lb_of(store, lb_id).due_ms is not None
    with store.write() as connection:
        assert reports.connected(connection, "hm", node_id, HELLO)
        assert [row.lost for row in nodes.list_nodes(connection)] == [False]
        assert not reports.connected(connection, "hm", str(uuid4()), HELLO)


def test_a_token_can_be_typed_after_its_option(store):
    with store.write() as connection:
        assert all(nodes.make_token(connection, None, 60).isalnum() for _ in range(20))


def test_of_two_that_use_one_token_at_once_one_gets_in(store):
    with store.write() as connection:
        token = nodes.make_token(connection, None, 60)

    def enrol(name):
        try:
            with store.write() as connection:
                return nodes.enrol(connection, nodes.token_hash(token), name)
        except nodes.Refused:
            return None

    with ThreadPoolExecutor(4) as threads:
        enrolled = list(threads.map(enrol, ["a", "b", "c", "d"]))
    assert sum(node_id is not None for node_id in enrolled) == 1


def test_operators_drain_and_remove_nodes(store, carried):
    lb_id, _ = carried
    with store.write() as connection:
        connection.execute(update(tables.load_balancers).values(due_ms=None))
        assert nodes.drain(connection, "node-1") == 1
        with pytest.raises(nodes.Refused, match="still carries 1"):
            nodes.remove(connection, "node-1")
        assert nodes.undrain(connection, "node-1") == 1
        connection.execute(update(tables.amphorae).values(deleted_at=utc_now()))
        nodes.remove(connection, "node-1")
        with pytest.raises(nodes.Refused, match="no node node-1"):
            nodes.drain(connection, "node-1")
    assert lb_of(store, lb_id).due_ms is not None


def test_an_alarm_is_told_when_it_begins_and_when_it_is_over(store, carried):
    lb_id, node_id = carried
    full = Alarm(reason="connection_limit", message="100 of 100", object_type="listener", object_id="listener")
    may_use = Effective(max_connections=100, limited_by="memory", file_descriptors=250, memory_mb=64)
    said = Words(as_of=1, listeners={"listener": "OPEN"}, effective=may_use)
    with store.write() as connection:
        for alarms in ((full,), (full,), None, (), ()):
            health.report(connection, from_node(node_id, structs.replace(said, alarms=alarms)))
        told = events.newest(connection, lb_id, limit=10, before=None)
        (now,) = limits.effective(connection, lb_id)
    assert [(event.reason, event.object_id) for event in reversed(told)] == [
        ("connection_limit", "listener"), ("connection_limit_over", "listener")]
    assert (now["effective"]["max_connections"], now["alarms"]) == (100, [])


def test_limits_are_read_from_the_flavor(store):
    with store.write() as connection:
        connection.execute(insert(tables.flavor_profiles).values(
            id="profile", name="small", provider_name="amphora", flavor_data='{"memory_mb": 64, "cpus": 0.5}'))
        connection.execute(insert(tables.flavors).values(
            id="flavor", name="small", enabled=True, flavor_profile_id="profile"))
        assert limits.of_flavor(connection, "flavor") == Limits(memory_mb=64, cpus=0.5)
        assert limits.of_flavor(connection, None) == Limits()
