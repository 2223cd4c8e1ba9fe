# SPDX-License-Identifier: Apache-2.0
"""Lists: filters, sorting, pages, fields, tags."""

import pytest

BASE = "http://falconframework.org/v2.0/lbaas"


@pytest.fixture
def pools(world):
    """Five pools, named in the order of their creation."""
    lb = world.lb()
    return {name: world.pool(lb, name=name, description=text, tags=tags) for name, text, tags in (
        ("a", "z", ["red"]), ("b", "y", ["red", "blue"]), ("c", "x", []), ("d", "x", ["blue"]), ("e", "w", ["green"]))}


def names(world, path="/pools", **query):
    return "".join(each["name"] for each in world.get(path, **query)["pools"])


def test_the_default_order_is_that_of_creation(world, pools):
    assert names(world) == "abcde"


@pytest.mark.parametrize(("query", "expected"), [
    pytest.param({"name": "b"}, "b", id="by name"),
    pytest.param({"name": "nobody"}, "", id="no match"),
    pytest.param({"description": "x", "protocol": "HTTP"}, "cd", id="both must hold"),
    pytest.param({"admin_state_up": "YES"}, "abcde", id="lenient truth"),
    pytest.param({"admin_state_up": "what"}, "", id="anything else is false"),
    pytest.param({"provisioning_status": "ACTIVE"}, "abcde", id="derived status"),
    pytest.param({"operating_status": "ERROR"}, "", id="derived operating status"),
    pytest.param({"created_at": "never"}, "", id="value of another type"),
    pytest.param({"sort": "name:desc"}, "edcba", id="sorted down"),
    pytest.param({"sort": "description,name:DESC"}, "edcba", id="two keys"),
    pytest.param({"sort_key": "description,name", "sort_dir": "asc,desc"}, "edcba", id="sort_key and sort_dir"),
    pytest.param({"sort_key": "name", "sort_dir": "desc"}, "edcba", id="one of each"),
    pytest.param({"tags": "red,blue"}, "b", id="all tags"),
    pytest.param({"tags-any": "red,blue"}, "abd", id="any tag"),
    pytest.param({"not-tags": "red,blue"}, "acde", id="not all tags"),
    pytest.param({"not-tags-any": "red,blue"}, "ce", id="none of the tags"),
    pytest.param({"tags-any": "red,blue", "not-tags": "red"}, "d", id="tag keys combine"),
    pytest.param({"tags": ""}, "", id="the empty tag"),
])
def test_filters_and_orders(world, pools, query, expected):
    assert names(world, **query) == expected


def test_filters_by_relations(world, pools):
    monitor = world.monitor(pools["c"])
    assert names(world, healthmonitor_id=monitor["id"]) == "c"
    assert names(world, loadbalancer_id=pools["a"]["loadbalancers"][0]["id"]) == "abcde"
    assert names(world, load_balancer_id="nobody") == ""


@pytest.mark.parametrize(("query", "text", "plain"), [
    pytest.param([("colour", "red")], "One or more arguments are either duplicate or invalid", False, id="unknown key"),
    pytest.param([("tenant_id", "x")], "One or more arguments are either duplicate or invalid", False, id="tenant_id"),
    pytest.param([("members", "x")], "One or more arguments are either duplicate or invalid", False, id="a collection"),
    pytest.param([("name", "a"), ("name", "b")], "One or more arguments are either duplicate or invalid", False,
                 id="twice"),
    pytest.param([("sort", "colour")], "Supplied sort key 'colour' is not valid.", False, id="sort key"),
    pytest.param([("sort", "name:up")], "Supplied sort direction 'up' is not valid.", True, id="sort direction"),
    pytest.param([("sort", "a:b:c")], "Supplied sort key 'a:b:c' is not valid.", True, id="sort form"),
    pytest.param([("limit", "x")], "Supplied pagination limit 'x' is not valid.", True, id="limit"),
    pytest.param([("marker", "x")], "Supplied pagination marker 'x' is not valid.", False, id="marker"),
])
def test_bad_queries(world, query, text, plain):
    assert world.refused(400, "GET", "/pools", query=query) == text
    assert ("title" in world.call("GET", "/pools", query=query).json) is plain


