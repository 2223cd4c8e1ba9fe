# SPDX-License-Identifier: Apache-2.0
"""A cloud where every network object exists and nothing is kept: for API tests and simulations."""

import threading
from collections.abc import Sequence
from uuid import NAMESPACE_OID, uuid5

from statera.drivers.protocols import Berth, Caller, PortFacts, SubnetFacts, Vip, VipRequest
from statera.model.fleet import Owned, Port
from statera.model.guard import Guard

CIDR, GATEWAY, VIP_ADDRESS = "198.0.2.0/24", "198.0.2.1", "198.0.2.5"  # as Octavia's no-op driver
CIDR_V6, GATEWAY_V6 = "2001:db8::/64", "2001:db8::1"


class NoopNetwork:
    """Ids of what it makes are derived from the owner's, so that repeating a call gives the same answer."""

    guards = False

    def __init__(self) -> None:
        self._asked = threading.local()

    @property
    def _network_id(self) -> str:
        """The network that this thread, which is this request, has asked about last."""
        return getattr(self._asked, "network_id", _id("network"))

    def _remember(self, network_id: str) -> None:
        self._asked.network_id = network_id

    def has_network(self, network_id: str, caller: Caller) -> bool:
        self._remember(network_id)
        return True

    def subnet(self, subnet_id: str, caller: Caller) -> SubnetFacts | None:
        """A subnet of the network that was asked about last."""
        return SubnetFacts(id=subnet_id, network_id=self._network_id, cidr=CIDR, gateway_ip=GATEWAY, free=250)

    def subnets(self, network_id: str, caller: Caller) -> Sequence[SubnetFacts]:
        """One for each IP version; every address is in one of them."""
        self._remember(network_id)
        return [
            SubnetFacts(id=_id(f"subnet of {network_id} {cidr}"), network_id=network_id, cidr=cidr,
                        gateway_ip=gateway_ip, ip_version=version, free=250)
            for version, cidr, gateway_ip in ((4, "0.0.0.0/0", GATEWAY), (6, "::/0", GATEWAY_V6))
        ]

    def port(self, port_id: str, caller: Caller) -> PortFacts | None:
        subnet_id = _id(f"subnet of {self._network_id}")
        return PortFacts(id=port_id, network_id=self._network_id, fixed_ips=((subnet_id, VIP_ADDRESS),))

    def has_qos_policy(self, policy_id: str, caller: Caller) -> bool | None:
        return True

    def has_security_group(self, group_id: str, caller: Caller) -> bool:
        return True

    def allocate_vip(self, request: VipRequest) -> Vip:
        """The addresses that were asked for, 198.0.2.5 for any."""
        return Vip(
            port_id=request.port_id or _id(f"octavia-lb-{request.load_balancer_id}"),
            network_id=request.network_id,
            addresses=tuple((address.subnet_id, address.ip_address or VIP_ADDRESS) for address in request.addresses),
        )

    def release_vip(self, load_balancer_id: str) -> None:
        """Nothing was made."""

    def discard_port(self, port_id: str) -> None:
        """There are no ports."""

    def ensure_amphora_port(
        self, amphora_id: str, subnet_id: str, vips: Sequence[str] = (), *, berth: Berth | None = None
    ) -> Port:
        v6 = any(":" in vip for vip in vips)
        return Port(
            port_id=_id(f"{amphora_id} in {subnet_id}"), network_id=_id(f"network of {subnet_id}"), subnet_id=subnet_id,
            ip_address="2001:db8::6" if v6 else "198.0.2.6", cidr=CIDR_V6 if v6 else CIDR,
            gateway_ip=GATEWAY_V6 if v6 else GATEWAY,
        )

    def bind(self, amphora_id: str, port: Port, host: str) -> Port:
        return port

    def guard_vip(self, load_balancer_id: str, guard: Guard, ports: Sequence[Port]) -> None:
        """Everything is let through."""

    def release_amphora_ports(self, amphora_id: str, keep: Sequence[str] = ()) -> None:
        """Nothing was made."""

    def owned(self) -> Sequence[Owned]:
        return ()

    def release(self, thing: Owned) -> None:
        """There is nothing of ours outside."""


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"statera noop {name}"))
