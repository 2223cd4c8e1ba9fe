# SPDX-License-Identifier: Apache-2.0
"""What Neutron's plugin does with a request, without a Neutron: the real one stands in tests/openstack."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import make_server

import falcon
import pytest

from statera.neutron_plugin.forwarding import Forwarding

from .ovn import Quiet


class Anything:
    """An API that says what it was asked, or refuses."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def on_request(self, request: falcon.Request, response: falcon.Response, **_path: str) -> None:
        body = request.bounded_stream.read()
        self.asked.append({
            "verb": request.method, "path": request.path, "query": request.query_string, "body": body.decode(),
            "token": request.get_header("X-Auth-Token"), "service": request.get_header("X-Service-Token"),
            "roles": request.get_header("X-Roles")})
        if request.path.endswith("refused"):
            response.status = 409
            response.set_header("Retry-After", "1")
            response.media = {"faultcode": "Client", "faultstring": "is immutable", "debuginfo": None}
        elif request.method == "DELETE":
            response.status = 204
        else:
            response.status, response.media = 201, {"loadbalancer": {"id": "a"}}


@contextmanager
def serving(api: Anything) -> Iterator[str]:
    app = falcon.App()
    app.add_sink(api.on_request, prefix="/")
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def api() -> Iterator[tuple[Anything, str]]:
    asked = Anything()
    with serving(asked) as url:
        yield asked, url


HEADERS = {"X-Auth-Token": "the-caller's", "Content-Type": "application/json", "X-Roles": "admin", "Host": "neutron"}


def test_a_request_arrives_as_it_was_with_the_callers_token(api: tuple[Anything, str]) -> None:
    asked, url = api
    body = b'{"loadbalancer": {"vip_subnet_id": "s"}}'
    answer = Forwarding(url, lambda: "ours")(
        "POST", "/v2.0/lbaas/loadbalancers", query="fields=id&name=a%20b", body=body, headers=HEADERS)
    assert (answer.status, json.loads(answer.body)) == (201, {"loadbalancer": {"id": "a"}})
    assert asked.asked == [{
        "verb": "POST", "path": "/v2.0/lbaas/loadbalancers", "query": "fields=id&name=a%20b", "body": body.decode(),
        "token": "the-caller's", "service": "ours", "roles": None}]


def test_a_refusal_is_said_in_both_forms(api: tuple[Anything, str]) -> None:
    answer = Forwarding(api[1])("PUT", "/v2.0/lbaas/pools/refused", query="", body=b"{}", headers=HEADERS)
    assert (answer.status, answer.headers["Retry-After"]) == (409, "1")
    said = json.loads(answer.body)
    assert said["faultstring"] == "is immutable"
    assert said["NeutronError"]["message"] == "is immutable"


def test_a_delete_has_no_body(api: tuple[Anything, str]) -> None:
    answer = Forwarding(api[1])("DELETE", "/v2.0/lbaas/pools/a", query="cascade=true", body=b"", headers=HEADERS)
    assert (answer.status, answer.body) == (204, b"")


def test_an_api_that_is_away_is_503() -> None:
    answer = Forwarding("http://127.0.0.1:1")("GET", "/v2.0/lbaas/pools", query="", body=b"", headers={})
    assert answer.status == 503
    assert "The load-balancing service cannot be reached" in json.loads(answer.body)["NeutronError"]["message"]
