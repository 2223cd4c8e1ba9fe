# SPDX-License-Identifier: Apache-2.0
"""Who may do what, and how much of it."""

import pytest

OWN, OTHER = "a1b2c3d4e5f60718293a4b5c6d7e8f90", "ffffffffffffffffffffffffffffffff"
SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"


def who(roles, project=OWN):
    return {"X-Roles": roles, "X-Project-Id": project, "X-User-Id": "u"}


@pytest.fixture
def world(worlds):
    """Identity by trusted headers; an administrator by default."""
    made = worlds(api_settings={"auth_strategy": "testing"})
    made.headers = who("admin")
    return made


@pytest.fixture
def lb(world):
    return world.lb(project_id=OWN)


READ, WRITE, ADMIN = "reader", "member", "admin"


@pytest.mark.parametrize(("roles", "project", "codes"), [
    pytest.param("reader", OWN, {"list": 200, "get": 200, "put": 403, "failover": 403, "flavors": 200,
                                 "profiles": 403, "amphorae": 403}, id="reader"),
    pytest.param("member", OWN, {"list": 200, "get": 200, "put": 200, "failover": 403, "flavors": 403,
                                 "profiles": 403, "amphorae": 403}, id="member alone is no reader"),
    pytest.param("member,reader", OTHER, {"list": 200, "get": 403, "put": 403, "failover": 403}, id="another project"),
    pytest.param("Admin", OTHER, {"list": 200, "get": 200, "put": 200, "failover": 202, "flavors": 200,
                                  "profiles": 200, "amphorae": 200}, id="admin, in any case"),
    pytest.param("load-balancer_member", OWN, {"list": 403, "get": 403, "put": 403}, id="old roles mean nothing"),
    pytest.param("service", OTHER, {"list": 403, "get": 403, "members": 200}, id="services list members"),
    pytest.param("reader", "", {"list": 403}, id="no project"),
])
def test_roles(world, lb, roles, project, codes):
    pool = world.pool(lb)
    world.headers = who(roles, project)
    one = f"/loadbalancers/{lb['id']}"
    requests = {
        "list": ("GET", "/loadbalancers"), "get": ("GET", one), "put": ("PUT", one, {"loadbalancer": {}}),
        "failover": ("PUT", f"{one}/failover"), "flavors": ("GET", "/flavors"), "profiles": ("GET", "/flavorprofiles"),
        "members": ("GET", f"/pools/{pool['id']}/members"),
    }
    codes = dict(codes)
    if "amphorae" in codes:
        assert world.call("GET", "/amphorae", root="/v2.0/octavia").status_code == codes.pop("amphorae")
    if roles == "member":
        codes["flavors"] = 200
    assert {name: world.call(*requests[name]).status_code for name in codes} == codes


def test_lists_show_the_projects_that_one_may_see(world, lb):
    world.lb(project_id=OTHER)
    assert len(world.get("/loadbalancers")["loadbalancers"]) == 2
    assert len(world.get("/loadbalancers", project_id=OTHER)["loadbalancers"]) == 1
    world.headers = who("reader")
    assert [each["id"] for each in world.get("/loadbalancers")["loadbalancers"]] == [lb["id"]]
    world.refused(403, "GET", "/loadbalancers", query={"project_id": OTHER})


