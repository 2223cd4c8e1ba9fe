# SPDX-License-Identifier: Apache-2.0
"""Roots, versions, formats and the three shapes of faults."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from statera.store import tables


def root(world, verb, path, **more):
    return world.call(verb, path, root="", **more)


def test_the_version_document(world):
    versions = root(world, "GET", "/").json["versions"]
    assert len(versions) == 31
    assert versions[7] == {
        "id": "v2.7", "status": "SUPPORTED", "updated": "2018-01-25T12:00:00Z",
        "links": [{"href": "http://falconframework.org/v2", "rel": "self"}]}
    assert (versions[-1]["id"], versions[-1]["status"]) == ("v2.30", "CURRENT")
    assert root(world, "HEAD", "/").status_code == 200
    assert root(world, "OPTIONS", "/").status_code == 200


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2.0", "/v2/lbaas", "/v2/lbaas/", "/v2.0/lbaas", "/v2/octavia"])
def test_bare_roots(world, path):
    assert root(world, "GET", path).json == "v2"


@pytest.mark.parametrize("path", ["/v2.1/lbaas/pools", "/v3", "/v2/lbaas/x", "/load-balancer/v2/lbaas/pools"])
def test_unknown_paths(world, path):
    result = root(world, "GET", path)
    assert (result.status_code, result.json["code"], result.json["title"]) == (404, 404, "Not Found")


def test_wrong_verbs(world):
    result = world.call("PATCH", "/pools")
    assert (result.status_code, result.json["title"]) == (405, "Method Not Allowed")
    assert "GET" in result.headers["allow"]
    assert world.refused(400, "DELETE", "/pools") == 'Missing argument: "id"'


def test_every_answer_has_an_id(world):
    assert world.call("GET", "/pools").headers["x-openstack-request-id"].startswith("req-")
    assert root(world, "GET", "/nowhere").headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize(("accept", "code"), [
    ("", 200), ("*/*", 200), ("application/json", 200), ("application/*", 200),
    ("text/html, application/json;q=0.1", 200), ("nonsense", 200), ("text/plain", 406), ("application/xml", 406),
])
def test_accept(world, accept, code):
    result = world.call("GET", "/pools", headers={"Accept": accept})
    assert result.status_code == code
    if code == 406:
        assert result.json == {"code": 406, "title": "Not Acceptable",
                               "description": "Only content type application/json is accepted."}


@pytest.mark.parametrize(("raw", "kind", "code", "fault"), [
    pytest.param(b"{", "application/json", 400, "Request is not in valid JSON format", id="not JSON"),
    pytest.param(b"[]", "application/json", 400, "Request must be a JSON dict", id="a list"),
    pytest.param(b"", "application/json", 400, 'Missing argument: "load_balancer"', id="empty"),
    pytest.param(b"{}", "application/json; charset=utf-8", 400, 'Missing argument: "load_balancer"', id="no root key"),
    pytest.param(b"{}", "text/plain", 415, "Unknown mimetype: text/plain", id="another type"),
    pytest.param(b"a=b", "application/x-www-form-urlencoded", 400, 'Unknown argument: "body"', id="a form"),
    pytest.param(b'{"x": {}}', "application/json", 400, "Unknown attribute for argument load_balancer: x",
                 id="wrong root"),
])
def test_bodies(world, raw, kind, code, fault):
    assert world.refused(code, "POST", "/loadbalancers", raw=raw, headers={"Content-Type": kind}) == fault


def test_unknown_query_keys(world):
    lb = world.lb()
    for verb, path in (("DELETE", f"/loadbalancers/{lb['id']}"), ("GET", f"/loadbalancers/{lb['id']}/stats"),
                       ("GET", "/quotas/x")):
        assert world.refused(400, verb, path, query={"x": 1}) == 'Unknown argument: "x"'
    assert world.call("GET", f"/loadbalancers/{lb['id']}", query={"x": 1}).status_code == 200


def test_what_nobody_foresaw_tells_the_caller_nothing(world):
    lb = world.lb()
    with world.store.write() as connection:
        connection.execute(text("DROP TABLE listener_statistics"))
    result = world.call("GET", f"/loadbalancers/{lb['id']}/stats")
    assert result.status_code == 500
    assert result.json == {"faultcode": "Server", "faultstring": "Something unknown went wrong", "debuginfo": None}


def test_tenant_is_an_older_word_for_project(world):
    lb = world.lb(project_id="a" * 32, tenant_id="b" * 32)
    assert lb["project_id"] == lb["tenant_id"] == "b" * 32


def test_a_tag_twice(world):
    lb = world.lb()
    assert world.refused(409, "PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"tags": ["a", "a"]}}) == (
        "Already an entity with that specified id.")
    world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"tags": ["a"]})
    assert world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"tags": None})["loadbalancer"]["tags"] == ["a"]
    assert world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"tags": []})["loadbalancer"]["tags"] == []


def test_health_is_told_when_asked_for(world, worlds):
    assert root(world, "GET", "/healthcheck").status_code == 404
    open_world = worlds(api_settings={"healthcheck_enabled": True})
    assert root(open_world, "GET", "/healthcheck").text == "OK"
    assert root(open_world, "GET", "/healthcheck", headers={"Accept": "application/json"}).json == {
        "detailed": False, "reasons": ["OK"]}
    assert root(open_world, "GET", "/healthcheck", headers={"Accept": "image/png"}).status_code == 406
    assert root(open_world, "HEAD", "/healthcheck").status_code == 204
    assert root(open_world, "POST", "/healthcheck").status_code == 405


def test_health_in_detail(worlds):
    world = worlds(api_settings={"healthcheck_enabled": True}, healthcheck={"detailed": True})
    shown = root(world, "GET", "/healthcheck", headers={"Accept": "application/json"}).json
    assert list(shown) == ["detailed", "python_version", "now", "platform", "gc", "reasons", "greenthreads", "threads"]
    assert shown["reasons"][0]["reason"] == "OK"
    assert shown["reasons"][1]["details"] == "none"
    lb = world.lb()
    with world.store.write() as connection:
        connection.execute(tables.sealed_secrets.insert().values(
            load_balancer_id=lb["id"], ref="r", digest="d", sealed="s",
            expires_at=datetime.now(UTC).replace(tzinfo=None) + timedelta(days=3)))
    shown = root(world, "GET", "/healthcheck", headers={"Accept": "application/json"}).json
    assert "the first certificate of a load balancer runs out in 3.0 days" in shown["reasons"][1]["details"]
    assert "Garbage collector" in root(world, "GET", "/healthcheck", headers={"Accept": "text/html"}).text
    assert root(world, "GET", "/healthcheck").text == "OK"


def test_a_lost_database_is_told(worlds):
    world = worlds(api_settings={"healthcheck_enabled": True, "healthcheck_refresh_interval": 0})
    world.store.engine = create_engine("sqlite:////nowhere/at/all.db")
    result = root(world, "GET", "/healthcheck", headers={"Accept": "application/json"})
    assert (result.status_code, result.json) == (
        503, {"detailed": False, "reasons": ["The Octavia database is unavailable."]})
    assert root(world, "HEAD", "/healthcheck").status_code == 503
