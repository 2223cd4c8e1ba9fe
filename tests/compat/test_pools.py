# SPDX-License-Identifier: Apache-2.0
"""Pools, members one by one and in batches, health monitors."""

import pytest


def member(number, **values):
    return {"address": f"192.0.2.{number}", "protocol_port": 80, **values}


def test_a_new_pool_shows_all_its_fields_in_order(world):
    shown = world.pool(world.lb(), session_persistence={"type": "APP_COOKIE", "cookie_name": "c"})
    assert list(shown) == [
        "id", "name", "description", "provisioning_status", "operating_status", "admin_state_up", "protocol",
        "lb_algorithm", "session_persistence", "project_id", "loadbalancers", "listeners", "created_at", "updated_at",
        "members", "tags", "tls_container_ref", "ca_tls_container_ref", "crl_container_ref", "tls_enabled",
        "tls_ciphers", "tls_versions", "alpn_protocols", "tenant_id"]
    assert shown["session_persistence"] == {
        "type": "APP_COOKIE", "cookie_name": "c", "persistence_timeout": None, "persistence_granularity": None}


@pytest.mark.parametrize(("values", "status", "fault"), [
    pytest.param({"loadbalancer_id": None}, 400,
                 "Validation failure: Must provide at least one of: loadbalancer_id, listener_id", id="no parent"),
    pytest.param({"loadbalancer_id": None, "listener_id": "4f5fa2d6-9b3c-4c8e-b7a9-8a0f2d2d3a10"}, 404,
                 "Listener 4f5fa2d6-9b3c-4c8e-b7a9-8a0f2d2d3a10 not found.", id="unknown listener"),
    pytest.param({"protocol": None}, 400, "None is not a valid option for protocol", id="null protocol"),
    pytest.param({"session_persistence": {"type": "APP_COOKIE"}}, 400,
                 'Validation failure: Field "cookie_name" must be specified when using the "APP_COOKIE" session '
                 "persistence type.", id="cookie without name"),
    pytest.param({"session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 5}}, 400,
                 "Validation failure: persistence_timeout and persistence_granularity is only for UDP and SCTP "
                 "protocol pools.", id="timeout on HTTP"),
    pytest.param({"crl_container_ref": "x"}, 400, "Validation failure: A CA certificate reference is required to "
                 "specify a revocation list.", id="CRL without CA"),
])
def test_a_bad_pool_is_refused(world, values, status, fault):
    lb = world.lb()
    body = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", **values}
    assert world.refused(status, "POST", "/pools", {"pool": body}) == fault


def test_persistence_keeps_its_type_and_loses_what_is_left_out(world):
    pool = world.pool(world.lb(), session_persistence={"type": "APP_COOKIE", "cookie_name": "c"})
    changed = world.put(f"/pools/{pool['id']}", pool={"session_persistence": {"cookie_name": "d"}})["pool"]
    assert changed["session_persistence"]["type"] == "APP_COOKIE"
    assert world.refused(400, "PUT", f"/pools/{pool['id']}", {"pool": {"session_persistence": {
        "type": "SOURCE_IP", "persistence_timeout": 4}}}) == (
        "Validation failure: persistence_timeout and persistence_granularity is only for UDP protocol pools.")
    changed = world.put(f"/pools/{pool['id']}", pool={"session_persistence": None})["pool"]
    assert changed["session_persistence"] is None


def test_a_listener_has_one_default_pool(world):
    lb = world.lb()
    listener = world.listener(lb)
    world.pool(lb, listener_id=listener["id"])
    assert world.refused(409, "POST", "/pools", {"pool": {
        "listener_id": listener["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}}) == (
        "This listener already has a default pool")


def test_a_change_of_a_member_makes_its_parents_pending(world):
    lb = world.lb()
    listener = world.listener(lb)
    pool = world.pool(lb, listener_id=listener["id"])
    one = world.member(pool)
    world.put(f"/pools/{pool['id']}/members/{one['id']}", member={"weight": 3})
    for path in (f"/loadbalancers/{lb['id']}", f"/listeners/{listener['id']}", f"/pools/{pool['id']}",
                 f"/pools/{pool['id']}/members/{one['id']}"):
        assert world.status(path) == "PENDING_UPDATE"


def test_a_new_member_shows_all_its_fields_in_order(world):
    pool = world.pool(world.lb())
    shown = world.post(f"/pools/{pool['id']}/members", member=member(1, backup=None, weight=None))["member"]
    assert list(shown) == [
        "id", "name", "operating_status", "provisioning_status", "admin_state_up", "address", "protocol_port",
        "weight", "backup", "subnet_id", "project_id", "created_at", "updated_at", "monitor_address", "monitor_port",
        "tags", "vnic_type", "tenant_id"]
    assert (shown["operating_status"], shown["weight"], shown["backup"]) == ("NO_MONITOR", 1, False)


def test_members_of_a_monitored_pool_start_offline(world):
    pool = world.pool(world.lb())
    world.monitor(pool)
    assert world.member(pool)["operating_status"] == "OFFLINE"


def test_members_are_refused(world):
    lb = world.lb()
    pool, other = world.pool(lb), world.pool(lb)
    one = world.member(pool)
    path = f"/pools/{pool['id']}/members"
    assert world.refused(409, "POST", path, {"member": member(1)}) == (
        "Another member on this pool is already using ip 192.0.2.1 on protocol_port 80")
    assert world.refused(400, "POST", path, {"member": {"address": "169.254.169.254", "protocol_port": 80}}) == (
        "169.254.169.254 is not a valid option for member address")
    assert world.refused(400, "POST", path, {"member": member(2, request_sriov=True)}) == (
        "The load balancer flavor does not allow SR-IOV member ports.")
    assert world.refused(404, "GET", f"/pools/{other['id']}/members/{one['id']}") == f"Member {one['id']} not found."
    assert world.call("GET", "/pools/nowhere/members").json == {
        "code": 404, "title": "Bad Request", "description": "Pool nowhere not found."}


def test_a_batch_replaces_all_members(world):
    pool = world.pool(world.lb())
    kept = world.member(pool, name="kept", weight=9, tags=["t"])
    gone = world.member(pool, address="192.0.2.9")
    result = world.call("PUT", f"/pools/{pool['id']}/members", {"members": [member(1), member(3)]})
    assert (result.status_code, result.content) == (202, b"")
    assert "content-type" not in result.headers
    shown = {each["id"]: each for each in world.get(f"/pools/{pool['id']}/members")["members"]}
    assert shown[kept["id"]]["provisioning_status"] == "PENDING_UPDATE"
    assert (shown[kept["id"]]["weight"], shown[kept["id"]]["name"], shown[kept["id"]]["tags"]) == (1, "kept", ["t"])
    assert shown[gone["id"]]["provisioning_status"] == "PENDING_DELETE"
    assert sorted(each["provisioning_status"] for each in shown.values()) == [
        "PENDING_CREATE", "PENDING_DELETE", "PENDING_UPDATE"]
    world.settle()
    assert len(world.get(f"/pools/{pool['id']}/members")["members"]) == 2


def test_a_batch_may_only_add(world):
    pool = world.pool(world.lb())
    world.member(pool)
    world.call("PUT", f"/pools/{pool['id']}/members", {"members": [member(2)]}, query={"additive_only": "true"})
    world.settle()
    assert len(world.get(f"/pools/{pool['id']}/members")["members"]) == 2


def test_a_batch_that_changes_nothing_leaves_all_active(world):
    lb = world.lb()
    pool = world.pool(lb)
    assert world.call("PUT", f"/pools/{pool['id']}/members", {"members": []}).status_code == 202
    assert world.status(f"/loadbalancers/{lb['id']}") == "ACTIVE"


def test_doubles_in_a_batch(world):
    pool = world.pool(world.lb())
    world.member(pool)
    path = f"/pools/{pool['id']}/members"
    assert world.refused(400, "PUT", path, {"members": [member(1), member(1)]}) == (
        "Validation failure: Member must be updated only once in the same request.")
    assert world.refused(409, "PUT", path, {"members": [member(2), member(2)]}).startswith("Another member on this")


def test_a_new_monitor_shows_all_its_fields_in_order(world):
    shown = world.monitor(world.pool(world.lb()), http_version=1.1, domain_name="example.org")
    assert list(shown) == [
        "id", "name", "type", "delay", "timeout", "max_retries", "max_retries_down", "http_method", "url_path",
        "expected_codes", "admin_state_up", "project_id", "pools", "provisioning_status", "operating_status",
        "created_at", "updated_at", "tags", "http_version", "domain_name", "tenant_id"]
    assert (shown["http_method"], shown["url_path"], shown["expected_codes"]) == ("GET", "/", "200")
    assert (shown["max_retries_down"], shown["http_version"]) == (3, 1.1)


@pytest.mark.parametrize(("values", "status", "fault"), [
    pytest.param({"pool_id": None}, 404, "Pool None not found.", id="no pool"),
    pytest.param({"delay": None}, 400, "None is not a valid option for delay", id="null delay"),
    pytest.param({"type": "TCP", "url_path": "/"}, 400,
                 "url_path is not a valid option for health monitors of type TCP", id="path on TCP"),
    pytest.param({"type": "UDP-CONNECT"}, 400, "Validation failure: The UDP-CONNECT type is only supported for pools "
                 "of type UDP/SCTP.", id="UDP on HTTP"),
    pytest.param({"domain_name": "x.org"}, 400, "Validation failure: 'http_version' must be specified when "
                 "'domain_name' is provided.", id="domain without version"),
    pytest.param({"domain_name": "x.org", "http_version": 1.0}, 400, "http_version 1.0 is not a valid option for "
                 "health monitors HTTP 1.1 domain name health check", id="domain with 1.0"),
])
def test_a_bad_monitor_is_refused(world, values, status, fault):
    pool = world.pool(world.lb())
    body = {"pool_id": pool["id"], "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, **values}
    assert world.refused(status, "POST", "/healthmonitors", {"healthmonitor": body}) == fault


@pytest.mark.parametrize("codes", ["200", "200,201", "200 , 201", "200-204"])
def test_good_codes(world, codes):
    assert world.monitor(world.pool(world.lb()), expected_codes=codes)["expected_codes"] == codes


@pytest.mark.parametrize("codes", ["200-", "200,", "200-204,301", "2xx"])
def test_bad_codes(world, codes):
    pool = world.pool(world.lb())
    body = {"pool_id": pool["id"], "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, "expected_codes": codes}
    assert "Value should match the pattern" in world.refused(400, "POST", "/healthmonitors", {"healthmonitor": body})


def test_a_pool_has_one_monitor_and_another_may_follow_it(world):
    pool = world.pool(world.lb())
    monitor = world.monitor(pool)
    body = {"pool_id": pool["id"], "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1}
    assert world.refused(409, "POST", "/healthmonitors", {"healthmonitor": body}) == (
        "This pool already has a health monitor")
    world.delete(f"/healthmonitors/{monitor['id']}")
    newer = world.post("/healthmonitors", healthmonitor=body)["healthmonitor"]
    assert world.get(f"/pools/{pool['id']}")["pool"]["healthmonitor_id"] == newer["id"]


def test_a_tcp_monitor_refuses_http_fields_even_as_null(world):
    monitor = world.monitor(world.pool(world.lb()), type="TCP", url_path=None)
    assert world.refused(400, "PUT", f"/healthmonitors/{monitor['id']}", {"healthmonitor": {"url_path": None}}) == (
        "url_path is not a valid option for health monitors of type TCP")


def test_udp_pools_have_monitors_of_their_own(world):
    pool = world.pool(world.lb(provider="noop_driver"), protocol="UDP")
    body = {"pool_id": pool["id"], "type": "UDP-CONNECT", "delay": 2, "timeout": 1, "max_retries": 1}
    assert world.refused(400, "POST", "/healthmonitors", {"healthmonitor": body}) == (
        "Validation failure: The request delay value 2 should be larger than 3 for UDP-CONNECT health monitor type.")
    assert world.monitor(pool, type="UDP-CONNECT", delay=3)["http_method"] is None


def test_members_are_not_watched_once_the_monitor_is_gone(world):
    lb = world.lb()
    pool = world.pool(lb)
    monitor = world.monitor(pool)
    member = world.member(pool)
    path = f"/pools/{pool['id']}/members/{member['id']}"
    assert world.get(path)["member"]["operating_status"] == "OFFLINE"
    world.delete(f"/healthmonitors/{monitor['id']}")
    world.settle()
    assert world.get(path)["member"]["operating_status"] == "NO_MONITOR"


def test_members_stay_watched_when_another_monitor_takes_over(world):
    lb = world.lb()
    pool = world.pool(lb)
    monitor = world.monitor(pool)
    member = world.member(pool)
    world.delete(f"/healthmonitors/{monitor['id']}")
    world.monitor(pool)
    assert world.get(f"/pools/{pool['id']}/members/{member['id']}")["member"]["operating_status"] == "OFFLINE"