def test_existence_comes_before_access(world, lb):
    world.headers = who("member", OTHER)
    world.refused(403, "GET", f"/loadbalancers/{lb['id']}")
    world.refused(404, "GET", "/loadbalancers/nowhere")
    world.refused(400, "PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"vip_address": "192.0.2.1"}})


def test_access_comes_before_existence_for_flavors(world):
    world.headers = who("member")
    world.refused(403, "DELETE", "/flavors/nowhere")


def test_foreign_projects_are_for_administrators(world):
    world.headers = who("member")
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": OTHER}}
    world.refused(403, "POST", "/loadbalancers", body)
    assert world.post("/loadbalancers", loadbalancer={"vip_subnet_id": SUBNET})["loadbalancer"]["project_id"] == OWN


def test_children_belong_to_the_load_balancers_project(world, lb):
    assert world.listener(lb, project_id=OTHER)["project_id"] == OWN
    world.headers = who("admin", OTHER)
    assert world.pool(lb, tenant_id=OTHER)["project_id"] == OWN


def test_the_old_roles_come_back_by_option(worlds):
    world = worlds(api_settings={"auth_strategy": "testing"}, oslo_policy={"enforce_new_defaults": False})
    world.headers = who("load-balancer_member")
    assert world.call("GET", "/loadbalancers").status_code == 200
    world.headers = who("load-balancer_global_observer", OTHER)
    assert world.call("GET", "/loadbalancers").status_code == 200


def test_keystone_is_asked_for_all_but_the_version_document(worlds):
    world = worlds(api_settings={"auth_strategy": "keystone"}, keystone_authtoken={
        "www_authenticate_uri": "http://keystone.example.org"})
    assert world.call("GET", "/", root="").status_code == 200
    result = world.call("GET", "/loadbalancers", headers=who("admin"))
    assert result.status_code == 401
    assert result.headers["www-authenticate"].startswith("Keystone uri=")
    assert result.headers["x-openstack-request-id"].startswith("req-")


# Quotas.


@pytest.mark.parametrize(("kind", "title"), [
    ("loadbalancer", "Load Balancer"), ("listener", "Listener"), ("pool", "Pool"), ("member", "Member"),
    ("healthmonitor", "Health Monitor"), ("l7policy", "L7 Policy"), ("l7rule", "L7 Rule"),
])
def test_limits_hold(world, kind, title):
    lb = world.lb(project_id=OWN, provider="noop_driver")
    listener, pool = world.listener(lb), world.pool(lb)
    policy = world.policy(listener)
    assert world.call("PUT", f"/quotas/{OWN}", {"quota": {kind: 0}}).status_code == 202
    bodies = {
        "loadbalancer": ("/loadbalancers", {"vip_subnet_id": SUBNET}),
        "listener": ("/listeners", {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 90}),
        "pool": ("/pools", {"loadbalancer_id": lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}),
        "member": (f"/pools/{pool['id']}/members", {"address": "192.0.2.1", "protocol_port": 1}),
        "healthmonitor": ("/healthmonitors", {
            "pool_id": pool["id"], "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1}),
        "l7policy": ("/l7policies", {"listener_id": listener["id"], "action": "REJECT"}),
        "l7rule": (f"/l7policies/{policy['id']}/rules", {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}),
    }
    path, body = bodies[kind]
    root = "rule" if kind == "l7rule" else kind
    assert world.refused(403, "POST", path, {root: body}) == f"Quota has been met for resources: {title}"


def test_a_deleted_object_counts_until_it_is_gone(world, lb):
    listener = world.listener(lb)
    world.call("PUT", f"/quotas/{OWN}", {"quota": {"listener": 1}})
    world.delete(f"/listeners/{listener['id']}")
    body = {"listener": {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80}}
    world.refused(403, "POST", "/listeners", body)
    world.settle()
    world.post("/listeners", **body)


def test_a_batch_counts_what_it_adds(world, lb):
    pool = world.pool(lb)
    world.member(pool)
    world.call("PUT", f"/quotas/{OWN}", {"quota": {"member": 1}})
    path = f"/pools/{pool['id']}/members"
    one, two = ({"address": f"192.0.2.{number}", "protocol_port": 80} for number in (2, 3))
    assert world.call("PUT", path, {"members": [one]}).status_code == 202
    assert world.refused(403, "PUT", path, {"members": [one, two]}) == "Quota has been met for resources: Member"


def test_quotas_are_shown_in_both_spellings(world):
    result = world.call("PUT", f"/quotas/{OWN}", {"quota": {"load_balancer": 5, "healthmonitor": 3, "pool": None}})
    assert list(result.json["quota"]) == [
        "project_id", "loadbalancer", "load_balancer", "listener", "member", "pool", "healthmonitor",
        "health_monitor", "l7policy", "l7rule", "tenant_id"]
    assert (result.json["quota"]["loadbalancer"], result.json["quota"]["health_monitor"]) == (5, 3)
    assert world.get(f"/quotas/{OWN}")["quota"]["pool"] == -1
    (row,) = world.get("/quotas")["quotas"]
    assert (row["load_balancer"], row["pool"]) == (5, None)
    assert world.get("/quotas/defaults")["quota"]["loadbalancer"] == -1
    assert world.get(f"/quotas/{OWN}/default")["quota"]["loadbalancer"] == -1
    assert world.call("DELETE", f"/quotas/{OWN}").status_code == 202
    assert world.get(f"/quotas/{OWN}")["quota"]["loadbalancer"] == -1
    assert world.refused(404, "DELETE", "/quotas/nobody") == "Quotas nobody not found."
    world.headers = who("reader")
    world.refused(403, "GET", "/quotas/defaults")
    world.get(f"/quotas/{OWN}/default")


def test_checking_a_quota_makes_a_row_of_nulls(world, lb):
    (row,) = world.get("/quotas")["quotas"]
    assert (row["project_id"], row["load_balancer"]) == (OWN, None)


def test_the_table_of_rules_is_whole():
    from statera.api.policy import rules

    assert len(list(rules())) == 97 + 3  # and those of log targets
