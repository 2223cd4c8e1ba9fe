# SPDX-License-Identifier: Apache-2.0
"""What a project is told about its load balancers in Prometheus' format."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from statera.store import tables


@pytest.fixture
def world(worlds):
    return worlds(api_settings={"default_provider_driver": "noop_driver"})


def samples(world, **query):
    answer = world.call("GET", "/metrics", query=query, headers={
        "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {(sample.name, sample.labels["name"]): sample
            for family in text_string_to_metric_families(answer.text) for sample in family.samples}


def count(world, lb, listener_id, amphora_id, **counters):
    with world.store.write() as connection:
        connection.execute(insert(tables.listener_statistics).values(
            listener_id=listener_id, amphora_id=amphora_id, load_balancer_id=lb["id"], **counters))


def test_statuses_and_counters_of_each(world):
    busy, idle = world.lb(name="busy"), world.lb(name='odd "name"\n')
    count(world, busy, "l1", "a1", bytes_out=10, total_connections=2, active_connections=1)
    count(world, busy, "l2", "l2", bytes_out=5, total_connections=3, active_connections=4)
    found = samples(world)
    prefix = "statera_loadbalancer_"
    assert found[f"{prefix}bytes_out_total", "busy"].value == 15
    assert found[f"{prefix}connections_total", "busy"].value == 5
    assert found[f"{prefix}active_connections", "busy"].value == 4  # the other's amphora is no more
    assert found[f"{prefix}bytes_out_total", idle["name"]].value == 0
    status = found[f"{prefix}provisioning_status", "busy"]
    assert (status.labels["provisioning_status"], status.labels["loadbalancer_id"]) == ("ACTIVE", busy["id"])


def test_one_project_can_be_asked_for(world):
    world.lb(name="own", project_id="a" * 32)
    world.lb(name="other", project_id="b" * 32)
    assert {name for _, name in samples(world, project_id="a" * 32)} == {"own"}
    assert {name for _, name in samples(world)} == {"own", "other"}


def test_two_statements_tell_it_all(world):
    few = world.statements(lambda: samples(world))
    for number in range(20):
        world.lb(name=f"lb {number}")
    assert world.statements(lambda: samples(world)) == few == 2


def test_unknown_words_are_refused(world):
    world.refused(400, "GET", "/metrics", query={"what": "all"})
