# SPDX-License-Identifier: Apache-2.0
"""What callers may do with local networks, subnets and ports, and how these are shown: Neutron's fields."""

from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from statera.errors import BadField, BadRequest, Forbidden, InUse, NotFound
from statera.model.networks import (
    OVERLAY_MTU,
    AddressRange,
    LocalNetwork,
    LocalPort,
    LocalSubnet,
    block,
    bridge_name,
    check_pools,
    default_pools,
    gateway,
    mac_address,
)
from statera.store.networks import NetworkBook

RENAMED = frozenset({"name", "description"})
BRIDGE_NAME_LENGTH = 15
PLAIN_MTU = 1500

Shown = dict[str, Any]
Body = TypeVar("Body", bound="Owned")


class Who(Struct, frozen=True):
    """The caller: *project_id* None is an administrator of no project."""

    project_id: str | None
    is_admin: bool

    def owns(self, row: LocalNetwork | LocalSubnet | LocalPort) -> bool:
        return self.is_admin or row.project_id == self.project_id


class Owned(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every body may say."""

    name: str = ""
    description: str = ""
    project_id: str | None = None
    tenant_id: str | None = None


class NetworkBody(Owned, kw_only=True):
    admin_state_up: bool = True
    shared: bool = False
    mtu: int | None = None
    port_security_enabled: bool = False
    router_external: bool = msgspec.field(name="router:external", default=False)
    network_type: str | None = msgspec.field(name="provider:network_type", default=None)
    bridge: str | None = msgspec.field(name="provider:physical_network", default=None)


class SubnetBody(Owned, kw_only=True):
    network_id: str
    cidr: str
    ip_version: int = 4
    gateway_ip: str | UnsetType | None = UNSET
    allocation_pools: tuple[AddressRange, ...] = ()
    enable_dhcp: bool = False


class FixedIp(Struct, forbid_unknown_fields=True):
    subnet_id: str
    ip_address: str | None = None


class PortBody(Owned, kw_only=True):
    network_id: str
    fixed_ips: tuple[FixedIp, ...] = ()
    device_id: str = ""
    device_owner: str = ""
    admin_state_up: bool = True


class Desk:
    """Serves callers from the book; an `ApiError` says what they may not."""

    def __init__(self, book: NetworkBook) -> None:
        self.book = book

    def networks(self, who: Who) -> list[Shown]:
        subnets = self.book.subnets()
        return [
            shown_network(network, [subnet.id for subnet in subnets if subnet.network_id == network.id])
            for network in self.book.networks() if network.shared or who.owns(network)
        ]

    def subnets(self, who: Who) -> list[Shown]:
        seen = {network.id for network in self.book.networks() if network.shared or who.owns(network)}
        return [shown_subnet(subnet) for subnet in self.book.subnets() if subnet.network_id in seen]

    def ports(self, who: Who) -> list[Shown]:
        return [shown_port(port) for port in self.book.ports() if who.owns(port)]

    def create_network(self, body: Shown, who: Who) -> str:
        wish = parse(NetworkBody, body)
        check_network(wish, who)
        id = str(uuid4())
        mtu = wish.mtu or (PLAIN_MTU if wish.bridge else OVERLAY_MTU)
        self.book.add_network(LocalNetwork(
            id=id, project_id=owner(wish, who), name=wish.name, description=wish.description, shared=wish.shared,
            mtu=mtu, bridge=wish.bridge or bridge_name(id), existing_bridge=bool(wish.bridge), created_at=now(),
        ))
        return id

    def create_subnet(self, body: Shown, who: Who) -> str:
        wish = parse(SubnetBody, body)
        network = self._network(wish.network_id, who)
        subnet = block(wish.cidr)
        if subnet.version != wish.ip_version:
            raise BadField("cidr", wish.cidr, f"It is not of ip_version {wish.ip_version}.")
        gateway_ip = None if wish.gateway_ip is None else gateway(subnet, wish.gateway_ip or None)
        pools = check_pools(subnet, wish.allocation_pools, gateway_ip) or default_pools(subnet, gateway_ip)
        id = str(uuid4())
        self.book.add_subnet(LocalSubnet(
            id=id, network_id=network.id, project_id=owner(wish, who), name=wish.name, description=wish.description,
            cidr=str(subnet), ip_version=subnet.version, gateway_ip=gateway_ip, allocation_pools=pools,
            created_at=now(),
        ))
        return id

    def create_port(self, body: Shown, who: Who) -> str:
        wish = parse(PortBody, body)
        network = self._network(wish.network_id, who)
        subnets = [subnet.id for subnet in self.book.subnets(network_id=network.id)]
        wanted = [(fixed.subnet_id, fixed.ip_address) for fixed in wish.fixed_ips] or [
            (subnet_id, None) for subnet_id in subnets[:1]]
        for subnet_id, _ in wanted:
            if subnet_id not in subnets:
                raise BadField("subnet_id", subnet_id, f"It is not in network {network.id}.")
        id = str(uuid4())
        self.book.add_port(
            LocalPort(id=id, network_id=network.id, project_id=owner(wish, who), name=wish.name,
                      mac_address=mac_address(id), device_id=wish.device_id, device_owner=wish.device_owner,
                      admin_state_up=wish.admin_state_up, created_at=now()),
            wanted=wanted,
        )
        return id

    def rename(self, kind: str, id: str, body: Shown) -> None:
        """Only names and descriptions can change."""
        if fixed := sorted(set(body) - RENAMED):
            raise BadField(fixed[0], body[fixed[0]], "It cannot be changed.")
        wish = parse(Owned, body)
        self.book.rename(kind, id, {field: getattr(wish, field) for field in body})

    def delete_network(self, id: str) -> None:
        self.book.remove_network(id)

    def delete_subnet(self, id: str) -> None:
        self.book.remove_subnet(id)

    def delete_port(self, id: str) -> None:
        for port in self.book.ports(id):
            if port.device_owner == "Octavia":
                raise InUse("Port", id, port.device_id)
        self.book.remove_port(id)

    def _network(self, id: str, who: Who) -> LocalNetwork:
        """The network, which the caller must own to put anything into it."""
        for network in self.book.networks(id):
            if who.owns(network):
                return network
        raise NotFound("Network", id)


def parse(kind: type[Body], body: Shown) -> Body:
    """*body* as a record; raise `BadRequest` that names the field which it cannot hold."""
    known = {field.encode_name for field in structs.fields(kind)}
    if unknown := sorted(set(body) - known):
        raise BadRequest(f"Unrecognized attribute(s) '{', '.join(unknown)}'")
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input: {error}") from error


def check_network(wish: NetworkBody, who: Who) -> None:
    """Raise for a network that no host could carry."""
    if not wish.admin_state_up:
        raise BadField("admin_state_up", False, "Local networks are always up.")
    if wish.mtu is not None and not 68 <= wish.mtu <= 65535:
        raise BadField("mtu", wish.mtu, "It must be from 68 to 65535.")
    if wish.network_type not in (None, "flat", "local"):
        raise BadField("provider:network_type", wish.network_type, "It must be flat or local.")
    if wish.bridge is None:
        return
    if not who.is_admin:
        raise Forbidden()
    if not 0 < len(wish.bridge) <= BRIDGE_NAME_LENGTH or "/" in wish.bridge or " " in wish.bridge:
        raise BadField("provider:physical_network", wish.bridge, "It is no name of a bridge.")


def owner(wish: Owned, who: Who) -> str:
    """The project that the new object belongs to; only administrators may name another than their own."""
    named = wish.project_id or wish.tenant_id or who.project_id
    if named is None:
        raise BadRequest("project_id is required")
    if named != who.project_id and not who.is_admin:
        raise Forbidden()
    return named


def shown_network(network: LocalNetwork, subnets: list[str]) -> Shown:
    return _shown(network) | {
        "status": "ACTIVE", "admin_state_up": True, "shared": network.shared, "mtu": network.mtu,
        "router:external": False, "subnets": subnets, "provider:network_type": "flat",
        "provider:physical_network": network.bridge, "provider:segmentation_id": None,
    }


def shown_subnet(subnet: LocalSubnet) -> Shown:
    return _shown(subnet) | {
        "network_id": subnet.network_id, "cidr": subnet.cidr, "ip_version": subnet.ip_version,
        "gateway_ip": subnet.gateway_ip, "allocation_pools": [structs.asdict(p) for p in subnet.allocation_pools],
        "enable_dhcp": False, "dns_nameservers": [], "host_routes": [], "ipv6_address_mode": None,
        "ipv6_ra_mode": None,
    }


def shown_port(port: LocalPort) -> Shown:
    fixed_ips = [{"subnet_id": subnet_id, "ip_address": address} for subnet_id, address in port.fixed_ips]
    return _shown(port) | {
        "network_id": port.network_id, "mac_address": port.mac_address, "device_id": port.device_id,
        "device_owner": port.device_owner, "admin_state_up": port.admin_state_up, "status": "ACTIVE",
        "fixed_ips": fixed_ips, "security_groups": [], "allowed_address_pairs": [],
    }


def _shown(row: LocalNetwork | LocalSubnet | LocalPort) -> Shown:
    """The fields that all kinds have."""
    at = row.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "id": row.id, "name": row.name, "project_id": row.project_id, "tenant_id": row.project_id,
        "description": getattr(row, "description", ""), "tags": [], "created_at": at, "updated_at": at,
        "revision_number": 0,
    }


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
