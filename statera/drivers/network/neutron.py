# SPDX-License-Identifier: Apache-2.0
"""VIPs, amphora ports and security groups in Neutron, named as Octavia names them.

What a tenant names is looked up with the tenant's own token; all else the service user does. Amphora ports and
security groups belong to the service project, the VIP's port to the tenant's.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from math import inf
from time import monotonic
from typing import Any

from msgspec import structs

from statera.drivers.cloud import Json, Reply, Service
from statera.drivers.network import doors
from statera.drivers.protocols import Berth, Caller, PortFacts, SubnetFacts, Vip, VipAddress, VipRequest
from statera.errors import (
    AddressTaken,
    ApiError,
    Conflict,
    GiveUp,
    InUse,
    Invalid,
    InvalidSubresource,
    SubnetFull,
    TryAgain,
)
from statera.model.fleet import Owned, Port
from statera.model.guard import Guard

OWNER = "Octavia"
VIP, VRRP, MEMBER = "octavia-lb-{}", "octavia-lb-vrrp-{}", "octavia-lb-member-{}"
DEVICE, GROUP = "lb-{}", "lb-{}"

NAMED = re.compile(r"(?:octavia-)?lb-(vrrp-|member-)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
"""What the names above say: whether it is an amphora's, and whose."""

MARK = "Made by Statera of project {}."
"""Description of all that we made: another load-balancing service of the cloud, or Statera of another service project,
may use the same names."""

PLUGGED = ("bridge", "tap", "ovs")
"""How ports are bound that nodes can plug."""
NETWORK_SECONDS = 60
"""Networks are slow to look at and hardly ever change."""
SWITCH = "br-int"
"""The Open vSwitch of a host that has ports, when Neutron does not name another."""
TAP_LENGTH = 14
"""Neutron's agents know a port's device by `tap` and as much of its id as makes this length."""


FAULTS: Mapping[str, type[ApiError]] = {
    "IpAddressAlreadyAllocated": AddressTaken, "IpAddressInUse": AddressTaken,
    "IpAddressGenerationFailure": SubnetFull, "InvalidIpForSubnet": Invalid, "InvalidIpForNetwork": Invalid,
    "HTTPBadRequest": Invalid, "InvalidInput": Invalid, "OverQuota": Conflict,
}
"""What Neutron says about a port → whose fault the caller is told it is."""


