# SPDX-License-Identifier: Apache-2.0
"""Listeners: codes, faults and their order."""

import pytest


def listener(lb, **values):
    return {"listener": {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80, **values}}


def test_a_new_listener_shows_all_its_fields_in_order(world):
    lb = world.lb()
    shown = world.post("/listeners", **listener(lb, name="front"))["listener"]
    assert list(shown) == [
        "id", "name", "description", "provisioning_status", "operating_status", "admin_state_up", "protocol",
        "protocol_port", "connection_limit", "default_tls_container_ref", "sni_container_refs", "project_id",
        "default_pool_id", "l7policies", "insert_headers", "created_at", "updated_at", "loadbalancers",
        "timeout_client_data", "timeout_member_connect", "timeout_member_data", "timeout_tcp_inspect", "tags",
        "client_ca_tls_container_ref", "client_authentication", "client_crl_container_ref", "allowed_cidrs",
        "tls_ciphers", "tls_versions", "alpn_protocols", "hsts_max_age", "hsts_include_subdomains", "hsts_preload",
        "tenant_id"]
    assert shown["loadbalancers"] == [{"id": lb["id"]}]
    assert (shown["allowed_cidrs"], shown["tls_versions"], shown["timeout_client_data"]) == (None, None, 50_000)
    assert world.status(f"/loadbalancers/{lb['id']}") == "PENDING_UPDATE"


@pytest.mark.parametrize(("values", "fault"), [
    pytest.param({"protocol": None}, "None is not a valid option for protocol", id="no protocol"),
    pytest.param({"protocol_port": None}, "HTTP is not a valid option for protocol", id="no port, says protocol"),
    pytest.param({"protocol_port": 0}, "Value should be greater or equal to 1", id="port 0"),
    pytest.param({"protocol": "http"}, "Value should be one of: ", id="enums have one case"),
    pytest.param({"vip": 1}, "Unknown attribute for argument listener_.listener: vip", id="unknown key"),
    pytest.param({"insert_headers": {"X-Bad": "true"}}, "dict_keys(['X-Bad']) is not a valid option for insert_headers",
                 id="unknown header"),
    pytest.param({"insert_headers": {"X-SSL-Issuer": "true"}},
                 "['X-SSL-Issuer'] is not a valid option for HTTP protocol listener.", id="TLS header on HTTP"),
    pytest.param({"protocol": "TCP", "insert_headers": {"X-Forwarded-For": "true"}},
                 "insert-headers is not a valid option for a TCP protocol listener.", id="header on TCP"),
    pytest.param({"protocol": "UDP", "sni_container_refs": ["x"]},
                 "Validation failure: UDP protocol listener does not support TLS.", id="certificate on UDP"),
    pytest.param({"default_tls_container_ref": "x"}, "Validation failure: Certificate container references are not "
                 "allowed on HTTP protocol listeners.", id="certificate on HTTP"),
    pytest.param({"protocol": "TERMINATED_HTTPS"}, "Validation failure: An SNI or default certificate container "
                 "reference must be provided for TERMINATED_HTTPS protocol listeners.", id="no certificate"),
    pytest.param({"client_authentication": None}, "Validation failure: Client authentication setting None requires a "
                 "client CA container reference.", id="null authentication is not NONE"),
    pytest.param({"client_crl_container_ref": "x"}, "Validation failure: A client authentication CA reference is "
                 "required to specify a client authentication revocation list.", id="CRL without CA"),
    pytest.param({"tls_ciphers": "a b"}, "Validation failure: Invalid characters in cipher string. Only alphanumeric, "
                 "-, +, !, :, @, =, _, and . are allowed.", id="bad cipher string"),
    pytest.param({"allowed_cidrs": ["2001:db8::/64"]}, "Validation failure: CIDR 2001:db8::/64 IP version incompatible "
                 "with all VIPs ['198.0.2.5'] IP version.", id="CIDR of another IP version"),
    pytest.param({"hsts_preload": True}, "Validation failure: HSTS configuration options hsts_include_subdomains and "
                 "hsts_preload only make sense if hsts_max_age is set as well.", id="HSTS without age"),
    pytest.param({"hsts_max_age": 0}, "Validation failure: The HSTS feature can only be used for listeners using the "
                 "TERMINATED_HTTPS protocol.", id="HSTS on HTTP, age 0 counts"),
])
def test_a_bad_listener_is_refused(world, values, fault):
    assert fault in world.refused(400, "POST", "/listeners", listener(world.lb(), **values))


