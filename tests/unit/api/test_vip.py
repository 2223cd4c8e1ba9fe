# SPDX-License-Identifier: Apache-2.0
"""Where a VIP goes."""

from collections.abc import Sequence

import pytest

from statera.api import vip
from statera.api.vip import VipPlace
from statera.config import Networking
from statera.drivers.network.noop import NoopNetwork
from statera.drivers.protocols import Caller, PortFacts, SubnetFacts
from statera.errors import ApiError

NOBODY = Caller()


class Town(NoopNetwork):
    """One network with three subnets, and three ports."""

    SUBNETS = {
        "six": SubnetFacts(id="six", network_id="net", cidr="2001:db8::/64", ip_version=6, free=9),
        "full": SubnetFacts(id="full", network_id="net", cidr="192.0.2.0/24", free=1),
        "four": SubnetFacts(id="four", network_id="net", cidr="198.51.100.0/24", free=9),
        "far": SubnetFacts(id="far", network_id="other", cidr="203.0.113.0/24", free=9),
    }
    PORTS = {
        "busy": PortFacts(id="busy", network_id="net", device_id="server"),
        "one": PortFacts(id="one", network_id="net", fixed_ips=(("four", "198.51.100.7"),), qos_policy_id="slow"),
        "two": PortFacts(id="two", network_id="net", fixed_ips=(("four", "198.51.100.7"), ("six", "2001:db8::7"))),
    }

    def __init__(self, qos: bool | None = True) -> None:
        super().__init__()
        self.qos = qos

    def has_network(self, network_id: str, caller: Caller) -> bool:
        return network_id in ("net", "other", "empty")

    def subnet(self, subnet_id: str, caller: Caller) -> SubnetFacts | None:
        return self.SUBNETS.get(subnet_id)

    def subnets(self, network_id: str, caller: Caller) -> Sequence[SubnetFacts]:
        return [subnet for subnet in self.SUBNETS.values() if subnet.network_id == network_id]

    def port(self, port_id: str, caller: Caller) -> PortFacts | None:
        return self.PORTS.get(port_id)

    def has_qos_policy(self, policy_id: str, caller: Caller) -> bool | None:
        return self.qos and policy_id == "slow"


def asked(**values: str) -> dict[str, str | None]:
    names = ("vip_port_id", "vip_network_id", "vip_subnet_id", "vip_address", "vip_qos_policy_id")
    return dict.fromkeys(names) | values


def resolve(
    settings: Networking | None = None, needed: int = 2, network: Town | None = None, **values: str
) -> VipPlace:
    return vip.resolve(network or Town(), NOBODY, asked(**values), settings=settings or Networking(), needed=needed)


@pytest.mark.parametrize(("values", "subnet_id", "address"), [
    pytest.param({"vip_subnet_id": "four"}, "four", None, id="subnet"),
    pytest.param({"vip_subnet_id": "four", "vip_address": "198.51.100.9"}, "four", "198.51.100.9", id="address"),
    pytest.param({"vip_network_id": "net"}, "four", None, id="network prefers IPv4 with room"),
    pytest.param({"vip_network_id": "net", "vip_address": "2001:DB8::9"}, "six", "2001:DB8::9", id="its network"),
    pytest.param({"vip_network_id": "net", "vip_subnet_id": "six"}, "six", None, id="network, subnet"),
    pytest.param({"vip_port_id": "one"}, "four", "198.51.100.7", id="port"),
    pytest.param({"vip_port_id": "one", "vip_network_id": "nowhere"}, "four", "198.51.100.7", id="port beats network"),
    pytest.param({"vip_port_id": "two", "vip_subnet_id": "six", "vip_address": "198.51.100.7"}, "six", "2001:db8::7",
                 id="subnet of the port beats the address"),
    pytest.param({"vip_port_id": "two", "vip_address": "2001:DB8:0::7"}, "six", "2001:DB8:0::7",
                 id="address of the port, spelt otherwise"),
])
def test_places(values, subnet_id, address):
    place = resolve(**values)
    assert (place.network_id, place.subnet_id, place.ip_address) == ("net", subnet_id, address)