class NeutronNetworks:
    """The `neutron` network driver. With *sees_all* tenants may name what they cannot see."""

    guards = True

    def __init__(self, neutron: Service, *, sees_all: bool = False) -> None:
        self.neutron = neutron
        self._sees_all = sees_all
        self._networks: dict[str, tuple[float, Json]] = {}

    # What tenants name.

    def has_network(self, network_id: str, caller: Caller) -> bool:
        return self._seen("network", network_id, caller) is not None

    def subnet(self, subnet_id: str, caller: Caller) -> SubnetFacts | None:
        found = self._seen("subnet", subnet_id, caller)
        return None if found is None else _subnet(found)

    def subnets(self, network_id: str, caller: Caller) -> Sequence[SubnetFacts]:
        if not self.has_network(network_id, caller):
            return []
        found = self._list("subnet", [("network_id", network_id)], token=self._token(caller))
        counted = self.neutron.find(f"/network-ip-availabilities/{network_id}") or {}
        free = {
            each["subnet_id"]: each["total_ips"] - each["used_ips"]
            for each in counted.get("network_ip_availability", {}).get("subnet_ip_availability", ())
        }
        return [_subnet(one, free.get(one["id"])) for one in sorted(found, key=_age)]

    def port(self, port_id: str, caller: Caller) -> PortFacts | None:
        found = self._seen("port", port_id, caller)
        return None if found is None else PortFacts(
            id=found["id"], network_id=found["network_id"], device_id=found["device_id"],
            fixed_ips=_addresses(found), qos_policy_id=found.get("qos_policy_id"))

    def has_qos_policy(self, policy_id: str, caller: Caller) -> bool | None:
        found = self.neutron.reply("GET", f"/qos/policies/{policy_id}", token=self._token(caller))
        if found.status == 404 and found.kind != "QosPolicyNotFound":
            return None
        return not found.is_refusal

    def has_security_group(self, group_id: str, caller: Caller) -> bool:
        return self.neutron.find(f"/security-groups/{group_id}", token=self._token(caller)) is not None

    # The VIP.

    def allocate_vip(self, request: VipRequest) -> Vip:
        known = self._vip_ports(request.load_balancer_id)
        if known:
            return _vip(known[0], request.addresses)
        return _vip(self._borrow(request) if request.port_id else self._make(request), request.addresses)

    def release_vip(self, load_balancer_id: str) -> None:
        group = self._group(load_balancer_id)
        for port in self._vip_ports(load_balancer_id):
            if port["name"] == VIP.format(load_balancer_id):
                self.neutron.remove(f"/ports/{port['id']}")
            else:
                kept = [id for id in port["security_groups"] if not group or id != group["id"]]
                self._change(port, device_id="", device_owner="", security_groups=kept)
        if group:
            self.neutron.remove(f"/security-groups/{group['id']}")

    def discard_port(self, port_id: str) -> None:
        self.neutron.remove(f"/ports/{port_id}")

    def _make(self, request: VipRequest) -> Json:
        reply = self.neutron.reply("POST", "/ports", json={"port": {
            "name": VIP.format(request.load_balancer_id), "project_id": request.project_id,
            "network_id": request.network_id, "device_id": DEVICE.format(request.load_balancer_id),
            "device_owner": OWNER, "description": self._mark, "admin_state_up": False,
            "fixed_ips": [_fixed(one) for one in request.addresses],
        }})
        if reply.is_refusal:
            raise self._why_no_vip(request.addresses, reply)
        return _only(reply.body, "port")

    def _borrow(self, request: VipRequest) -> Json:
        """Take over the tenant's port, unless somebody else is faster; give it the addresses that it lacks."""
        port = self._found("port", str(request.port_id))
        if port is None:
            raise InvalidSubresource("Port", request.port_id)
        if port["device_id"]:
            raise InUse("Port", request.port_id, port["device_id"])
        here = {subnet_id for subnet_id, _ in _addresses(port)}
        missing = [_fixed(one) for one in request.addresses if one.subnet_id not in here]
        reply = self.neutron.reply("PUT", f"/ports/{port['id']}", json={"port": {
            "device_id": DEVICE.format(request.load_balancer_id), "device_owner": OWNER,
            **({"fixed_ips": [*port["fixed_ips"], *missing]} if missing else {}),
        }}, headers={"If-Match": f"revision_number={port['revision_number']}"})
        if reply.status == 412:
            raise InUse("Port", request.port_id, "somebody else")
        if reply.is_refusal:
            raise self._why_no_vip(request.addresses, reply)
        return _only(reply.body, "port")

    def _why_no_vip(self, addresses: Sequence[VipAddress], reply: Reply) -> ApiError:
        """The refusal as the caller's own fault; raise `DriverError` when it is not."""
        named = next((one for one in addresses if one.ip_address and one.ip_address in reply.words), addresses[0])
        kind = FAULTS.get(reply.kind)
        if kind is None:
            self.neutron.refused(reply, "the VIP's port")
        if kind is AddressTaken and named.ip_address:
            return AddressTaken(named.ip_address, named.subnet_id)
        if kind in (AddressTaken, SubnetFull):
            subnet = self._found("subnet", named.subnet_id) or {}
            return SubnetFull(named.subnet_id, subnet.get("cidr", "gone"))
        asked = f"IP address {named.ip_address} for subnet {named.subnet_id}: " if named.ip_address else ""
        return kind(f"{asked}{reply.words}")

    # Amphorae.

    def ensure_amphora_port(
        self, amphora_id: str, subnet_id: str, vips: Sequence[str] = (), *, berth: Berth | None = None
    ) -> Port:
        subnet = self._need("subnet", subnet_id)
        network = self._network(subnet["network_id"])
        is_secure = network.get("port_security_enabled", True)
        pairs = [{"ip_address": vip} for vip in vips] if is_secure else []
        port = next(self._amphora_ports(amphora_id, network_id=network["id"]), None)
        if port is None:
            group = self._ensure_group(berth.load_balancer_id) if berth and vips and is_secure else None
            port = _only(self.neutron.ask("POST", "/ports", json={"port": {
                "name": (VRRP if vips else MEMBER).format(amphora_id), "network_id": network["id"],
                "device_owner": OWNER, "description": self._mark, "fixed_ips": [{"subnet_id": subnet_id}],
                "allowed_address_pairs": pairs,
                **({"security_groups": [group["id"]]} if group else {}),
                **({"binding:host_id": berth.host, "device_id": amphora_id} if berth else {}),
            }}), "port")
        port = self._complete(port, subnet_id, pairs)
        return _bound(port, Port(
            port_id=port["id"], network_id=network["id"], subnet_id=subnet_id, cidr=subnet["cidr"],
            ip_address=dict(_addresses(port))[subnet_id], gateway_ip=subnet["gateway_ip"],
            host_routes=tuple((one["destination"], one["nexthop"]) for one in subnet.get("host_routes", ())),
            mac_address=port["mac_address"], mtu=network.get("mtu") or 1500))

    def _complete(self, port: Json, subnet_id: str, pairs: Sequence[Json]) -> Json:
        """With an address in the subnet and allowed to use those of *pairs* too."""
        changes: Json = {}
        if subnet_id not in dict(_addresses(port)):
            changes["fixed_ips"] = [*port["fixed_ips"], {"subnet_id": subnet_id}]
        allowed = {pair["ip_address"] for pair in port["allowed_address_pairs"]}
        if missing := [pair for pair in pairs if pair["ip_address"] not in allowed]:
            changes["allowed_address_pairs"] = [*port["allowed_address_pairs"], *missing]
        return self._change(port, **changes)

    def bind(self, amphora_id: str, port: Port, host: str) -> Port:
        bound = _only(self.neutron.ask("PUT", f"/ports/{port.port_id}", json={"port": {
            "binding:host_id": host, "device_id": amphora_id, "device_owner": OWNER}}), "port")
        kind = bound["binding:vif_type"]
        if kind in ("binding_failed", "unbound"):
            raise TryAgain("port_unbound", f"Neutron cannot bind port {port.port_id} to host {host}: no agent of its "
                                           "network is alive there; `openstack network agent list` shows which are")
        if kind not in PLUGGED:
            raise GiveUp("port_unbound", f"Neutron binds port {port.port_id} to host {host} as {kind}, which nodes "
                                         "cannot plug; use the Linux bridge or the Open vSwitch agent there, or the "
                                         "nova compute driver")
        if bound["binding:vif_details"].get("ovs_hybrid_plug"):
            raise GiveUp("port_unbound", f"Open vSwitch on host {host} filters by iptables, which would let anything "
                                         f"into port {port.port_id}; set firewall_driver = openvswitch in "
                                         "[securitygroup] of its agent")
        return _bound(bound, port)

    def guard_vip(self, load_balancer_id: str, guard: Guard, ports: Sequence[Port]) -> None:
        group = self._ensure_group(load_balancer_id)
        self._set_rules(group, doors.rules(group["id"], guard, [port.ip_address for port in ports]))
        ids = [group["id"], *guard.group_ids]
        vip_ports = self._vip_ports(load_balancer_id)
        if not vip_ports:
            raise GiveUp("port_gone", f"the VIP's port of load balancer {load_balancer_id} is no more in "
                                      "Neutron")
        for port in vip_ports:
            own = port["name"] == VIP.format(load_balancer_id)
            self._protect(port, ids if own else [*port["security_groups"], *ids], guard.qos_policy_id)
        amphora_ports = [("id", port.port_id) for port in ports]
        for port in self._list("port", amphora_ports) if amphora_ports else ():
            self._protect(port, ids, guard.qos_policy_id)

    def release_amphora_ports(self, amphora_id: str, keep: Sequence[str] = ()) -> None:
        for port in self._amphora_ports(amphora_id):
            kept = [one for one in port["fixed_ips"] if one["subnet_id"] in keep]
            if not kept:
                self.neutron.remove(f"/ports/{port['id']}")
            elif len(kept) < len(port["fixed_ips"]):
                self._change(port, fixed_ips=kept)

    def owned(self) -> Sequence[Owned]:
        marked = [("description", self._mark)]
        ports = [_owned("port", port) for port in self._list("port", marked)]
        groups = self.neutron.ask(
            "GET", "/security-groups", query=[*marked, ("project_id", self.neutron.project_id)])["security_groups"]
        return [thing for thing in (*ports, *(_owned("security group", group) for group in groups)) if thing]

    def release(self, thing: Owned) -> None:
        (self.release_amphora_ports if thing.is_amphoras else self.release_vip)(thing.owner)

    def _ensure_group(self, load_balancer_id: str) -> Json:
        wanted = {"name": GROUP.format(load_balancer_id), "description": self._mark}
        return self._group(load_balancer_id) or _only(
            self.neutron.ask("POST", "/security-groups", json={"security_group": wanted}), "security_group")

    def _set_rules(self, group: Json, wanted: Mapping[doors.Key, Json]) -> None:
        """First what is missing, then off with what is too much: nobody who may come in is ever shut out."""
        there = {doors.key(rule): rule for rule in group["security_group_rules"] if rule["direction"] == "ingress"}
        if missing := [rule for key, rule in wanted.items() if key not in there]:
            self.neutron.ask("POST", "/security-group-rules", json={"security_group_rules": missing})
        for surplus in there.keys() - wanted.keys():
            self.neutron.remove(f"/security-group-rules/{there[surplus]['id']}")

    def _protect(self, port: Json, group_ids: Sequence[str], qos_policy_id: str | None) -> None:
        changes: Json = {}
        if port.get("port_security_enabled", True) and set(port["security_groups"]) != set(group_ids):
            changes["security_groups"] = sorted(set(group_ids))
        if port.get("qos_policy_id") != qos_policy_id:
            changes["qos_policy_id"] = qos_policy_id
        self._change(port, **changes)

    # Asking Neutron.

    @property
    def _mark(self) -> str:
        return MARK.format(self.neutron.project_id)

    def _token(self, caller: Caller) -> str | None:
        return None if self._sees_all else caller.token

    def _seen(self, kind: str, id: str, caller: Caller) -> Json | None:
        return self._found(kind, id, token=self._token(caller))

    def _found(self, kind: str, id: str, **asked: Any) -> Json | None:
        body = self.neutron.find(f"/{kind}s/{id}", **asked)
        return None if body is None else _only(body, kind)

    def _need(self, kind: str, id: str) -> Json:
        found = self._found(kind, id)
        if found is None:
            raise GiveUp("network_gone", f"{kind} {id} is no more in Neutron; delete what uses it, or make it again")
        return found

    def _network(self, id: str) -> Json:
        seen, found = self._networks.get(id, (-inf, {}))
        if monotonic() - seen > NETWORK_SECONDS:
            found = self._need("network", id)
            self._networks[id] = (monotonic(), found)
        return found

    def _list(self, kind: str, query: Sequence[tuple[str, str]], token: str | None = None) -> list[Json]:
        found: list[Json] = self.neutron.ask("GET", f"/{kind}s", query=query, token=token)[f"{kind}s"]
        return found

    def _change(self, port: Json, **changes: Any) -> Json:
        if not changes:
            return port
        return _only(self.neutron.ask("PUT", f"/ports/{port['id']}", json={"port": changes}), "port")

    def _vip_ports(self, load_balancer_id: str) -> list[Json]:
        """Found by what only we write there: tenants may rename their port."""
        return self._list("port", [("device_id", DEVICE.format(load_balancer_id)), ("device_owner", OWNER)])

    def _amphora_ports(self, amphora_id: str, **where: str) -> Iterator[Json]:
        """By name: Nova writes its own device over ours."""
        names = [("name", name.format(amphora_id)) for name in (VRRP, MEMBER)]
        yield from self._list("port", [*names, ("project_id", self.neutron.project_id), *where.items()])

    def _group(self, load_balancer_id: str) -> Json | None:
        name = ("name", GROUP.format(load_balancer_id))
        path = "/security-groups"
        found = self.neutron.ask("GET", path, query=[name, ("project_id", self.neutron.project_id)])["security_groups"]
        return next(iter(found), None)


