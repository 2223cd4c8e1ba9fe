# SPDX-License-Identifier: Apache-2.0
"""All that Statera asks of the world: machines, networks and secrets.

Each call names a goal, so repeating one after a crash is harmless. Outside resources are named after the
load balancer or amphora that owns them and are found by that name before they are made. A driver raises
`TryAgain` or `GiveUp` and nothing else, but for the `ApiError` that `allocate_vip` documents.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from statera.model.fleet import Node, Owned, Port
from statera.model.guard import Guard


class Caller(Struct, frozen=True, kw_only=True):
    """On whose behalf something is looked up; *token* is the caller's own, for clouds that check it."""

    project_id: str | None = None
    token: str | None = None


class SubnetFacts(Struct, frozen=True, kw_only=True):
    """*free* counts the addresses that can still be allocated; only lists of a network's subnets need to know."""

    id: str
    network_id: str
    cidr: str
    gateway_ip: str | None = None
    ip_version: int = 4
    free: int = 0


class PortFacts(Struct, frozen=True, kw_only=True):
    """*fixed_ips* are (subnet id, address); *device_id* is empty while nobody uses the port."""

    id: str
    network_id: str
    fixed_ips: tuple[tuple[str, str], ...] = ()
    device_id: str = ""
    qos_policy_id: str | None = None


class VipAddress(Struct, frozen=True, kw_only=True):
    """*ip_address* None asks for any free address of the subnet."""

    subnet_id: str
    ip_address: str | None = None


class VipRequest(Struct, frozen=True, kw_only=True):
    """*port_id* names a port of the tenant's own; else one is made. *addresses* holds the main VIP first."""

    load_balancer_id: str
    project_id: str
    network_id: str
    addresses: tuple[VipAddress, ...]
    port_id: str | None = None
    admin_state_up: bool = True


class Vip(Struct, frozen=True, kw_only=True):
    """*addresses* are (subnet id, address) in the order of the request.

    All are on the one port, unless each further one has a port of its own in *additional_port_ids*.
    """

    port_id: str
    network_id: str
    addresses: tuple[tuple[str, str], ...]
    additional_port_ids: tuple[str, ...] = ()


class Berth(Struct, frozen=True):
    """Where an amphora's port is to be used, known beforehand: for which load balancer's VIP, and on which host."""

    load_balancer_id: str
    host: str


class AmphoraRequest(Struct, frozen=True, kw_only=True):
    """An amphora that needs a node, a spare one without *load_balancer_id*. *beside* are nodes of the same load
    balancer: better not those.

    *nodes* are the enrolled ones, for drivers that choose among them, *ports* the amphora's, for those that make
    one, *flavor* the data of the load balancer's flavor.
    """

    amphora_id: str
    load_balancer_id: str | None
    nodes: tuple[Node, ...] = ()
    beside: tuple[str, ...] = ()
    zone: str | None = None
    ports: tuple[Port, ...] = ()
    flavor: Mapping[str, Any] = {}


class Machine(Struct, frozen=True, kw_only=True):
    """What administrators are told about the server of an amphora; *host_id* stands for its hypervisor."""

    compute_id: str
    lb_network_ip: str
    image_id: str | None = None
    compute_flavor: str | None = None
    cached_zone: str | None = None
    host_id: str | None = None
    cert_expiration: datetime | None = None


class Compute(Protocol):
    """Nodes for amphorae.

    Without *has_nodes* no node ever carries an amphora: the controller itself says that it runs. One that *plugs*
    gives each amphora a machine of its own, with its ports, which ends with it; else nodes plug ports, which
    are bound to them. When a flavor's fields named in *built_from* change, an amphora has to be made anew. One that
    *keeps_apart* makes no two of a pair on one host, come what may.
    """

    has_nodes: bool
    plugs: bool
    built_from: tuple[str, ...]
    keeps_apart: bool

    def ensure_node(self, request: AmphoraRequest) -> str | None:
        """The id of the node that is to carry the amphora; None while it is still being made.

        Raise `TryAgain` ("no node …") when nothing can carry it now.
        """

    def plug(self, amphora_id: str, ports: Sequence[Port], *, load_balancer_id: str) -> None:
        """Give the amphora's machine these ports and no others, and have it say whose it is; for drivers that plug."""

    def newest(self) -> Mapping[str, str]:
        """What a machine is made from now where no flavor says: fields of `Machine`. Empty without machines."""

    def machine(self, amphora_id: str) -> Machine | None:
        """The amphora's own server; None where it shares a node with others."""

    def ensure_absent(self, amphora_id: str) -> None:
        """Remove what was made for the amphora alone; one that is already gone is success."""

    def forget(self, load_balancer_id: str | None) -> None:
        """Remove what was made for the load balancer as a whole, after its amphorae; None stands for spare ones."""

    def owned(self) -> Sequence[Owned]:
        """All that was ever made by this driver and is still there, whoever it was made for."""

    def release(self, thing: Owned) -> None:
        """Remove one of those; one that is already gone is success."""


