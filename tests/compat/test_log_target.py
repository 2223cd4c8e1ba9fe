# SPDX-License-Identifier: Apache-2.0
"""A tenant's own log server and the limits of amphorae: beside the load balancer, whose own body knows of neither."""

import json

import pytest
from sqlalchemy import insert, select

from statera.store import events, tables

TARGET = {"log_target": {"url": "tcp://10.0.0.5:514"}}


def path(lb, word="log_target"):
    return f"/loadbalancers/{lb['id']}/{word}"


def test_a_log_target_is_set_shown_and_taken_back(world):
    lb = world.lb()
    assert world.get(path(lb)) == {"log_target": {"url": None}}
    answer = world.call("PUT", path(lb), TARGET)
    assert (answer.status_code, answer.json, world.get(path(lb))) == (202, TARGET, TARGET)
    shown = world.get(f"/loadbalancers/{lb['id']}")["loadbalancer"]
    assert (shown["provisioning_status"], shown.keys() == lb.keys()) == ("PENDING_UPDATE", True)
    world.settle()
    assert world.call("DELETE", path(lb)).status_code == 204
    assert world.get(path(lb)) == {"log_target": {"url": None}}


def test_the_same_target_again_is_no_wish(world):
    lb = world.lb()
    for _ in range(3):
        assert world.call("PUT", path(lb), TARGET).status_code == 202
    with world.store.read() as connection:
        told = events.newest(connection, lb["id"], limit=10, before=None)
    assert [event.message for event in told].count("Load Balancer log target put") == 1


@pytest.mark.parametrize(("body", "fault"), [
    pytest.param({"log_target": {"url": "http://10.0.0.5:80"}}, "must be like tcp://10.0.0.5:514", id="no syslog"),
    pytest.param({"log_target": {"url": "tcp://127.0.0.1:514"}}, "is no address of a log server", id="itself"),
    pytest.param({"log_target": {"url": "tcp://10.0.0.5:514\nforged"}}, "must be like", id="two lines"),
    pytest.param({"log_target": {}}, "url", id="nothing said"),
    pytest.param({"log_target": {"url": None}}, "", id="null"),
    pytest.param({"log_target": {"url": 5}}, "string", id="a number"),
    pytest.param({"log_target": {"url": "tcp://10.0.0.5:514", "tls": True}}, "tls", id="more than there is"),
])
def test_what_is_no_target_is_refused(world, body, fault):
    lb = world.lb()
    answer = world.call("PUT", path(lb), body)
    assert (answer.status_code, fault in answer.json["faultstring"]) == (400, True), answer.json
    assert world.get(path(lb)) == {"log_target": {"url": None}}


def test_limits_show_the_flavor_and_what_came_of_it(world):
    profile = world.post("/flavorprofiles", flavorprofile={
        "name": "small", "provider_name": "amphora",
        "flavor_data": json.dumps({"memory_mb": 256, "cpus": 0.5})})["flavorprofile"]
    flavor = world.post("/flavors", flavor={"name": "small", "flavor_profile_id": profile["id"]})["flavor"]
    lb = world.lb(flavor_id=flavor["id"])
    now = {"max_connections": 100, "limited_by": "memory", "file_descriptors": 300, "memory_mb": 256, "cpus": 0.5}
    alarm = {"reason": "max_connections_reached", "message": "100", "object_type": "amphora", "object_id": ""}
    with world.store.write() as connection:
        lb_row = connection.execute(select(tables.load_balancers).where(tables.load_balancers.c.id == lb["id"])).one()
        connection.execute(insert(tables.amphorae).values(
            id="a", load_balancer_id=lb["id"], role="STANDALONE", born_version=1, ports=[],
            created_at=lb_row.created_at, effective=now, alarms={"max_connections_reached": alarm}))
    assert world.get(path(lb, "limits")) == {"limits": {
        "memory_mb": 256, "cpus": 0.5, "max_connections": None,
        "amphorae": [{"id": "a", "role": "STANDALONE", "effective": now, "alarms": [alarm]}]}}


@pytest.mark.parametrize("data", [
    {"memory_mb": 63}, {"memory_mb": "512"}, {"memory_mb": True}, {"cpus": 0}, {"cpus": "1"}, {"max_connections": 0}])
def test_limits_that_nobody_can_live_with_are_refused(world, data):
    answer = world.call("POST", "/flavorprofiles", {"flavorprofile": {
        "name": "bad", "provider_name": "amphora", "flavor_data": json.dumps(data)}})
    assert (answer.status_code, next(iter(data)) in answer.json["faultstring"]) == (501, True)