def test_ports_are_taken_within_a_transport(world):
    lb = world.lb(provider="noop_driver")
    world.listener(lb)
    assert world.refused(409, "POST", "/listeners", listener(lb, protocol="TCP")) == (
        "Another Listener on this Load Balancer is already using protocol HTTP and protocol_port 80")
    world.listener(lb, protocol="UDP")
    world.listener(lb, protocol="SCTP")


def test_cidrs_are_normalised(world):
    shown = world.listener(world.lb(), allowed_cidrs=["10.0.0.5/24", "10.0.0.9/24", "192.0.2.1"])
    assert shown["allowed_cidrs"] == ["10.0.0.0/24", "192.0.2.1/32"]
    assert world.put(f"/listeners/{shown['id']}", listener={"allowed_cidrs": []})["listener"]["allowed_cidrs"] is None


def test_pools_must_fit_and_be_of_the_same_load_balancer(world):
    lb, other = world.lb(), world.lb()
    unfit = world.pool(lb, protocol="TCP")["id"]
    assert world.refused(400, "POST", "/listeners", listener(lb, default_pool_id=unfit)) == (
        "Validation failure: The pool protocol 'TCP' is invalid while the listener protocol is 'HTTP'.")
    foreign = world.pool(other)["id"]
    assert world.refused(404, "POST", "/listeners", listener(lb, default_pool_id=foreign)) == (
        f"Pool {foreign} not found.")


def test_nulls_reset(world):
    shown = world.listener(world.lb(), connection_limit=5, timeout_client_data=7, insert_headers={"X-Real-IP": "true"})
    changed = world.put(f"/listeners/{shown['id']}", listener={
        "connection_limit": None, "timeout_client_data": None, "insert_headers": None, "admin_state_up": None,
        "tls_versions": None, "name": None})["listener"]
    assert changed["connection_limit"] == -1
    assert changed["timeout_client_data"] == 50_000
    assert (changed["insert_headers"], changed["admin_state_up"], changed["name"]) == ({}, False, "")
    assert changed["tls_versions"] == ["TLSv1.2", "TLSv1.3"]


def test_protocol_and_port_stay(world):
    path = f"/listeners/{world.listener(world.lb())['id']}"
    assert world.refused(400, "PUT", path, {"listener": {"protocol_port": 81}}) == (
        "Unknown attribute for argument listener_.listener: protocol_port")
    assert world.refused(400, "PUT", path, {"other": {}}).startswith("Validation failure: No listener object supplied.")
    assert world.put(path, listener={})["listener"]["provisioning_status"] == "PENDING_UPDATE"


def test_terminated_https_gets_its_defaults(world):
    lb = world.lb(provider="noop_driver")
    shown = world.listener(lb, protocol="TERMINATED_HTTPS", default_tls_container_ref="http://secret/1", hsts_max_age=5)
    assert shown["tls_versions"] == ["TLSv1.2", "TLSv1.3"]
    assert shown["alpn_protocols"] == ["h2", "http/1.1", "http/1.0"]
    assert shown["tls_ciphers"].startswith("TLS_AES_128_GCM_SHA256:")


def test_udp_sctp_and_tcp_share_a_port(world):
    lb = world.lb()
    for protocol in ("UDP", "SCTP", "TCP"):
        assert world.listener(lb, protocol=protocol, protocol_port=53)["protocol_port"] == 53


def test_unknown_load_balancer(world):
    assert world.refused(404, "POST", "/listeners", listener({"id": "4f5fa2d6-9b3c-4c8e-b7a9-8a0f2d2d3a10"})) == (
        "Load Balancer 4f5fa2d6-9b3c-4c8e-b7a9-8a0f2d2d3a10 not found.")
    assert world.refused(404, "POST", "/listeners", listener({"id": None})) == "Load Balancer None not found."


def test_a_deleted_load_balancer_takes_no_children(world):
    lb = world.lb()
    world.delete(f"/loadbalancers/{lb['id']}")
    world.settle()
    assert world.refused(409, "POST", "/listeners", listener(lb)) == (
        f"Load Balancer {lb['id']} is immutable and cannot be updated.")
