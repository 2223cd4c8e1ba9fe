# SPDX-License-Identifier: Apache-2.0
"""What may be written while something is under way, strictly and not."""

import pytest


def test_writes_coalesce_while_pending(world):
    lb = world.lb()
    listener = world.post("/listeners", listener={"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80})
    path = f"/listeners/{listener['listener']['id']}"
    assert world.put(path, listener={"name": "a"})["listener"]["provisioning_status"] == "PENDING_CREATE"
    world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "b"})
    world.settle()
    assert world.status(path) == "ACTIVE"


def test_a_port_is_free_as_soon_as_its_listener_goes(world):
    lb = world.lb()
    old = world.listener(lb)
    world.delete(f"/listeners/{old['id']}")
    world.listener(lb)
    assert world.refused(404, "GET", f"/listeners/{old['id']}")


def test_what_is_going_can_be_deleted_again_but_not_changed(world):
    lb = world.lb()
    path = f"/listeners/{world.listener(lb)['id']}"
    world.delete(path)
    world.delete(path)
    assert world.refused(409, "PUT", path, {"listener": {"name": "x"}}).endswith(
        "is immutable and cannot be updated.")
    world.settle()
    world.delete(f"/loadbalancers/{lb['id']}")
    world.delete(f"/loadbalancers/{lb['id']}")
    assert world.refused(409, "PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {}}) == (
        f"Invalid state PENDING_DELETE of loadbalancer resource {lb['id']}")
    body = {"listener": {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80}}
    assert world.refused(409, "POST", "/listeners", body) == (
        f"Load Balancer {lb['id']} is immutable and cannot be updated.")


def test_an_error_goes_with_the_next_wish(world):
    lb = world.lb()
    world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "a"})
    world.fail(lb)
    assert world.status(f"/loadbalancers/{lb['id']}") == "ERROR"
    assert world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "b"})["loadbalancer"][
        "provisioning_status"] == "PENDING_UPDATE"


@pytest.fixture
def pending(strict):
    """A load balancer with one of each, made pending by a change of its own."""
    lb = strict.lb(provider="noop_driver")
    listener = strict.listener(lb)
    pool = strict.pool(lb)
    ids = {
        "lb": lb["id"], "listener": listener["id"], "pool": pool["id"], "member": strict.member(pool)["id"],
        "policy": strict.policy(listener)["id"], "spare": strict.pool(lb)["id"],
    }
    ids["rule"] = strict.post(f"/l7policies/{ids['policy']}/rules", rule={
        "type": "PATH", "compare_type": "EQUAL_TO", "value": "/"})["rule"]["id"]
    strict.settle()
    strict.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "x"})
    return ids


LB = "Load Balancer {lb} is immutable and cannot be updated."


@pytest.mark.parametrize(("verb", "path", "body", "fault"), [
    pytest.param("PUT", "/loadbalancers/{lb}", {"loadbalancer": {}},
                 "Invalid state PENDING_UPDATE of loadbalancer resource {lb}", id="load balancer"),
    pytest.param("DELETE", "/loadbalancers/{lb}?cascade=true", None,
                 "Invalid state PENDING_UPDATE of loadbalancer resource {lb}", id="load balancer delete"),
    pytest.param("PUT", "/loadbalancers/{lb}/failover", None,
                 "Invalid state PENDING_UPDATE of loadbalancer resource {lb}", id="failover"),
    pytest.param("PUT", "/listeners/{listener}", {"listener": {}}, LB, id="listener"),
    pytest.param("DELETE", "/listeners/{listener}", None, LB, id="listener delete"),
    pytest.param("PUT", "/pools/{pool}", {"pool": {}}, LB, id="pool"),
    pytest.param("PUT", "/pools/{pool}/members/{member}", {"member": {}}, LB, id="member"),
    pytest.param("PUT", "/pools/{pool}/members", {"members": []}, LB, id="batch that changes nothing"),
    pytest.param("PUT", "/l7policies/{policy}", {"l7policy": {"name": "x"}}, LB, id="policy"),
    pytest.param("DELETE", "/l7policies/{policy}/rules/{rule}", None, LB, id="rule delete"),
])
def test_strictly_a_pending_load_balancer_is_immutable(strict, pending, verb, path, body, fault):
    path, _, query = path.format(**pending).partition("?")
    pairs = [tuple(query.split("="))] if query else ()
    assert strict.refused(409, verb, path, body, query=pairs) == fault.format(**pending)


