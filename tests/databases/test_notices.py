# SPDX-License-Identifier: Apache-2.0
"""OpenStack's bus hears of each load balancer that is made, changed or deleted, once it is so, and once."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from oslo_config import cfg
from sqlalchemy import insert, update

from statera.controller.notices import Notifier, emitter
from statera.store import notices, tables
from statera.store.events import utc_now

DONE = {"done_version": 1, "version": 1, "wanted_version": 1}


@pytest.fixture
def bus(store):
    """A notifier, and what it has said."""
    heard = []
    notifier = Notifier(store, lambda event_type, payload: heard.append((event_type, payload)))

    def look():
        notifier.look()
        told = [(event_type.removeprefix("octavia.loadbalancer."), payload["name"]) for event_type, payload in heard]
        heard.clear()
        return sorted(told)

    return look


def change(store, lb, **values):
    with store.write() as connection:
        connection.execute(update(tables.load_balancers).where(tables.load_balancers.c.id == lb).values(**values))


def test_a_life(store, load_balancer, bus):
    lb = load_balancer(name="a", version=1, done_version=0)
    assert bus() == []
    change(store, lb, done_version=1)
    assert bus() == [("create.end", "a")]
    assert bus() == []
    change(store, lb, version=3, wanted_version=2, updated_at=utc_now())
    assert bus() == []
    change(store, lb, done_version=3)
    assert bus() == [("update.end", "a")]
    change(store, lb, version=4, done_version=4)  # an amphora was replaced: nobody wished for anything
    assert bus() == []
    change(store, lb, deleting=True, wanted_version=5, version=5, done_version=5, deleted_at=utc_now())
    assert bus() == [("delete.end", "a")]
    assert bus() == []


def test_old_news_are_none(store, load_balancer, bus):
    for number in range(120):
        load_balancer(name=f"old {number}", created_at=utc_now() - timedelta(days=1), **DONE)
    load_balancer(name="new", **DONE)
    assert bus() == [("create.end", "new")]


def test_several_workers_tell_each_once(store, load_balancer):
    for number in range(60):
        load_balancer(name=f"lb {number}", **DONE)
    heard = []
    workers = [Notifier(store, lambda _type, payload: heard.append(payload["name"])) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda worker: worker.look(), workers))
    for worker in workers:  # what another held while it was looked for
        worker.look()
    assert sorted(heard) == sorted(f"lb {number}" for number in range(60))


def test_what_could_not_be_told_is_told_later(store, load_balancer, bus):
    load_balancer(name="a", **DONE)

    def broken(_event_type, _payload):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        Notifier(store, broken).look()
    assert bus() == [("create.end", "a")]


def test_while_the_bus_hangs_nothing_is_locked(store, load_balancer, bus):
    lb = load_balancer(name="a", **DONE)
    during = []

    def slow(_event_type, _payload):
        change(store, lb, version=2, wanted_version=2, updated_at=utc_now())
        during.append(bus())

    Notifier(store, slow).look()
    assert during == [[]]
    change(store, lb, done_version=2)
    assert bus() == [("update.end", "a")]


def test_what_somebody_took_who_died_then_another_tells(store, load_balancer, bus):
    lb = load_balancer(name="a", **DONE)
    with store.write() as connection:
        assert notices.take(connection)
    assert bus() == []
    change(store, lb, telling_until_ms=1)  # a minute later
    assert bus() == [("create.end", "a")]


def test_the_payload_is_the_load_balancer_as_it_is(store, load_balancer):
    lb = load_balancer(name="a", description="d", **DONE)
    with store.write() as connection:
        connection.execute(insert(tables.pools).values(
            id="pool-1", load_balancer_id=lb, project_id="p", protocol="HTTP", lb_algorithm="ROUND_ROBIN",
            created_at=utc_now(), created_version=1, wanted_version=1))
    heard = []
    Notifier(store, lambda _type, payload: heard.append(payload)).look()
    (payload,) = heard
    assert payload["id"] == payload["loadbalancer_id"] == lb
    assert (payload["provisioning_status"], payload["description"]) == ("ACTIVE", "d")
    assert payload["pools"] == [{"pool_id": "pool-1"}]
    assert isinstance(payload["created_at"], str)


def configured(tmp_path, text):
    (tmp_path / "octavia.conf").write_text(text)
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(tmp_path / "octavia.conf")])
    return conf


def test_without_a_driver_nothing_is_loaded(tmp_path):
    assert emitter(configured(tmp_path, "[DEFAULT]\ntransport_url = rabbit://x\n"), "host") is None


def test_oslo_messaging_takes_it(tmp_path, caplog):
    conf = configured(tmp_path, "[DEFAULT]\ntransport_url = fake://\n[oslo_messaging_notifications]\ndriver = log\n")
    emit = emitter(conf, "host")
    with caplog.at_level(logging.INFO, "oslo.messaging.notification"):
        emit("octavia.loadbalancer.create.end", {"id": "lb-1"})
    (line,) = [record.getMessage() for record in caplog.records if "notification" in record.name]
    for word in ("octavia.loadbalancer.create.end", '"octavia.host"', '"INFO"', '"lb-1"'):
        assert word in line