class Network(Protocol):
    """Networks as tenants see them, and ports for VIPs and amphorae.

    One that *guards* lets nothing through that it was not told of: VIPs have to be guarded, ports bound to hosts.
    """

    guards: bool

    def has_network(self, network_id: str, caller: Caller) -> bool:
        """Whether the caller can see such a network."""

    def subnet(self, subnet_id: str, caller: Caller) -> SubnetFacts | None:
        """The subnet, None if the caller can see no such one."""

    def subnets(self, network_id: str, caller: Caller) -> Sequence[SubnetFacts]:
        """The network's subnets in a stable order; empty when there are none."""

    def port(self, port_id: str, caller: Caller) -> PortFacts | None:
        """The port, None if the caller can see no such one."""

    def has_qos_policy(self, policy_id: str, caller: Caller) -> bool | None:
        """Whether there is such a policy; None when the network service has no QoS at all."""

    def has_security_group(self, group_id: str, caller: Caller) -> bool:
        """Whether the caller can see such a security group."""

    def allocate_vip(self, request: VipRequest) -> Vip:
        """Make (or find, or take over) the VIP port `octavia-lb-<load balancer id>`.

        Raise `Conflict` for an address in use, `Invalid` for one outside its subnet or a subnet that is
        full, as `ApiError`s that name address and subnet.
        """

    def release_vip(self, load_balancer_id: str) -> None:
        """Delete the port that `allocate_vip` made; a tenant's own port is only freed."""

    def discard_port(self, port_id: str) -> None:
        """Delete a port that a provider's driver made and does not need; one that is not there is success."""

    def ensure_amphora_port(
        self, amphora_id: str, subnet_id: str, vips: Sequence[str] = (), *, berth: Berth | None = None
    ) -> Port:
        """A port of the amphora in the subnet, `octavia-lb-vrrp-<amphora id>` when it answers for *vips*.

        One that has to be made is made for the *berth*, so far as that is possible; `bind` and `guard_vip` see to it.

        Raise `TryAgain` ("subnet full …") when there is no free address.
        """

    def bind(self, amphora_id: str, port: Port, host: str) -> Port:
        """Have the network reach the amphora's port on *host*; the port with all that its node needs to plug it."""

    def guard_vip(self, load_balancer_id: str, guard: Guard, ports: Sequence[Port]) -> None:
        """Let in what *guard* says, to the VIP and to the amphorae's *ports* that answer for it, and nothing else."""

    def release_amphora_ports(self, amphora_id: str, keep: Sequence[str] = ()) -> None:
        """Delete the ports of the amphora but for those in the subnets *keep*."""

    def owned(self) -> Sequence[Owned]:
        """All that was ever made by this driver and is still there, whoever it was made for."""

    def release(self, thing: Owned) -> None:
        """Remove one of those; one that is already gone is success."""


class Secrets(Protocol):
    """What tenants keep elsewhere and name by a reference: certificates, authorities, revocation lists."""

    def fetch(self, ref: str, caller: Caller) -> bytes | None:
        """The payload, PEM or PKCS12; None if the caller can see no such secret, or it cannot be had now."""


class Consumers(Protocol):
    """A secret store that tells its owners who uses what, so that nobody deletes what a load balancer needs."""

    def enlist(self, ref: str, load_balancer_id: str) -> None:
        """Have the load balancer listed as a user of the secret."""

    def dismiss(self, ref: str, load_balancer_id: str) -> None:
        """Have it listed no more; a secret that is gone, or that never knew of it, is success."""
