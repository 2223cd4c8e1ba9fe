# SPDX-License-Identifier: Apache-2.0
"""L7 policies and their rules. Amphorae do not serve them yet, so another provider stands in."""

import pytest


@pytest.fixture
def lb(world):
    return world.lb(provider="noop_driver")


@pytest.fixture
def listener(world, lb):
    return world.listener(lb)


def test_a_new_policy_shows_all_its_fields_in_order(world, listener):
    shown = world.policy(listener, action="REDIRECT_TO_URL", redirect_url="http://example.org/")
    assert list(shown) == [
        "id", "name", "description", "provisioning_status", "operating_status", "admin_state_up", "project_id",
        "action", "listener_id", "redirect_pool_id", "redirect_url", "redirect_prefix", "position", "rules",
        "created_at", "updated_at", "tags", "redirect_http_code", "tenant_id"]
    assert (shown["position"], shown["redirect_http_code"]) == (1, 302)


def positions(world, listener):
    shown = world.get(f"/listeners/{listener['id']}")["listener"]["l7policies"]
    return [world.get(f"/l7policies/{each['id']}")["l7policy"] for each in shown]


def test_positions_are_contiguous(world, listener):
    for name, position in (("a", 5), ("b", 1), ("c", None), ("d", 2)):
        world.policy(listener, name=name, position=position)
    shown = positions(world, listener)
    assert [(each["name"], each["position"]) for each in shown] == [("b", 1), ("d", 2), ("a", 3), ("c", 4)]
    world.put(f"/l7policies/{shown[0]['id']}", l7policy={"position": 9})
    shown = positions(world, listener)
    assert [(each["name"], each["position"]) for each in shown] == [("d", 1), ("a", 2), ("c", 3), ("b", 4)]
    world.settle()
    world.delete(f"/l7policies/{shown[1]['id']}")
    world.settle()
    shown = positions(world, listener)
    assert [(each["name"], each["position"]) for each in shown] == [("d", 1), ("c", 2), ("b", 3)]


@pytest.mark.parametrize(("values", "fault"), [
    pytest.param({"action": None}, "Invalid L7 Policy action specified: None", id="no action"),
    pytest.param({"action": "REDIRECT_TO_URL"}, "Invalid L7 Policy arguments: redirect_url must not be None",
                 id="no url"),
    pytest.param({"action": "REDIRECT_TO_POOL"},
                 "Invalid L7 Policy arguments: redirect_pool_id or redirect_pool must not be None", id="no pool"),
    pytest.param({"action": "REDIRECT_PREFIX"}, "Invalid L7 Policy arguments: redirect_prefix must not be None",
                 id="no prefix"),
])
def test_a_bad_policy_is_refused(world, listener, values, fault):
    body = {"l7policy": {"listener_id": listener["id"], **values}}
    assert world.refused(400, "POST", "/l7policies", body) == fault


def test_the_target_wins_over_the_action(world, lb, listener):
    policy = world.policy(listener, action="REJECT", redirect_prefix="https://example.org")
    assert policy["action"] == "REDIRECT_PREFIX"
    pool = world.pool(lb)
    changed = world.put(f"/l7policies/{policy['id']}", l7policy={"redirect_pool_id": pool["id"]})["l7policy"]
    assert (changed["action"], changed["redirect_prefix"], changed["redirect_http_code"]) == (
        "REDIRECT_TO_POOL", None, None)
    assert world.refused(400, "PUT", f"/l7policies/{policy['id']}", {"l7policy": {}}) == (
        "Invalid L7 Policy arguments: Invalid update options")


def test_a_pool_in_use_stays(world, lb, listener):
    pool = world.pool(lb)
    policy = world.policy(listener, action="REDIRECT_TO_POOL", redirect_pool_id=pool["id"])
    assert world.refused(409, "DELETE", f"/pools/{pool['id']}") == (
        f"Pool {pool['id']} is in use by L7 policy {policy['id']}")


def test_a_pool_names_the_listeners_that_redirect_to_it(world, lb, listener):
    pool = world.pool(lb)
    policy = world.policy(listener, action="REDIRECT_TO_POOL", redirect_pool_id=pool["id"])
    assert world.get(f"/pools/{pool['id']}")["pool"]["listeners"] == []
    world.post(f"/l7policies/{policy['id']}/rules", rule={"type": "PATH", "compare_type": "EQUAL_TO", "value": "/a"})
    world.settle()
    assert world.get(f"/pools/{pool['id']}")["pool"]["listeners"] == [{"id": listener["id"]}]


