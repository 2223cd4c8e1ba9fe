# SPDX-License-Identifier: Apache-2.0
"""What is no longer of use goes, and only that; what got stuck gets a pass."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import insert, select

from statera.commands.housekeeping import Collector, tidy, warn_of_expiry
from statera.config import HouseKeeping
from statera.drivers.compute.noop import NoopCompute
from statera.drivers.network.local import LocalNetworks
from statera.store.clock import now_ms
from statera.store.events import Event, record, utc_now
from statera.store.networks import NetworkBook
from statera.store.sweep import rouse
from statera.store.tables import amphorae, events, load_balancers, networks, node_tokens, ports, sealed_secrets

DAY = HouseKeeping(load_balancer_expiry_age=86_400, amphora_expiry_age=86_400, event_expiry_age=86_400)
LONG_AGO = utc_now() - timedelta(days=2)


def ids(store, table):
    with store.read() as connection:
        return set(connection.execute(select(table.c[next(iter(table.primary_key.columns)).name])).scalars())


def test_rows_go_when_they_are_old_enough(store, load_balancer):
    old, recent, living = load_balancer(deleted_at=LONG_AGO), load_balancer(deleted_at=utc_now()), load_balancer()
    with store.write() as connection:
        for id, lb, deleted_at in (("old", old, LONG_AGO), ("gone", living, LONG_AGO), ("serves", living, None)):
            connection.execute(insert(amphorae).values(
                id=id, load_balancer_id=lb, role="MASTER", born_version=1, created_at=LONG_AGO, deleted_at=deleted_at))
        record(connection, Event(load_balancer_id=old, reason="r", message="m"))
        record(connection, Event(load_balancer_id=living, reason="r", message="m"))
        connection.execute(insert(events).values(
            at=LONG_AGO, load_balancer_id=living, object_type="t", object_id="i", reason="r", message="m"))
        for name, expires_ms in (("expired", 1), ("valid", now_ms() + 10_000)):
            connection.execute(insert(node_tokens).values(token_hash=name, expires_ms=expires_ms))
    tidy(store, DAY, threading.Event())
    assert ids(store, load_balancers) == {recent, living}
    assert ids(store, amphorae) == {"serves"}
    assert ids(store, node_tokens) == {"valid"}
    assert len(ids(store, events)) == 1


def test_more_than_one_bite_is_taken(store, load_balancer):
    for _ in range(150):
        load_balancer(deleted_at=LONG_AGO)
    tidy(store, DAY, threading.Event())
    assert ids(store, load_balancers) == set()


@pytest.fixture
def plugged(store, load_balancer):
    """Ports of owners that live, are deleted and never were; which of the latter's are there still."""
    living, deleted, unknown = load_balancer(), load_balancer(deleted_at=utc_now()), str(uuid4())
    amphora = {"role": "MASTER", "born_version": 1, "created_at": utc_now(), "load_balancer_id": living}
    with store.write() as connection:
        connection.execute(insert(amphorae), [
            {"id": "serves", "deleted_at": None, **amphora}, {"id": "gone", "deleted_at": utc_now(), **amphora}])
        connection.execute(insert(networks).values(id="n", project_id="p", name="n", bridge="b", created_at=utc_now()))
        of_ours = [(device, "Octavia") for device in (
            f"lb-{living}", f"lb-{deleted}", f"lb-{unknown}", "serves", "gone", "never")]
        connection.execute(insert(ports), [
            {"id": str(uuid4()), "network_id": "n", "project_id": "p", "mac_address": "m", "name": "octavia-lb-x",
             "device_id": device, "device_owner": owner, "created_at": utc_now()}
            for device, owner in (*of_ours, ("a server of the tenant", "compute:nova"))])
    kept = {f"lb-{living}", "serves", "a server of the tenant"}

    def orphans_left():
        with store.read() as connection:
            left = set(connection.execute(select(ports.c.device_id)).scalars())
        assert kept <= left
        return len(left - kept)

    return orphans_left


def collector(store, **settings):
    return Collector(store, [LocalNetworks(NetworkBook(store)), NoopCompute()], HouseKeeping(**settings))


def test_ports_of_nobody_are_released_at_the_second_look(store, plugged):
    collecting = collector(store)
    collecting.round(1000)
    collecting.round(1001)  # too soon to be a look
    assert plugged() == 4
    collecting.round(1300)
    assert plugged() == 0


def test_ports_of_nobody_are_only_told_where_the_operator_wants_that(store, plugged, caplog):
    collecting = collector(store, release_orphans=False)
    for now in (1000, 1300, 1600):
        collecting.round(now)
    assert plugged() == 4
    assert caplog.text.count("has no owner") == 8


def test_what_is_under_way_while_nobody_looks_gets_a_pass_a_bite_at_a_time(store, load_balancer):
    stuck = [load_balancer(due_ms=None, version=2, done_version=1) for _ in range(3)]
    load_balancer(due_ms=None, version=2, done_version=2)
    backing_off = load_balancer(due_ms=10**15, version=2, done_version=1)
    with store.write() as connection:
        after = rouse(connection, limit=2)
        assert after == sorted(stuck)[1]
        assert rouse(connection, after, limit=2) == ""
    with store.read() as connection:
        due = load_balancers.c.due_ms
        found = connection.execute(select(load_balancers.c.id).where(due < 10**14)).scalars()
        assert set(found) == set(stuck)
        later = connection.execute(select(due).where(load_balancers.c.id == backing_off)).scalar_one()
    assert later == 10**15


def test_a_certificate_that_runs_out_soon_is_said_once(store, load_balancer):
    lb, soon, later = load_balancer(), utc_now() + timedelta(days=3), utc_now() + timedelta(days=90)
    with store.write() as connection:
        for ref, expires_at in (("soon", soon), ("later", later), ("authority", None)):
            connection.execute(insert(sealed_secrets).values(
                load_balancer_id=lb, ref=ref, digest=(ref * 12)[:64], sealed="x", expires_at=expires_at))
    for _ in range(2):
        warn_of_expiry(store, 14)
    with store.read() as connection:
        (event,) = connection.execute(select(events)).all()
    assert (event.reason, event.fault) == ("certificate_expires", "user")
    assert event.message == f"the certificate soon runs out on {soon:%Y-%m-%d %H:%M} UTC"
