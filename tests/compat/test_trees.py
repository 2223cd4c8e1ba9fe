# SPDX-License-Identifier: Apache-2.0
"""A whole tree in one request."""

import pytest

SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
PROJECT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
POOL = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}


def tree(**values):
    return {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": PROJECT, "provider": "noop_driver", **values}}


def test_all_of_it_at_once(world):
    members = [{"address": "192.0.2.1", "protocol_port": 80}, {"address": "192.0.2.2", "protocol_port": 80}]
    monitor = {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1}
    rule = {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/x"}
    lb = world.post("/loadbalancers", **tree(
        listeners=[{"protocol": "HTTP", "protocol_port": 80, "default_pool": {"name": "p"}, "l7policies": [
            {"action": "REDIRECT_TO_POOL", "redirect_pool": {**POOL, "name": "q"}, "position": 5, "rules": [rule]},
            {"action": "REJECT", "position": 1, "name": "first"}]}],
        pools=[{**POOL, "members": members, "healthmonitor": monitor, "tags": ["t"]}],
    ))["loadbalancer"]
    (listener,) = lb["listeners"]
    assert next(iter(listener)) == "l7policies"
    assert "loadbalancers" not in listener
    assert [policy["name"] for policy in listener["l7policies"]] == ["first", ""]
    assert [policy["position"] for policy in listener["l7policies"]] == [1, 2]
    assert listener["l7policies"][1]["rules"][0]["value"] == "/x"
    pools = {pool["name"]: pool for pool in lb["pools"]}
    assert set(pools) == {"p", "q"}
    assert list(pools["p"])[:2] == ["members", "healthmonitor"]
    assert not {"loadbalancers", "healthmonitor_id"} & set(pools["p"])
    assert {member["address"] for member in pools["p"]["members"]} == {"192.0.2.1", "192.0.2.2"}
    assert {member["operating_status"] for member in pools["p"]["members"]} == {"NO_MONITOR"}
    assert "pools" not in pools["p"]["healthmonitor"]
    assert pools["q"]["healthmonitor"] is None
    assert listener["default_pool_id"] == pools["p"]["id"]
    assert listener["l7policies"][1]["redirect_pool_id"] == pools["q"]["id"]
    assert listener["provisioning_status"] == pools["p"]["provisioning_status"] == "PENDING_CREATE"
    world.settle()
    assert world.status(f"/listeners/{listener['id']}") == "ACTIVE"


@pytest.mark.parametrize(("values", "status", "fault"), [
    pytest.param({"listeners": [{"protocol": "HTTP", "protocol_port": 80, "default_pool": {"protocol": "HTTP"}}]}, 400,
                 "Validation failure: Pools must be named when creating a fully populated loadbalancer.", id="no name"),
    pytest.param({"pools": [POOL, POOL]}, 400,
                 "Validation failure: Pool names must be unique when creating a fully populated loadbalancer.",
                 id="one name twice"),
    pytest.param({"listeners": [{"protocol": "HTTP", "protocol_port": 80, "default_pool": {"name": "x"}}]}, 400,
                 "Validation failure: Pool 'x' was referenced but no full definition was found.", id="dangling"),
    pytest.param({"pools": [{"name": "p", "protocol": "HTTP"}]}, 400,
                 "Validation failure: Pool definition for 'p' missing required attribute: lb_algorithm",
                 id="half a definition"),
    pytest.param({"listeners": [{"protocol": "HTTP", "protocol_port": 80, "loadbalancer_id": SUBNET}]}, 400,
                 "Unknown attribute for argument load_balancer.loadbalancer.listeners: loadbalancer_id",
                 id="listener with a parent"),
    pytest.param({"listeners": [{"protocol": "HTTP", "protocol_port": 80}, {"protocol": "TCP", "protocol_port": 80}]},
                 409, "Another Listener on this Load Balancer is already using protocol HTTP and protocol_port 80",
                 id="one port twice"),
    pytest.param({"pools": [{**POOL, "members": [{"address": "192.0.2.1", "protocol_port": 80}] * 2}]}, 409,
                 "Another member on this pool is already using ip 192.0.2.1 on protocol_port 80",
                 id="one member twice"),
])
def test_a_bad_tree_leaves_nothing(world, values, status, fault):
    assert world.refused(status, "POST", "/loadbalancers", tree(**values)) == fault
    assert world.get("/loadbalancers")["loadbalancers"] == []
    assert world.get("/pools")["pools"] == []


def test_a_load_balancer_with_children_goes_only_by_cascade(world):
    lb = world.lb()
    listener = world.listener(lb)
    assert world.refused(400, "DELETE", f"/loadbalancers/{lb['id']}") == (
        f"Validation failure: Cannot delete Load Balancer {lb['id']} - it has children")
    assert world.call("DELETE", f"/loadbalancers/{lb['id']}", query={"cascade": "true"}).status_code == 204
    assert world.status(f"/listeners/{listener['id']}") == "ACTIVE"
    assert world.status(f"/loadbalancers/{lb['id']}") == "PENDING_DELETE"


def test_the_status_tree_shows_exactly_its_keys(world):
    lb = world.lb(name="web")
    listener = world.listener(lb)
    pool = world.pool(lb, listener_id=listener["id"])
    member, monitor = world.member(pool), world.monitor(pool)
    for word in ("status", "statuses"):
        shown = world.get(f"/loadbalancers/{lb['id']}/{word}")["statuses"]["loadbalancer"]
        assert shown == {
            "id": lb["id"], "name": "web", "operating_status": "OFFLINE", "provisioning_status": "ACTIVE",
            "listeners": [{
                "id": listener["id"], "name": "", "operating_status": "OFFLINE", "provisioning_status": "ACTIVE",
                "pools": [{
                    "id": pool["id"], "name": "", "provisioning_status": "ACTIVE", "operating_status": "OFFLINE",
                    "health_monitor": {"id": monitor["id"], "name": "", "type": "HTTP",
                                       "provisioning_status": "ACTIVE", "operating_status": "ONLINE"},
                    "members": [{"id": member["id"], "name": "", "operating_status": "NO_MONITOR",
                                 "provisioning_status": "ACTIVE", "address": "192.0.2.1", "protocol_port": 80}]}]}]}


def test_statistics_are_five_numbers(world):
    lb = world.lb()
    zeros = dict.fromkeys(("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors"), 0)
    assert world.get(f"/loadbalancers/{lb['id']}/stats") == {"stats": zeros}
    assert world.get(f"/listeners/{world.listener(lb)['id']}/stats") == {"stats": zeros}


@pytest.mark.parametrize("raw", [b"", b"{}"])
def test_failover_is_a_wish_without_a_body(world, raw):
    lb = world.lb()
    result = world.call("PUT", f"/loadbalancers/{lb['id']}/failover", raw=raw)
    assert (result.status_code, result.content) == (202, b"")
    assert world.status(f"/loadbalancers/{lb['id']}") == "PENDING_UPDATE"
