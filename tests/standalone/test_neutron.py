# SPDX-License-Identifier: Apache-2.0
"""Neutron's API over local networks, as its clients speak it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon
import pytest
from falcon.testing import Result, TestClient

from statera.api.standalone.neutron import mount
from statera.drivers.network.local import LocalNetworks
from statera.drivers.protocols import VipAddress, VipRequest
from statera.store import tables
from statera.store.engine import Store
from statera.store.networks import NetworkBook

ADMIN = {"X-Project-Id": "ops", "X-Roles": "admin"}
TENANT = {"X-Project-Id": "tenant", "X-Roles": "member"}
STRANGER = {"X-Project-Id": "stranger", "X-Roles": "member"}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[NetworkBook]:
    store = Store(f"sqlite:///{tmp_path / 'book.db'}")
    tables.metadata.create_all(store.engine)
    yield NetworkBook(store)
    store.close()


class Neutron:
    """A client with a caller's headers."""

    def __init__(self, book: NetworkBook) -> None:
        app: falcon.App[Any, Any] = falcon.App()
        mount(book)(app)
        self.client = TestClient(app)

    def call(self, method: str, path: str, body: Any = None, who: dict[str, str] = TENANT, **params: str) -> Result:
        return self.client.simulate_request(method, f"/network/v2.0/{path}", json=body, headers=who, params=params)

    def make(self, kind: str, who: dict[str, str] = TENANT, **fields: Any) -> dict[str, Any]:
        answer = self.call("POST", f"{kind}s", {kind: fields}, who)
        assert answer.status_code == 201, answer.text
        return dict(answer.json[kind])

    def fault(self, kind: str, who: dict[str, str] = TENANT, **fields: Any) -> tuple[int, str]:
        answer = self.call("POST", f"{kind}s", {kind: fields}, who)
        return answer.status_code, answer.json["NeutronError"]["message"]

    def names(self, kind: str, who: dict[str, str] = TENANT, **params: str) -> list[str]:
        return [row["name"] for row in self.call("GET", f"{kind}s", who=who, **params).json[f"{kind}s"]]


@pytest.fixture
def neutron(book: NetworkBook) -> Neutron:
    return Neutron(book)


def test_clients_find_version_2_0(neutron: Neutron) -> None:
    [version] = neutron.client.simulate_get("/network").json["versions"]
    assert version["id"] == "v2.0"
    assert version["links"][0]["href"].endswith("/network/v2.0/")
    assert neutron.call("GET", "extensions").json == {"extensions": []}


def test_a_network_with_a_subnet_is_made_shown_renamed_and_deleted(neutron: Neutron) -> None:
    net = neutron.make("network", name="net", admin_state_up=True)
    sub = neutron.make("subnet", name="sub", network_id=net["id"], cidr="10.0.0.0/24", ip_version=4)
    assert sub["gateway_ip"] == "10.0.0.1"
    assert sub["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    assert neutron.call("GET", f"networks/{net['id']}").json["network"]["subnets"] == [sub["id"]]
    renamed = neutron.call("PUT", f"networks/{net['id']}", {"network": {"name": "other"}})
    assert renamed.json["network"]["name"] == "other"
    assert neutron.call("DELETE", f"subnets/{sub['id']}").status_code == 204
    assert neutron.call("DELETE", f"networks/{net['id']}").status_code == 204
    assert neutron.call("GET", f"networks/{net['id']}").status_code == 404


@pytest.mark.parametrize(("fields", "gateway_ip", "pools"), [
    pytest.param({"cidr": "10.0.0.0/29", "gateway_ip": None}, None, ["10.0.0.1-10.0.0.6"], id="no gateway"),
    pytest.param({"cidr": "10.0.0.0/29", "gateway_ip": "10.0.0.4"}, "10.0.0.4",
                 ["10.0.0.1-10.0.0.3", "10.0.0.5-10.0.0.6"], id="gateway in the middle"),
    pytest.param({"cidr": "10.0.0.0/29", "gateway_ip": "10.0.0.6"}, "10.0.0.6",
                 ["10.0.0.1-10.0.0.5"], id="gateway last"),
    pytest.param({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.10"},
                                                              {"start": "10.0.0.5", "end": "10.0.0.5"}]},
                 "10.0.0.1", ["10.0.0.5-10.0.0.5", "10.0.0.9-10.0.0.10"], id="own pools"),
    pytest.param({"cidr": "fd00:1::/64", "ip_version": 6}, "fd00:1::1",
                 ["fd00:1::2-fd00:1::ffff:ffff:ffff:ffff"], id="IPv6"),
])
def test_gateway_and_pools(neutron: Neutron, fields: Any, gateway_ip: str | None, pools: list[str]) -> None:
    net = neutron.make("network", name="net")
    sub = neutron.make("subnet", network_id=net["id"], **fields)
    assert sub["gateway_ip"] == gateway_ip
    assert [f"{pool['start']}-{pool['end']}" for pool in sub["allocation_pools"]] == pools


