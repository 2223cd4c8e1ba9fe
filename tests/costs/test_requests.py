# SPDX-License-Identifier: Apache-2.0
"""What each request costs: SQL statements, the same for one object as for many, and calls of functions."""

import pytest
from compat.conftest import PROJECT, SUBNET
from counted import calls
from furniture import OPERATIONS, furnished, path_of

MANY = 100


@pytest.fixture
def world(worlds):
    return worlds(api_settings={"default_provider_driver": "noop_driver"})


def looks(world, known):
    """Statements of every list and show, by request."""
    counts = {}
    for operation in (each for each in OPERATIONS if each.verb == "get"):
        where = path_of(operation, known)

        def look(where=where):
            assert world.call("GET", where, root="").status_code == 200, where

        counts[operation.path] = world.statements(look)
    return counts


def grow(world, known, count):
    """*count* more of each kind that grows, most of them below the same load balancer."""
    lb, pool, policy = ({"id": known[f"{kind}_id"]} for kind in ("loadbalancer", "pool", "l7policy"))
    for number in range(count):
        other = world.lb(name=f"lb {number}", tags=["a", "b"])
        world.listener(lb, protocol_port=1000 + number, tags=["a"])
        world.monitor(world.pool(other))
        world.policy({"id": known["listener_id"]})
        world.post(f"/l7policies/{policy['id']}/rules", rule={
            "type": "PATH", "compare_type": "EQUAL_TO", "value": f"/{number}"})
        world.member(pool, protocol_port=1000 + number)
        world.post("/flavors", flavor={"name": f"f{number}", "flavor_profile_id": known["flavorprofile_id"]})


def test_what_is_looked_at_costs_the_same_however_much_it_is(world, costs):
    known = furnished(world)
    few = looks(world, known)
    grow(world, known, 8)
    assert looks(world, known) == few
    costs("looking", few)


def test_a_list_of_a_hundred_costs_what_one_of_ten_does(world, costs):
    for number in range(MANY):
        world.post("/loadbalancers", loadbalancer=whole_tree(f"lb {number}"))
    world.settle()
    ten, hundred = (lambda count=count: world.get("/loadbalancers", limit=count) for count in (10, MANY))
    assert world.statements(ten) == world.statements(hundred)
    costs("calls", {"list of 10 load balancers": calls(ten), "list of 100 load balancers": calls(hundred)}, slack=0.05)


def test_writes(world, costs):
    counts = {}

    def counting(what, verb, path, query=(), **body):
        answers = []
        counts[what] = world.statements(lambda: answers.append(world.call(verb, path, body or None, query=query)))
        assert answers[0].status_code < 300, answers[0].text
        world.settle()
        return next(iter(answers[0].json.values())) if verb == "POST" else None

    counting("create a load balancer", "POST", "/loadbalancers", loadbalancer={
        "vip_subnet_id": SUBNET, "project_id": PROJECT})
    lb = counting("create a whole tree", "POST", "/loadbalancers", loadbalancer=whole_tree("lb"))
    made = {"loadbalancer": f"/loadbalancers/{lb['id']}"}
    for kind, path, values in (
        ("listener", "/listeners", {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 81}),
        ("pool", "/pools", {"loadbalancer_id": lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}),
        ("member", "{pool}/members", {"address": "192.0.2.7", "protocol_port": 80}),
        ("healthmonitor", "/healthmonitors", {
            "pool_id": "{pool}", "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1}),
        ("l7policy", "/l7policies", {"listener_id": "{listener}", "action": "REJECT"}),
        ("rule", "{l7policy}/rules", {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/x"}),
    ):
        ids = {name: where.rsplit("/", 1)[1] for name, where in made.items()}
        body = {name: value.format(**ids) if isinstance(value, str) else value for name, value in values.items()}
        shown = counting(f"create a {kind}", "POST", path.format(**made), **{kind: body})
        made[kind] = f"{path.format(**made)}/{shown['id']}"
    for kind, path in made.items():
        changed = {"invert": True} if kind == "rule" else {"name": "other"}
        counting(f"update a {kind}", "PUT", path, **{kind: changed})
    for count in (2, 100):
        members = [{"address": f"10.0.0.{n + 1}", "protocol_port": 80} for n in range(count)]
        counting(f"batch of {count} members", "PUT", f"{made['pool']}/members", members=members)
    for kind, path in list(made.items())[:0:-1]:
        if kind != "member":  # the batch has taken it away
            counting(f"delete a {kind}", "DELETE", path)
    counting("delete a whole tree", "DELETE", made["loadbalancer"], query=[("cascade", "true")])
    costs("writing", counts)


def whole_tree(name):
    pool = {"name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": f"192.0.2.{n}", "protocol_port": 80} for n in (1, 2)],
            "healthmonitor": {"type": "HTTP", "delay": 5, "timeout": 2, "max_retries": 2}}
    listener = {"name": "listener", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    return {"name": name, "vip_subnet_id": SUBNET, "project_id": PROJECT, "listeners": [listener]}