@pytest.mark.parametrize(("values", "fault"), [
    pytest.param({"vip_address": "192.0.2.1"}, "Validation failure: VIP must contain one of: vip_port_id, "
                 "vip_network_id, vip_subnet_id.", id="an address alone is no place"),
    pytest.param({"vip_port_id": "nowhere"}, "Port nowhere not found.", id="unknown port"),
    pytest.param({"vip_port_id": "busy"}, "Validation failure: Port busy is already used by device server ",
                 id="used port, with a trailing blank"),
    pytest.param({"vip_port_id": "two"}, "Validation failure: VIP port's subnet could not be determined. Please "
                 "specify either a VIP subnet or address.", id="port with two addresses"),
    pytest.param({"vip_port_id": "one", "vip_subnet_id": "six"}, "Validation failure: No VIP address found on the "
                 "specified VIP port within the specified subnet.", id="port without address in the subnet"),
    pytest.param({"vip_port_id": "one", "vip_address": "192.0.2.1"}, "Validation failure: Specified VIP address not "
                 "found on the specified VIP port.", id="address of another port"),
    pytest.param({"vip_network_id": "nowhere"}, "Network nowhere not found.", id="unknown network"),
    pytest.param({"vip_network_id": "net", "vip_subnet_id": "far"}, "Subnet far not found.", id="foreign subnet"),
    pytest.param({"vip_network_id": "net", "vip_address": "203.0.113.1"}, "Validation failure: Supplied network does "
                 "not contain a subnet for VIP address specified.", id="address outside the network"),
    pytest.param({"vip_network_id": "empty"}, "Validation failure: Supplied network does not contain a subnet.",
                 id="no subnets"),
    pytest.param({"vip_subnet_id": "nowhere"}, "Subnet nowhere not found.", id="unknown subnet"),
    pytest.param({"vip_subnet_id": "four", "vip_qos_policy_id": "fast"}, "qos_policy fast not found.", id="QoS"),
])
def test_refusals(values, fault):
    with pytest.raises(ApiError) as refusal:
        resolve(**values)
    assert str(refusal.value) == fault


def test_a_full_network_is_refused():
    with pytest.raises(ApiError, match="do not contain enough available IPs"):
        resolve(needed=10, vip_network_id="net")


def test_a_port_brings_its_qos_policy():
    assert resolve(vip_port_id="one").qos_policy_id == "slow"


def test_a_network_service_without_qos():
    with pytest.raises(ApiError, match="VIP QoS policy is not allowed"):
        resolve(network=Town(qos=None), vip_subnet_id="four", vip_qos_policy_id="slow")


def test_kinds_can_be_forbidden():
    settings = Networking(allow_vip_port_id=False)
    with pytest.raises(ApiError, match="use of vip_port_id is disallowed"):
        resolve(settings, vip_port_id="one")
    with pytest.raises(ApiError, match="VIP must contain one of: vip_network_id, vip_subnet_id"):
        resolve(settings)


@pytest.mark.parametrize(("subnet_ids", "fault"), [
    (["four"], "Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet."),
    (["nowhere"], "Subnet nowhere not found"),
    (["far"], "All VIP subnets must belong to the same network."),
])
def test_additional_vips(subnet_ids, fault):
    place = resolve(vip_subnet_id="four")
    vip.additional(Town(), NOBODY, place, [{"subnet_id": "six"}])
    with pytest.raises(ApiError) as refusal:
        vip.additional(Town(), NOBODY, place, [{"subnet_id": each} for each in subnet_ids])
    assert str(refusal.value) == f"Validation failure: {fault}"


def test_networks_can_be_permitted_and_denied():
    vip.require_permitted("net", Networking(), ())
    vip.require_permitted("net", Networking(valid_vip_networks=["other"]), ["net"])
    for settings in (Networking(valid_vip_networks=["other"]), Networking(denylist_vip_networks=["net"])):
        with pytest.raises(ApiError, match="not allowed by the configuration"):
            vip.require_permitted("net", settings, ())