@pytest.mark.parametrize(("fields", "named"), [
    pytest.param({"cidr": "10.0.0.1/24"}, "cidr. Value: '10.0.0.1/24'", id="host bits set"),
    pytest.param({"cidr": "net"}, "cidr. Value: 'net'", id="no CIDR"),
    pytest.param({"cidr": "10.0.0.0/31"}, "no address for ports", id="too small"),
    pytest.param({"cidr": "fd00::/64"}, "not of ip_version 4", id="wrong ip_version"),
    pytest.param({"cidr": "10.0.0.0/24", "gateway_ip": "10.0.1.1"}, "gateway_ip. Value: '10.0.1.1'",
                 id="gateway outside"),
    pytest.param({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.1.2", "end": "10.0.1.9"}]},
                 "10.0.1.2-10.0.1.9", id="pool outside"),
    pytest.param({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.2"}]},
                 "ends before it starts", id="pool backwards"),
    pytest.param({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.9"},
                                                              {"start": "10.0.0.9", "end": "10.0.0.12"}]},
                 "overlaps", id="pools overlap"),
    pytest.param({"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.9"}]},
                 "gateway", id="gateway in a pool"),
    pytest.param({"cidr": "10.0.0.0/24", "color": "red"}, "Unrecognized attribute(s) 'color'", id="unknown field"),
    pytest.param({"cidr": 7}, "$.cidr", id="wrong type"),
])
def test_an_unusable_subnet_is_refused_by_field_and_value(neutron: Neutron, fields: Any, named: str) -> None:
    net = neutron.make("network", name="net")
    status, message = neutron.fault("subnet", network_id=net["id"], **fields)
    assert status == 400
    assert named in message
    assert neutron.names("subnet") == []


def test_subnets_of_one_network_do_not_overlap(neutron: Neutron) -> None:
    net = neutron.make("network", name="net")
    neutron.make("subnet", network_id=net["id"], cidr="10.0.0.0/16")
    status, message = neutron.fault("subnet", network_id=net["id"], cidr="10.0.9.0/24")
    assert status == 409
    assert "10.0.9.0/24 overlaps 10.0.0.0/16" in message


def test_nothing_in_use_is_deleted(neutron: Neutron, book: NetworkBook) -> None:
    net = neutron.make("network", name="net")
    sub = neutron.make("subnet", network_id=net["id"], cidr="10.0.0.0/24")
    LocalNetworks(book).allocate_vip(VipRequest(
        load_balancer_id="lb", project_id="tenant", network_id=net["id"],
        addresses=(VipAddress(subnet_id=sub["id"]),)))
    [port] = neutron.call("GET", "ports", network_id=net["id"]).json["ports"]
    for path in (f"networks/{net['id']}", f"subnets/{sub['id']}", f"ports/{port['id']}"):
        refused = neutron.call("DELETE", path)
        assert (refused.status_code, refused.json["NeutronError"]["type"]) == (409, "InUse")


