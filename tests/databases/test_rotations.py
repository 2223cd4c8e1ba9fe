# SPDX-License-Identifier: Apache-2.0
"""Rotations on each database: whom they concern, how they are paced, how they end."""

from datetime import time, timedelta

import pytest
from sqlalchemy import insert, select, update

from statera.store import nodes, reports, rotations, tables
from statera.store.events import utc_now
from statera.store.rotations import CANCELLED, DONE, PAUSED, RUNNING, Refused, Wanted
from statera.wire import Hello

NOON = time(12)
EVERYTHING = Wanted(everything=True, replace=True)


@pytest.fixture
def fleet(store, load_balancer):
    """Three load balancers with an amphora each, on a node whose agent is version 1; returns the amphorae's ids."""
    made = {f"amphora-{number}": load_balancer() for number in range(3)}
    with store.write() as connection:
        node_id = nodes.ensure(connection, "n")
        reports.alive(connection, "hm", "h", 60)
        reports.connected(connection, "hm", node_id, Hello(agent_version="1"))
        for number, (id, lb_id) in enumerate(made.items()):
            connection.execute(insert(tables.amphorae).values(
                id=id, load_balancer_id=lb_id, role="STANDALONE", born_version=1, node_id=node_id,
                applied_version=1, haproxy_version="2.6.12", created_at=utc_now() - timedelta(days=number), ports=[]))
    return made


def begin(store, wanted=EVERYTHING, **options):
    with store.write() as connection:
        return rotations.begin(connection, rotations.new(wanted, **{"max_unavailable": 1} | options))


def pace(store, at=NOON):
    with store.write() as connection:
        return rotations.pace(connection, at)


def marked(store):
    one = tables.amphorae.c
    with store.read() as connection:
        return set(connection.execute(select(one.id).where(one.replace | (one.renewal > 0))).scalars())


def change(store, id, **values):
    with store.write() as connection:
        connection.execute(update(tables.amphorae).where(tables.amphorae.c.id == id).values(**values))


def state(store):
    with store.read() as connection:
        return rotations.latest(connection).state


@pytest.mark.parametrize(("wanted", "count"), [
    pytest.param({"everything": True}, 3, id="all"),
    pytest.param({"created_after": utc_now() - timedelta(hours=36)}, 1, id="older than"),
    pytest.param({"agent_version": "1"}, 0, id="the agent is the right one"),
    pytest.param({"agent_version": "2"}, 3, id="another agent"),
    pytest.param({"haproxy_version": "2.6.12"}, 0, id="HAProxy is the right one"),
    pytest.param({"haproxy_version": "2.8"}, 3, id="another HAProxy"),
    pytest.param({"image_id": "new"}, 3, id="another image"),
])
def test_whom_it_concerns(store, fleet, wanted, count):
    assert begin(store, Wanted(**wanted)).total == count


def test_one_load_balancer_after_the_other_and_done_when_others_have_taken_their_places(store, fleet):
    begin(store)
    for done in range(3):
        assert pace(store) == 1
        assert pace(store) == 0
        [next_] = list(marked(store))
        change(store, next_, replace=False, deleted_at=utc_now())
        assert state(store) == RUNNING, done
    pace(store)
    assert state(store) == DONE


def test_as_many_at_once_as_allowed(store, fleet):
    begin(store, max_unavailable=2)
    assert pace(store) == 2
    assert len(marked(store)) == 2


def test_a_new_program_is_taken_up_in_place_and_counts_when_it_runs(store, fleet):
    begin(store, Wanted(haproxy_version="2.8"), max_unavailable=3)
    assert pace(store) == 3
    for id, lb_id in fleet.items():
        with store.read() as connection:
            lb = tables.load_balancers.c
            version = connection.execute(select(lb.version).where(lb.id == lb_id)).scalar_one()
        assert version == 2
        change(store, id, applied_version=version)
    pace(store)
    assert state(store) == DONE


def test_only_in_its_hours(store, fleet):
    begin(store, hours="22:00-04:00")
    assert pace(store, NOON) == 0
    assert pace(store, time(23)) == 1


@pytest.mark.parametrize(("hours", "at", "is_open"), [
    pytest.param(None, NOON, True, id="always"),
    pytest.param("11:00-13:00", NOON, True, id="within"),
    pytest.param("12:00-13:00", time(13), False, id="the end is out"),
    pytest.param("22:00-04:00", time(3, 59), True, id="after midnight"),
    pytest.param("22:00-04:00", NOON, False, id="not at noon"),
])
def test_hours(hours, at, is_open):
    assert rotations.is_open(hours, at) == is_open


def test_paused_resumed_cancelled(store, fleet):
    begin(store)
    with pytest.raises(Refused, match="under way already"):
        begin(store)
    for state_, begun in ((PAUSED, 0), (RUNNING, 1)):
        with store.write() as connection:
            rotations.turn(connection, state_)
        assert pace(store) == begun
    with store.write() as connection:
        rotations.turn(connection, CANCELLED)
    assert marked(store) == set()
    with store.write() as connection, pytest.raises(Refused, match="no rotation is under way"):
        rotations.turn(connection, PAUSED)


def test_of_one_load_balancer_alone(store, fleet):
    assert begin(store, load_balancer_id=fleet["amphora-1"]).total == 1