def _owned(kind: str, found: Json) -> Owned | None:
    """Whose it is by its name; None for a name that is not ours."""
    match = NAMED.fullmatch(found["name"])
    return match and Owned(kind=kind, id=found["id"], name=found["name"], owner=match[2], is_amphoras=bool(match[1]))


def _bound(found: Json, port: Port) -> Port:
    """With the device that its host has for it, once it is bound."""
    if found.get("binding:vif_type") not in PLUGGED or found["binding:vif_details"].get("ovs_hybrid_plug"):
        return port
    switch = found["binding:vif_details"].get("bridge_name", SWITCH) if found["binding:vif_type"] == "ovs" else None
    return structs.replace(
        port, host=found["binding:host_id"], device=f"tap{port.port_id}"[:TAP_LENGTH], switch=switch)


def _only(body: Json, kind: str) -> Json:
    inner: Json = body[kind]
    return inner


def _addresses(port: Json) -> tuple[tuple[str, str], ...]:
    return tuple((one["subnet_id"], one["ip_address"]) for one in port["fixed_ips"])


def _age(found: Json) -> tuple[str, str]:
    return found.get("created_at", ""), found["id"]


def _fixed(address: VipAddress) -> Json:
    return {"subnet_id": address.subnet_id} | ({"ip_address": address.ip_address} if address.ip_address else {})


def _vip(port: Json, wanted: Sequence[VipAddress]) -> Vip:
    """The port's addresses that are wanted, in that order."""
    here = _addresses(port)
    chosen = [
        next(pair for pair in sorted(here, key=lambda pair: pair[1] != one.ip_address) if pair[0] == one.subnet_id)
        for one in wanted
    ]
    return Vip(port_id=port["id"], network_id=port["network_id"], addresses=tuple(chosen))


def _subnet(found: Json, free: int | None = None) -> SubnetFacts:
    """Where Neutron does not count, every address counts as free: making a port will tell."""
    return SubnetFacts(
        id=found["id"], network_id=found["network_id"], cidr=found["cidr"], gateway_ip=found["gateway_ip"],
        ip_version=found["ip_version"], free=ip_network(found["cidr"]).num_addresses if free is None else free)
