# SPDX-License-Identifier: Apache-2.0
"""Where a VIP goes: from the ids and addresses of a request to port, network, subnet and address."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from statera.config import Networking
from statera.drivers.protocols import Caller, Network, PortFacts, SubnetFacts
from statera.errors import Invalid, InvalidSubresource

Values = Mapping[str, Any]

ALLOWED = {
    "vip_port_id": "allow_vip_port_id", "vip_network_id": "allow_vip_network_id",
    "vip_subnet_id": "allow_vip_subnet_id",
}


class VipPlace(Struct, frozen=True, kw_only=True):
    """*ip_address* None asks for any free one; *qos_policy_id* may come from the port."""

    network_id: str
    subnet_id: str
    ip_address: str | None = None
    port_id: str | None = None
    qos_policy_id: str | None = None


def resolve(network: Network, caller: Caller, values: Values, *, settings: Networking, needed: int) -> VipPlace:
    """The place that a load balancer request means. *needed*: free addresses that a chosen subnet must have."""
    require_allowed(values, settings)
    if values["vip_port_id"]:
        place = _by_port(network, caller, values)
    elif values["vip_network_id"]:
        place = _by_network(network, caller, values, needed)
    else:
        subnet = _subnet(network, caller, values["vip_subnet_id"])
        place = VipPlace(network_id=subnet.network_id, subnet_id=subnet.id, ip_address=values["vip_address"])
    policy = values["vip_qos_policy_id"]
    if policy:
        require_qos(network, caller, policy)
    return structs.replace(place, qos_policy_id=policy or place.qos_policy_id)


def require_allowed(values: Values, settings: Networking) -> None:
    allowed = [name for name, option in ALLOWED.items() if getattr(settings, option)]
    for name in ALLOWED:
        if values[name] and name not in allowed:
            raise Invalid(f"use of {name} is disallowed by this deployment's configuration.")
    if not any(values[name] for name in ALLOWED):
        raise Invalid(f"VIP must contain one of: {', '.join(allowed)}.")


def require_qos(network: Network, caller: Caller, policy_id: str) -> None:
    known = network.has_qos_policy(policy_id, caller)
    if known is None:
        raise Invalid("VIP QoS policy is not allowed in this deployment.")
    if not known:
        raise InvalidSubresource("qos_policy", policy_id)


def require_groups(network: Network, caller: Caller, group_ids: Sequence[str]) -> None:
    for group_id in group_ids:
        if not network.has_security_group(group_id, caller):
            raise InvalidSubresource("Security Group", group_id)


def require_permitted(network_id: str, settings: Networking, zone_networks: Sequence[str]) -> None:
    valid = zone_networks or settings.valid_vip_networks
    if (valid and network_id not in valid) or network_id in settings.denylist_vip_networks:
        raise Invalid("Supplied VIP network_id is not allowed by the configuration of this deployment.")


def additional(network: Network, caller: Caller, place: VipPlace, wanted: Sequence[Values]) -> None:
    """Raise unless further VIPs are in subnets of the same network, one in each."""
    subnet_ids = [place.subnet_id, *(vip["subnet_id"] for vip in wanted)]
    if len(set(subnet_ids)) < len(subnet_ids):
        raise Invalid("Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet.")
    for subnet_id in subnet_ids[1:]:
        subnet = network.subnet(subnet_id, caller)
        if subnet is None:
            raise Invalid(f"Subnet {subnet_id} not found")
        if subnet.network_id != place.network_id:
            raise Invalid("All VIP subnets must belong to the same network.")


def _subnet(network: Network, caller: Caller, subnet_id: str) -> SubnetFacts:
    subnet = network.subnet(subnet_id, caller)
    if subnet is None:
        raise InvalidSubresource("Subnet", subnet_id)
    return subnet


def _by_port(network: Network, caller: Caller, values: Values) -> VipPlace:
    port = network.port(values["vip_port_id"], caller)
    if port is None:
        raise InvalidSubresource("Port", values["vip_port_id"])
    if port.device_id:
        raise Invalid(f"Port {port.id} is already used by device {port.device_id} ")
    if values["vip_subnet_id"]:
        _subnet(network, caller, values["vip_subnet_id"])
    subnet_id, address = _fixed_ip(port, values["vip_subnet_id"], values["vip_address"])
    return VipPlace(network_id=port.network_id, subnet_id=subnet_id, ip_address=address, port_id=port.id,
                    qos_policy_id=port.qos_policy_id)


def _fixed_ip(port: PortFacts, subnet_id: str | None, address: str | None) -> tuple[str, str]:
    """Which of the port's addresses is the VIP."""
    if subnet_id:
        here = [ip for owner, ip in port.fixed_ips if owner == subnet_id]
        if not here and not address:
            raise Invalid("No VIP address found on the specified VIP port within the specified subnet.")
        return subnet_id, (here or [str(address)])[0]
    if address:
        for owner, ip in port.fixed_ips:
            if ipaddress.ip_address(ip) == ipaddress.ip_address(address):
                return owner, address
        raise Invalid("Specified VIP address not found on the specified VIP port.")
    if len(port.fixed_ips) != 1:
        raise Invalid("VIP port's subnet could not be determined. Please specify either a VIP subnet or address.")
    return port.fixed_ips[0]


def _by_network(network: Network, caller: Caller, values: Values, needed: int) -> VipPlace:
    network_id, address = values["vip_network_id"], values["vip_address"]
    if not network.has_network(network_id, caller):
        raise InvalidSubresource("Network", network_id)
    subnets = network.subnets(network_id, caller)
    if values["vip_subnet_id"]:
        chosen = _subnet(network, caller, values["vip_subnet_id"])
        if chosen.network_id != network_id:
            raise InvalidSubresource("Subnet", values["vip_subnet_id"])
    else:
        chosen = _holding(subnets, address) if address else _roomy(subnets, needed)
    return VipPlace(network_id=network_id, subnet_id=chosen.id, ip_address=address)


def _holding(subnets: Sequence[SubnetFacts], address: str) -> SubnetFacts:
    for subnet in subnets:
        if ipaddress.ip_address(address) in ipaddress.ip_network(subnet.cidr):
            return subnet
    raise Invalid("Supplied network does not contain a subnet for VIP address specified.")


def _roomy(subnets: Sequence[SubnetFacts], needed: int) -> SubnetFacts:
    if not subnets:
        raise Invalid("Supplied network does not contain a subnet.")
    roomy = [subnet for subnet in subnets if subnet.free >= needed]
    if not roomy:
        raise Invalid("Subnet(s) in the supplied network do not contain enough available IPs.")
    return next((subnet for subnet in roomy if subnet.ip_version == 4), roomy[0])
