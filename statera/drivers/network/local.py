# SPDX-License-Identifier: Apache-2.0
"""VIPs and amphora ports on networks that Statera keeps itself: a bridge on each host, addresses in a book."""

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Protocol
from uuid import uuid4

from statera.drivers.protocols import Berth, Caller, PortFacts, SubnetFacts, Vip, VipRequest
from statera.errors import ApiError, NotFound, TryAgain
from statera.model.fleet import Owned, Port
from statera.model.guard import Guard
from statera.model.networks import LocalNetwork, LocalPort, LocalSubnet, mac_address

OWNER = "Octavia"
OURS = "octavia-lb-"
SERVICE_PROJECT = "statera"
"""Amphora ports belong to nobody's project, so that no tenant meets them."""


class Book(Protocol):
    """What the driver needs written down; `store.networks.NetworkBook` says what each call promises."""

    def networks(self, *ids: str) -> list[LocalNetwork]: ...
    def subnets(self, *ids: str, network_id: str | None = None) -> list[LocalSubnet]: ...
    def ports(self, *ids: str) -> list[LocalPort]: ...
    def free_addresses(self, subnet: LocalSubnet) -> int: ...
    def ensure_port(self, port: LocalPort, *, wanted: Sequence[tuple[str, str | None]]) -> LocalPort: ...
    def use_port(self, id: str, *, device_id: str, device_owner: str) -> LocalPort: ...
    def release_device(self, device_id: str, *, prefix: str, keep: Sequence[str] = ()) -> None: ...


class LocalNetworks:
    """The `local` network driver. A network is seen by its own project, by all if it is shared, and by admins."""

    guards = False

    def __init__(self, book: Book) -> None:
        self.book = book

    def has_network(self, network_id: str, caller: Caller) -> bool:
        return self._network(network_id, caller) is not None

    def subnet(self, subnet_id: str, caller: Caller) -> SubnetFacts | None:
        for subnet in self.book.subnets(subnet_id):
            if self.has_network(subnet.network_id, caller):
                return self._facts(subnet)
        return None

    def subnets(self, network_id: str, caller: Caller) -> Sequence[SubnetFacts]:
        if not self.has_network(network_id, caller):
            return []
        return [self._facts(subnet) for subnet in self.book.subnets(network_id=network_id)]

    def port(self, port_id: str, caller: Caller) -> PortFacts | None:
        for port in self.book.ports(port_id):
            if caller.project_id in (None, port.project_id):
                return PortFacts(
                    id=port.id, network_id=port.network_id, fixed_ips=port.fixed_ips, device_id=port.device_id
                )
        return None

    def has_qos_policy(self, policy_id: str, caller: Caller) -> bool | None:
        return None

    def has_security_group(self, group_id: str, caller: Caller) -> bool:
        return False

    def allocate_vip(self, request: VipRequest) -> Vip:
        device_id = f"lb-{request.load_balancer_id}"
        if request.port_id:
            return _vip(self.book.use_port(request.port_id, device_id=device_id, device_owner=OWNER))
        wanted = [(address.subnet_id, address.ip_address) for address in request.addresses]
        port = _new_port(
            network_id=request.network_id, project_id=request.project_id, name=f"{OURS}{request.load_balancer_id}",
            device_id=device_id, admin_state_up=request.admin_state_up,
        )
        return _vip(self.book.ensure_port(port, wanted=wanted), [subnet_id for subnet_id, _ in wanted])

    def release_vip(self, load_balancer_id: str) -> None:
        self.book.release_device(f"lb-{load_balancer_id}", prefix=OURS)

    def discard_port(self, port_id: str) -> None:
        """Nobody else makes ports here."""

    def ensure_amphora_port(
        self, amphora_id: str, subnet_id: str, vips: Sequence[str] = (), *, berth: Berth | None = None
    ) -> Port:
        try:
            return self._amphora_port(amphora_id, subnet_id, "vrrp" if vips else "member")
        except ApiError as error:
            raise TryAgain("no_address", f"No port for amphora {amphora_id}: {error}") from error

    def bind(self, amphora_id: str, port: Port, host: str) -> Port:
        return port

    def guard_vip(self, load_balancer_id: str, guard: Guard, ports: Sequence[Port]) -> None:
        """The amphora's own packet filter is all that there is."""

    def release_amphora_ports(self, amphora_id: str, keep: Sequence[str] = ()) -> None:
        self.book.release_device(amphora_id, prefix=OURS, keep=keep)

    def owned(self) -> Sequence[Owned]:
        ours = [port for port in self.book.ports() if port.device_owner == OWNER]
        return [
            Owned(kind="port", id=port.id, name=port.name, owner=port.device_id.removeprefix("lb-"),
                  is_amphoras=not port.device_id.startswith("lb-")) for port in ours]

    def release(self, thing: Owned) -> None:
        (self.release_amphora_ports if thing.is_amphoras else self.release_vip)(thing.owner)

    def _amphora_port(self, amphora_id: str, subnet_id: str, use: str) -> Port:
        subnet = next(iter(self.book.subnets(subnet_id)), None)
        if subnet is None:
            raise NotFound("Subnet", subnet_id)
        [network] = self.book.networks(subnet.network_id)
        port = self.book.ensure_port(
            _new_port(network_id=network.id, project_id=SERVICE_PROJECT, name=f"{OURS}{use}-{amphora_id}",
                      device_id=amphora_id),
            wanted=[(subnet_id, None)],
        )
        return Port(
            port_id=port.id, network_id=network.id, subnet_id=subnet_id, ip_address=dict(port.fixed_ips)[subnet_id],
            cidr=subnet.cidr, gateway_ip=subnet.gateway_ip, mac_address=port.mac_address, mtu=network.mtu,
            bridge=network.bridge,
        )

    def _network(self, network_id: str, caller: Caller) -> LocalNetwork | None:
        found = self.book.networks(network_id)
        return next((n for n in found if n.shared or caller.project_id in (None, n.project_id)), None)

    def _facts(self, subnet: LocalSubnet) -> SubnetFacts:
        return SubnetFacts(
            id=subnet.id, network_id=subnet.network_id, cidr=str(ip_network(subnet.cidr)),
            gateway_ip=subnet.gateway_ip, ip_version=subnet.ip_version, free=self.book.free_addresses(subnet),
        )


def _new_port(
    *, network_id: str, project_id: str, name: str, device_id: str, admin_state_up: bool = True
) -> LocalPort:
    id = str(uuid4())
    return LocalPort(
        id=id, network_id=network_id, project_id=project_id, name=name, mac_address=mac_address(id),
        device_id=device_id, device_owner=OWNER, admin_state_up=admin_state_up,
        created_at=datetime.now(UTC).replace(tzinfo=None),
    )


def _vip(port: LocalPort, order: Sequence[str] = ()) -> Vip:
    """The port as a VIP, its addresses in the *order* of subnets that the request named."""
    rank = {subnet_id: at for at, subnet_id in enumerate(order)}
    addresses = sorted(port.fixed_ips, key=lambda pair: rank.get(pair[0], len(rank)))
    return Vip(port_id=port.id, network_id=port.network_id, addresses=tuple(addresses))
