# SPDX-License-Identifier: Apache-2.0
"""What the database says of itself for metrics: right, cheap, and no obstacle when it is away."""

import socket
from datetime import datetime, timedelta

import pytest
from counted import statements
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import insert, select, update

from statera import metrics
from statera.commands.metrics import Look
from statera.errors import SetupError
from statera.fleet.ca import make_root, pem
from statera.store import authorities, measures, tables
from statera.store.clock import now_ms
from statera.store.engine import Store
from statera.store.events import Event, record, utc_now

NOON = datetime(2026, 11, 1, 12)
EVERYTHING = (measures.queue, measures.fleet, measures.certificates, measures.tenants)


def told(store, *each):
    registry = CollectorRegistry()
    registry.register(Look(store, *each))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_the_queue(store, load_balancer):
    load_balancer(due_ms=1)
    load_balancer(due_ms=10**14)
    load_balancer(due_ms=None)
    load_balancer(due_ms=10**14, lease_until_ms=10**14)
    with store.read() as connection:
        now = connection.execute(select(now_ms())).scalar_one()
    found = told(store, measures.queue)
    assert (found["statera_due_load_balancers"], found["statera_leases_held"]) == (1, 1)
    assert found["statera_due_seconds"] == pytest.approx(now / 1000, abs=30)


def test_the_fleet(store):
    with store.write() as connection:
        connection.execute(insert(tables.managers).values(id="m", host="h", alive_until_ms=10**14))
        connection.execute(insert(tables.nodes), [
            {"id": name, "name": name, "created_at": NOON, "connected_at": at, "manager_id": manager, "lost_ms": lost}
            for name, at, manager, lost in (
                ("a", NOON, "m", None), ("b", NOON, None, None), ("c", NOON, None, 5), ("d", None, None, None))])
    found = told(store, measures.fleet)
    states = {state: found[f'statera_nodes{{state="{state}"}}'] for state in ("heard", "silent", "lost", "never")}
    assert states == {"heard": 1, "silent": 1, "lost": 1, "never": 1}
    assert found["statera_managers_alive"] == 1


def test_the_first_certificates_to_run_out(store, load_balancer):
    lb, made = load_balancer(), make_root()
    with store.write() as connection:
        authorities.add(connection, made.id, certificate=pem(made.certificate), sealed="x", after=0)
        for ref, days in (("soon", 3), ("later", 30)):
            connection.execute(insert(tables.sealed_secrets).values(
                load_balancer_id=lb, ref=ref, digest="d", sealed="x", expires_at=utc_now() + timedelta(days=days)))
    found = told(store, measures.certificates)
    assert found['statera_certificate_days{of="load balancer"}'] == pytest.approx(3, abs=0.1)
    assert found['statera_certificate_days{of="authority"}'] > 7000
    assert 'statera_certificate_days{of="node"}' not in found


def test_load_balancers_and_events(store, load_balancer):
    lb = load_balancer(done_version=1)
    load_balancer(deleted_at=utc_now())
    with store.write() as connection:
        record(connection, Event(load_balancer_id=lb, reason="no_node", message="m"))
        record(connection, Event(load_balancer_id=lb, reason="old", message="m"))
        connection.execute(update(tables.events).where(tables.events.c.reason == "old").values(
            at=utc_now() - timedelta(hours=2)))
    found = told(store, measures.tenants)
    assert {name: value for name, value in found.items() if "up" not in name} == {
        'statera_load_balancers{provisioning_status="ACTIVE"}': 1, 'statera_events{reason="no_node"}': 1}


def test_looking_takes_few_statements_however_much_there_is(store, load_balancer):
    few = len(statements(store.engine, lambda: told(store, *EVERYTHING)))
    for _ in range(20):
        load_balancer()
    assert len(statements(store.engine, lambda: told(store, *EVERYTHING))) == few <= 12


def test_rows_and_size_are_known(store, load_balancer):
    load_balancer(deleted_at=utc_now())
    with store.read() as connection:
        counted = dict(measures.rows(connection))
        assert counted["load_balancers"] == 1
        assert counted.keys() == tables.metadata.tables.keys()
        assert measures.gone(connection)["load_balancers"] == 1
        assert measures.size(connection) > 10_000


def test_while_the_database_is_away_metrics_say_so(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/nowhere/at.all")
    assert told(store, measures.queue) == {"statera_database_up": 0}
    store.close()


def test_a_taken_port_says_which_option_to_set():
    first = metrics.Metrics(bind_host="127.0.0.1", worker_port=free_port())
    assert metrics.serve(first, "worker") == first.worker_port
    with pytest.raises(SetupError, match="worker_port"):
        metrics.serve(first, "worker")
    assert metrics.serve(metrics.Metrics(), "worker") is None


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
