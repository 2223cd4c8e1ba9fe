# SPDX-License-Identifier: Apache-2.0
"""A request takes as many SQL statements as before when there is a thousand times as much to tell."""

import time

import pytest

MOST = 16
"""Statements of the costliest request, the status of a whole tree."""


@pytest.fixture
def world(worlds):
    return worlds(api_settings={"default_provider_driver": "noop_driver"})


def whole_tree(pools, members):
    """The body of a load balancer's POST with *pools* × (1 + *members*) + *pools* children."""
    return {"name": "big", "vip_subnet_id": "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1", "project_id": "a" * 32,
            "listeners": [{"protocol": "HTTP", "protocol_port": 1000 + number, "default_pool": {"name": f"p{number}"}}
                          for number in range(pools)],
            "pools": [{"name": f"p{number}", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [
                {"address": f"10.0.{number}.{each + 1}", "protocol_port": 80} for each in range(members)]}
                for number in range(pools)]}


def test_a_load_balancer_with_two_thousand_children_is_shown_in_a_few_statements(world):
    lb = world.post("/loadbalancers", loadbalancer=whole_tree(100, 18))["loadbalancer"]
    world.settle()
    path = f"/loadbalancers/{lb['id']}"
    for what, most in (("", 5), ("/status", MOST), ("/stats", 4)):
        began = time.monotonic()
        assert world.statements(lambda what=what: world.get(path + what)) <= most
        print(f"{what or 'show':<10}{time.monotonic() - began:.3f} s")
    shown = world.get(path)["loadbalancer"]
    assert (len(shown["listeners"]), len(shown["pools"])) == (100, 100)
    told = world.get(path + "/status")["statuses"]["loadbalancer"]["listeners"]
    assert sum(len(pool["members"]) for listener in told for pool in listener["pools"]) == 1800


@pytest.mark.parametrize("sort", ["", "name:desc", "vip_address:asc,name:asc", "updated_at:desc"])
def test_pages_show_all_that_was_there_once_while_more_comes_in(world, sort):
    there = {world.lb(name=f"lb {number % 5}")["id"] for number in range(12)}
    seen, marker = [], None
    for number in range(50):
        page = world.get("/loadbalancers", limit=3, **({"sort": sort} if sort else {}), **(
            {"marker": marker} if marker else {}))["loadbalancers"]
        if not page:
            break
        seen += [each["id"] for each in page]
        marker = seen[-1]
        if number < 6:
            world.lb(name=f"lb {number}")
    assert len(seen) == len(set(seen))
    assert there <= set(seen)
