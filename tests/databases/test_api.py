# SPDX-License-Identifier: Apache-2.0
"""The API on every database: reading, paging, and two who write at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from falcon import testing
from oslo_config import cfg
from sqlalchemy import update

from statera.api.app import build
from statera.config import load
from statera.drivers.network.noop import NoopNetwork
from statera.store.engine import Store
from statera.store.settle import drop_deleted
from statera.store.tables import load_balancers

SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
ADMIN = {"X-Project-Id": "a1b2c3d4e5f60718293a4b5c6d7e8f90", "X-Roles": "admin", "Content-Type": "application/json"}
Call = Callable[..., testing.Result]


@pytest.fixture
def call(store: Store, tmp_path: Any) -> Call:
    """Asks an API in strict mode, with quotas."""
    file = tmp_path / "octavia.conf"
    file.write_text("[api_settings]\nauth_strategy = testing\nstrict_immutability = true\n"
                    "enabled_provider_drivers = noop_driver:Nothing\ndefault_provider_driver = noop_driver\n"
                    "[quotas]\ndefault_listener_quota = 3\n")
    conf = cfg.ConfigOpts()
    app = build(load(conf, [], prog="octavia-api", files=[str(file)]), conf, store, NoopNetwork())

    def ask(verb: str, path: str, body: object = None, query: str = "") -> testing.Result:
        environ = testing.create_environ(f"/v2/lbaas{path}", method=verb, headers=ADMIN, query_string=query,
                                         body=b"" if body is None else msgspec.json.encode(body))
        start = testing.StartResponseMock()
        return testing.Result(app(environ, start), start.status, start.headers)

    return ask


def settle(store: Store) -> None:
    """All that was wished runs."""
    with store.write() as connection:
        connection.execute(update(load_balancers).values(
            done_version=load_balancers.c.version, settled_version=load_balancers.c.version))
        for row in connection.execute(load_balancers.select()).mappings().all():
            drop_deleted(connection, row["id"], row["version"])


@pytest.fixture
def lb(call: Call, store: Store) -> Any:
    """A settled load balancer with a tree below it."""
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "tags": ["t"],
            "members": [{"address": "192.0.2.1", "protocol_port": 80, "weight": 0}],
            "healthmonitor": {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, "http_version": 1.1}}
    listener = {"protocol": "HTTP", "protocol_port": 80, "default_pool": {"name": "p"},
                "allowed_cidrs": ["192.0.2.0/24"], "l7policies": [{"action": "REJECT", "rules": [
                    {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/x"}]}]}
    created = call("POST", "/loadbalancers", {"loadbalancer": {
        "vip_subnet_id": SUBNET, "listeners": [listener], "pools": [pool], "name": "web"}})
    assert created.status_code == 201, created.text
    settle(store)
    return created.json["loadbalancer"]


@pytest.mark.parametrize("path", [
    "/loadbalancers", "/listeners", "/pools", "/healthmonitors", "/l7policies", "/pools/{pool}/members",
    "/l7policies/{policy}/rules",
])
def test_every_attribute_that_can_be_a_filter_or_an_order_is_one(call: Call, lb: Any, path: str) -> None:
    path = path.format(pool=lb["pools"][0]["id"], policy=lb["listeners"][0]["l7policies"][0]["id"])
    shown = call("GET", path).json
    (key,) = [name for name in shown if not name.endswith("_links")]
    (row,) = shown[key]
    assert row["provisioning_status"] == "ACTIVE"
    for name, value in row.items():
        if isinstance(value, (str, int, float)) and name != "tenant_id":
            found = call("GET", path, query=f"{name}={str(value).replace('+', '%2B')}&sort={name}:desc")
            assert [each["id"] for each in found.json[key]] == [row["id"]], (name, found.text)


def test_pages_on_every_database(call: Call, lb: Any, store: Store) -> None:
    for number in range(4):
        call("POST", "/pools", {"pool": {"loadbalancer_id": lb["id"], "name": "same", "protocol": "HTTP",
                                         "lb_algorithm": "ROUND_ROBIN", "tls_ciphers": "A" if number % 2 else None}})
        settle(store)
    for order in ("name:desc", "tls_ciphers:asc", "tls_ciphers:desc", "healthmonitor_id", "updated_at:desc"):
        seen, query = [], f"limit=2&sort={order}"
        for _ in range(3):
            page = call("GET", "/pools", query=query).json["pools"]
            seen += [pool["id"] for pool in page]
            query = f"limit=2&sort={order}&marker={seen[-1]}"
        assert len(seen) == len(set(seen)) == 5, order


def test_of_two_writes_at_once_exactly_one_succeeds(call: Call, lb: Any, store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: call(
            "PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"name": str(number)}}), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]


def test_a_quota_holds_when_many_create_at_once(call: Call, lb: Any, store: Store) -> None:
    more = [call("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}}) for _ in range(5)]
    ids = [lb["id"], *(answer.json["loadbalancer"]["id"] for answer in more)]
    settle(store)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda id: call("POST", "/listeners", {
            "listener": {"loadbalancer_id": id, "protocol": "TCP", "protocol_port": 90}}), ids))
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(201) == 2, [answer.text for answer in answers]
    assert len(call("GET", "/listeners").json["listeners"]) == 3


def test_everything_goes(call: Call, lb: Any, store: Store) -> None:
    pool, listener = lb["pools"][0], lb["listeners"][0]
    policy = listener["l7policies"][0]
    for path in (f"/l7policies/{policy['id']}/rules/{policy['rules'][0]['id']}", f"/l7policies/{policy['id']}",
                 f"/listeners/{listener['id']}", f"/healthmonitors/{pool['healthmonitor']['id']}",
                 f"/pools/{pool['id']}/members/{pool['members'][0]['id']}", f"/pools/{pool['id']}",
                 f"/loadbalancers/{lb['id']}"):
        answer = call("DELETE", path)
        assert answer.status_code == 204, answer.text
        settle(store)