def test_rules_come_and_go(world, listener):
    policy = world.policy(listener)
    path = f"/l7policies/{policy['id']}/rules"
    rule = world.post(path, rule={"type": "PATH", "compare_type": "STARTS_WITH", "value": "/a", "key": "x"})["rule"]
    assert list(rule) == [
        "id", "type", "compare_type", "key", "value", "invert", "provisioning_status", "operating_status",
        "created_at", "updated_at", "project_id", "admin_state_up", "tags", "tenant_id"]
    assert rule["key"] == "x"
    world.settle()
    changed = world.put(f"{path}/{rule['id']}", rule={"invert": True})["rule"]
    assert (changed["invert"], changed["key"], changed["provisioning_status"]) == (True, None, "PENDING_UPDATE")
    assert world.status(f"/l7policies/{policy['id']}") == "PENDING_UPDATE"
    world.settle()
    world.delete(f"{path}/{rule['id']}")
    world.settle()
    assert world.get(path) == {"rules": [], "rules_links": []}


@pytest.mark.parametrize(("values", "fault"), [
    pytest.param({"value": ""}, "Invalid L7 Rule: L7 rule type requires a value", id="no value"),
    pytest.param({"value": "a b"}, "Invalid characters in comparison value", id="blank"),
    pytest.param({"compare_type": "REGEX", "value": "("}, "Unable to parse regular expression: missing ), "
                 "unterminated subpattern at position 0", id="bad regex"),
    pytest.param({"compare_type": "REGEX", "value": "(.)\\1"},
                 "regular expression '(.)\\\\1' cannot be put into a HAProxy configuration: reference to non-existent "
                 "subpattern at position 4", id="a group by its number"),
    pytest.param({"compare_type": "REGEX", "value": "x{70000}"},
                 "regular expression 'x{70000}' cannot be put into a HAProxy configuration: number too big in {} "
                 "quantifier at position 7", id="too often"),
    pytest.param({"compare_type": "REGEX", "value": "a\x01b"},
                 "value 'a\\x01b' cannot be put into a HAProxy configuration", id="regex with a control character"),
    pytest.param({"type": "SSL_DN_FIELD", "key": "CN", "value": "a\x02b"},
                 "value 'a\\x02b' cannot be put into a HAProxy configuration", id="name with a control character"),
    pytest.param({"type": "HEADER", "key": "a,b"}, "Invalid characters in key", id="header with a comma"),
    pytest.param({"type": "HEADER"}, "Invalid L7 Rule: L7 rule type requires a key", id="header without key"),
    pytest.param({"type": "HEADER", "key": "a b"}, "Invalid characters in key", id="bad key"),
    pytest.param({"type": "FILE_TYPE", "compare_type": "CONTAINS"},
                 "Invalid L7 Rule: invalid comparison type for rule type", id="file type contains"),
    pytest.param({"type": "SSL_CONN_HAS_CERT", "value": "no"},
                 "Invalid L7 Rule: L7rule value no is not a boolean True string.", id="certificate no"),
    pytest.param({"type": "SSL_VERIFY_RESULT", "value": "x"},
                 "Invalid L7 Rule: L7rule type SSL_VERIFY_RESULT needs a int value, which is >= 0", id="result x"),
    pytest.param({"type": "SSL_CONN_HAS_CERT", "value": "True", "compare_type": "CONTAINS"},
                 "Invalid L7 Rule: L7rule type SSL_CONN_HAS_CERT only supports the EQUAL_TO compare type.",
                 id="certificate contains"),
])
def test_a_bad_rule_is_refused(world, listener, values, fault):
    policy = world.policy(listener)
    body = {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/a", **values}}
    assert world.refused(400, "POST", f"/l7policies/{policy['id']}/rules", body) == f"Error parsing L7Rule: {fault}"


def test_fifty_rules_are_enough(world, listener):
    policy = world.policy(listener)
    for number in range(50):
        world.post(f"/l7policies/{policy['id']}/rules",
                   rule={"type": "PATH", "compare_type": "EQUAL_TO", "value": f"/{number}"})
    body = {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/51"}}
    assert world.refused(409, "POST", f"/l7policies/{policy['id']}/rules", body) == (
        f"Too many rules on L7 policy {policy['id']}")


def test_unknown_policies_are_refused_in_the_plain_shape(world):
    assert world.call("GET", "/l7policies/nowhere/rules").json == {
        "code": 404, "title": "Bad Request", "description": "L7Policy nowhere not found."}