def test_a_port_of_ones_own_can_be_made_and_deleted(neutron: Neutron) -> None:
    net = neutron.make("network", name="net")
    sub = neutron.make("subnet", network_id=net["id"], cidr="10.0.0.0/24")
    port = neutron.make("port", name="mine", network_id=net["id"], fixed_ips=[{"ip_address": "10.0.0.9",
                                                                              "subnet_id": sub["id"]}])
    assert port["fixed_ips"] == [{"subnet_id": sub["id"], "ip_address": "10.0.0.9"}]
    assert neutron.call("DELETE", f"ports/{port['id']}").status_code == 204
    assert neutron.names("port") == []


def test_others_see_only_what_is_shared_and_change_nothing(neutron: Neutron) -> None:
    own = neutron.make("network", name="own")
    shared = neutron.make("network", who=ADMIN, name="shared", shared=True)
    assert neutron.names("network", who=STRANGER) == ["shared"]
    assert neutron.names("network", who=ADMIN) == ["own", "shared"]
    assert neutron.call("DELETE", f"networks/{own['id']}", who=STRANGER).status_code == 404
    assert neutron.call("DELETE", f"networks/{shared['id']}", who=STRANGER).status_code == 403
    assert neutron.fault("subnet", who=STRANGER, network_id=shared["id"], cidr="10.0.0.0/24")[0] == 404


def test_readers_only_look(neutron: Neutron) -> None:
    net = neutron.make("network", name="net")
    reader = TENANT | {"X-Roles": "reader"}
    assert neutron.names("network", who=reader) == ["net"]
    assert neutron.fault("network", who=reader, name="other")[0] == 403
    assert neutron.call("DELETE", f"networks/{net['id']}", who=reader).status_code == 403


def test_only_admins_name_a_bridge_and_each_bridge_is_one_network(neutron: Neutron) -> None:
    bridge = {"provider:physical_network": "br-ex"}
    assert neutron.fault("network", name="ext", **bridge)[0] == 403
    neutron.make("network", who=ADMIN, name="ext", **bridge)
    assert neutron.fault("network", who=ADMIN, name="ext2", **bridge)[0] == 409
    assert neutron.fault("network", who=ADMIN, **{"provider:physical_network": "far-too-long-for-a-bridge"})[0] == 400


def test_lists_are_filtered_paged_and_trimmed(neutron: Neutron) -> None:
    made = [neutron.make("network", name=name) for name in ("a", "b", "c")]
    assert neutron.names("network", name="b") == ["b"]
    assert neutron.names("network", id=made[2]["id"]) == ["c"]
    assert neutron.names("network", shared="False", limit="2") == ["a", "b"]
    assert neutron.names("network", marker=made[1]["id"]) == ["c"]
    assert neutron.call("GET", "networks", fields="name", name="a").json == {"networks": [{"name": "a"}]}
    assert neutron.call("GET", "networks", color="red").status_code == 400
    assert neutron.call("GET", "networks", marker="nothing").status_code == 400


@pytest.mark.parametrize("body", [
    pytest.param(b"{", id="no JSON"), pytest.param(b'{"subnet": {}}', id="another kind"),
    pytest.param(b"[]", id="a list"), pytest.param(b"", id="nothing"),
])
def test_an_unusable_body_is_refused(neutron: Neutron, body: bytes) -> None:
    answer = neutron.client.simulate_post("/network/v2.0/networks", body=body, headers=TENANT)
    assert answer.status_code == 400
    assert answer.json["NeutronError"]["type"] == "BadRequest"


def test_only_names_can_change(neutron: Neutron) -> None:
    net = neutron.make("network", name="net")
    answer = neutron.call("PUT", f"networks/{net['id']}", {"network": {"mtu": 9000}})
    assert answer.status_code == 400
    assert "mtu" in answer.json["NeutronError"]["message"]
    assert neutron.call("PUT", f"networks/{net['id']}", {"network": {"name": 7}}).status_code == 400
