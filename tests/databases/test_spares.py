# SPDX-License-Identifier: Apache-2.0
"""A spare amphora is had by one load balancer, or by none when it goes; of two who look after spares one does."""

from threading import Barrier, Thread
from uuid import uuid4

import pytest
from sqlalchemy import insert, select

from statera.model.fleet import Role
from statera.store import nodes, reports, spares
from statera.store.clock import now_ms
from statera.store.seen import load_amphorae
from statera.store.tables import availability_zone_profiles, availability_zones, events, managers
from statera.wire import Hello


@pytest.fixture
def spare(store):
    """Adds one whose machine has joined, on the hypervisor *host_id*."""
    manager = str(uuid4())
    with store.write() as connection:
        connection.execute(insert(managers).values(id=manager, host="h", alive_until_ms=now_ms() + 10**8))

    def add(host_id="h1", zone=None):
        with store.write() as connection:
            id = spares.add(connection, zone)
            node_id = nodes.ensure(connection, f"amphora-{id}")
            reports.connected(connection, manager, node_id, Hello(agent_version="1"))
            spares.note(connection, id, {"host_id": host_id, "image_id": "i"}, node_id=node_id)
        return id

    return add


def claim(store, lb, role=Role.STANDALONE, zone=None):
    with store.write() as connection:
        return spares.claim(connection, lb, role, zone=zone)


def test_one_that_is_taken_is_an_amphora_like_any_other(store, spare, load_balancer):
    id, lb = spare(), load_balancer(version=7)
    assert claim(store, lb) == id
    assert claim(store, load_balancer()) is None
    with store.read() as connection:
        [amphora] = load_amphorae(connection, lb)
        assert spares.load(connection) == []
    assert (amphora.id, amphora.role, amphora.born_version, amphora.built, amphora.node_heard) == (
        id, Role.STANDALONE, 7, {}, True)


@pytest.mark.parametrize("state", ["never joined", "retired", "in another zone"])
def test_what_is_not_ready_is_not_taken(store, spare, load_balancer, state):
    with store.write() as connection:
        if state == "never joined":
            spares.add(connection, None)
    if state == "retired":
        id = spare()
        with store.write() as connection:
            assert spares.retire(connection, id)
    if state == "in another zone":
        spare(zone="east")
    assert claim(store, load_balancer()) is None


def test_what_somebody_has_cannot_be_retired(store, spare, load_balancer):
    id = spare()
    claim(store, load_balancer())
    with store.write() as connection:
        assert not spares.retire(connection, id)


def test_the_second_of_a_pair_comes_from_another_hypervisor(store, spare, load_balancer):
    lb, first, second, third = load_balancer(), spare("h1"), spare("h1"), spare("h2")
    assert claim(store, lb, Role.MASTER) == first
    assert claim(store, lb, Role.BACKUP) == third
    assert claim(store, load_balancer()) == second


def test_two_workers_at_once_never_have_the_same(store, spare, load_balancer):
    ids, lbs, start, got = {spare(), spare(), spare()}, [load_balancer() for _ in range(4)], Barrier(4), []

    def work(lb):
        start.wait(10)
        got.append(claim(store, lb))

    threads = [Thread(target=work, args=(lb,)) for lb in lbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 4
    assert {id for id in got if id} == ids


def test_a_lost_machine_that_is_nobodys_is_nobodys_event(store, spare):
    id = spare()
    with store.write() as connection:
        connection.execute(managers.delete())
        reports.give_up(connection, f"amphora-{id}")
    with store.read() as connection:
        assert connection.execute(select(events.c.reason)).all() == []
        [lost] = spares.load(connection)
    assert (lost.lost, lost.is_ready) == (True, False)


def test_machines_are_wanted_in_the_zones_that_users_may_name(store):
    with store.write() as connection:
        for name, data, enabled in (("a", '{"compute_zone": "east"}', True), ("b", "{}", True),
                                    ("c", '{"compute_zone": "west"}', False)):
            connection.execute(insert(availability_zone_profiles).values(
                id=name, name=name, provider_name="amphora", availability_zone_data=data))
            connection.execute(insert(availability_zones).values(
                name=name, enabled=enabled, availability_zone_profile_id=name))
        assert spares.zones(connection) == {None, "east"}


def test_it_is_one_ones_turn_until_it_ends_or_runs_out(store):
    def take(seconds):
        with store.write() as connection:
            return spares.take_turn(connection, seconds)

    assert [take(60), take(60)] == [True, False]
    with store.write() as connection:
        spares.end_turn(connection)
    assert [take(0), take(60), take(60)] == [True, True, False]