def test_pages_link_to_their_neighbours(world, pools):
    first = world.get("/pools", limit=2, protocol="HTTP")
    assert [each["name"] for each in first["pools"]] == ["a", "b"]
    assert first["pools_links"] == [
        {"href": f"{BASE}/pools?limit=2&marker={pools['b']['id']}", "rel": "next"}]
    second = world.get("/pools", limit=2, sort="name:asc", marker=pools["b"]["id"])
    assert [each["name"] for each in second["pools"]] == ["c", "d"]
    assert second["pools_links"] == [
        {"href": f"{BASE}/pools?limit=2&sort=name:asc&marker={pools['c']['id']}&page_reverse=True", "rel": "previous"},
        {"href": f"{BASE}/pools?limit=2&sort=name:asc&marker={pools['d']['id']}", "rel": "next"}]
    last = world.get("/pools", limit=2, marker=pools["d"]["id"])
    assert [link["rel"] for link in last["pools_links"]] == ["previous"]
    assert world.get("/pools", limit=2, marker=pools["e"]["id"]) == {"pools": [], "pools_links": []}


def test_a_full_last_page_has_a_next_link(world, pools):
    assert [link["rel"] for link in world.get("/pools", limit=5)["pools_links"]] == ["next"]


@pytest.mark.parametrize("limit", [0, -1, "infinite", 5000])
def test_no_limit(world, pools, limit):
    assert names(world, limit=limit) == "abcde"


def test_backwards_starts_at_the_first(world, pools):
    assert names(world, limit=2, marker=pools["e"]["id"], page_reverse="True") == "ab"
    assert names(world, limit=2, marker=pools["c"]["id"], page_reverse="true") == "de"


@pytest.mark.parametrize("key", ["name", "description", "updated_at", "operating_status", "healthmonitor_id",
                                 "tls_ciphers", "provisioning_status"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_meet_every_object_once_whatever_the_order(world, pools, key, direction):
    world.monitor(pools["b"])
    world.monitor(pools["d"])
    seen, marker = "", {}
    for _ in range(4):
        page = world.get("/pools", limit=2, sort=f"{key}:{direction}", **marker)["pools"]
        seen += "".join(each["name"] for each in page)
        marker = {"marker": page[-1]["id"]} if page else marker
    assert sorted(seen) == list("abcde")


def test_fields(world, pools):
    shown = world.call("GET", "/pools", query=[("fields", "id"), ("fields", "name"), ("limit", 1)]).json["pools"]
    assert shown == [{"id": pools["a"]["id"], "name": "a"}]
    assert world.get("/pools", fields="id,name", limit=1)["pools"] == [{}]
    assert world.get(f"/pools/{pools['a']['id']}", fields="tenant_id")["pool"] == {}
    assert list(world.get(f"/pools/{pools['a']['id']}", fields="project_id")["pool"]) == ["project_id"]


@pytest.mark.parametrize(("option", "query"), [
    ("allow_sorting", {"sort": "colour"}), ("allow_filtering", {"colour": "red"}),
    ("allow_field_selection", {"fields": "x"}), ("allow_pagination", {"limit": "x"}),
])
def test_what_is_off_is_ignored(worlds, option, query):
    world = worlds(api_settings={option: False})
    world.pool(world.lb())
    shown = world.get("/pools", **query)
    assert "name" in shown["pools"][0]
    assert (shown["pools_links"] is None) is (option == "allow_pagination")


def test_limits_are_clamped(worlds):
    world = worlds(api_settings={"pagination_max_limit": "1"})
    lb = world.lb()
    world.pool(lb), world.pool(lb)
    assert len(world.get("/pools", limit=5)["pools"]) == 1
    assert len(world.get("/pools")["pools"]) == 1