@pytest.mark.parametrize(("change", "verb", "path", "body", "fault"), [
    pytest.param("/pools/{pool}/members/{member}", "POST", "/pools/{pool}/members",
                 {"member": {"address": "192.0.2.7", "protocol_port": 1}},
                 "Pool {pool} is immutable and cannot be updated.", id="member names the pool first"),
    pytest.param("/l7policies/{policy}/rules/{rule}", "DELETE", "/l7policies/{policy}/rules/{rule}", None,
                 "L7Policy {policy} is immutable and cannot be updated.", id="rule names the policy first"),
])
def test_strictly_the_nearest_parent_is_named(strict, pending, change, verb, path, body, fault):
    strict.settle()
    kind = "member" if "member" in change else "rule"
    strict.put(change.format(**pending), **{kind: {"admin_state_up": False}})
    assert strict.refused(409, verb, path.format(**pending), body) == fault.format(**pending)


def test_strictly_children_are_refused_before_the_state(strict):
    lb = strict.lb()
    strict.listener(lb)
    strict.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "x"})
    assert strict.refused(400, "DELETE", f"/loadbalancers/{lb['id']}").endswith("it has children")


def test_strictly_only_delete_and_failover_remain_in_error(strict):
    lb = strict.lb()
    strict.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "x"})
    strict.fail(lb)
    assert strict.refused(409, "PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {}}) == (
        f"Invalid state ERROR of loadbalancer resource {lb['id']}")
    assert strict.call("PUT", f"/loadbalancers/{lb['id']}/failover").status_code == 202
    strict.fail(lb)
    strict.delete(f"/loadbalancers/{lb['id']}")


def test_a_listener_gets_another_pool_while_its_old_one_goes(world):
    lb = world.lb()
    listener = world.listener(lb)
    old = world.pool(lb, listener_id=listener["id"])
    world.delete(f"/pools/{old['id']}")
    new = world.pool(lb, listener_id=listener["id"])
    assert world.get(f"/listeners/{listener['id']}")["listener"]["default_pool_id"] == new["id"]


@pytest.mark.parametrize(("path", "body"), [
    ("/l7policies", {"l7policy": {"listener_id": "{listener}", "action": "REJECT"}}),
    ("/pools", {"pool": {"listener_id": "{listener}", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}}),
    ("/healthmonitors", {"healthmonitor": {"pool_id": "{pool}", "type": "TCP", "delay": 1, "timeout": 1,
                                           "max_retries": 1}}),
    ("/pools/{pool}/members", {"member": {"address": "192.0.2.1", "protocol_port": 1}}),
])
def test_what_is_going_takes_no_children(world, path, body):
    lb = world.lb(provider="noop_driver")
    ids = {"listener": world.listener(lb)["id"], "pool": world.pool(lb)["id"]}
    world.delete(f"/listeners/{ids['listener']}")
    world.delete(f"/pools/{ids['pool']}")
    ((root, values),) = body.items()
    filled = {name: value.format(**ids) if isinstance(value, str) else value for name, value in values.items()}
    fault = world.refused(409, "POST", path.format(**ids), {root: filled})
    assert fault.endswith("is immutable and cannot be updated.")


def test_of_a_put_without_root_an_unknown_id_comes_first(world):
    lb = world.lb()
    world.refused(404, "PUT", "/loadbalancers/nowhere", {})
    assert world.refused(400, "PUT", f"/loadbalancers/{lb['id']}", {}) == 'Missing argument: "load_balancer"'
