# SPDX-License-Identifier: Apache-2.0
"""What is there: amphorae, the ports that they use, the nodes that carry them."""

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Role(StrEnum):
    STANDALONE = "STANDALONE"
    MASTER = "MASTER"
    BACKUP = "BACKUP"


ROLES = {"SINGLE": (Role.STANDALONE,), "ACTIVE_STANDBY": (Role.MASTER, Role.BACKUP)}
"""Which roles a load balancer of each topology has; one amphora holds each."""


class Port(Struct, frozen=True, kw_only=True):
    """An address of an amphora on a network: the VIP network first, then those of members.

    *host* is where the network service expects the port, and *device* what that host calls its end of the leg, or, as a
    port of an Open vSwitch, its *switch*, the leg itself. *guard* is the mark of the `Guard` that holds for the port,
    None while none does.
    """

    port_id: str
    network_id: str
    subnet_id: str
    ip_address: str
    cidr: str
    gateway_ip: str | None = None
    host_routes: tuple[tuple[str, str], ...] = ()
    mac_address: str | None = None
    mtu: int = 1500
    bridge: str | None = None
    device: str | None = None
    switch: str | None = None
    host: str | None = None
    guard: str | None = None


class Amphora(Struct, frozen=True, kw_only=True):
    """One isolated HAProxy that serves one load balancer, as the store knows it.

    `born_version` is the load balancer's version when it was added: older than the load balancer's
    `failover_version` means that it must be replaced. `applied_version` is what its node last said
    that it runs. `node_heard` is true while a live health manager holds a connection from its node.
    `built` is what of the flavor its machine was made from, `vrrp_state` what keepalived says.
    """

    id: str
    load_balancer_id: str
    role: Role
    born_version: int
    node_id: str | None = None
    node_heard: bool = False
    ports: tuple[Port, ...] = ()
    applied_version: int = 0
    replace: bool = False
    leaving: bool = False
    gone: bool = False
    built: dict[str, Any] | None = None
    vrrp_state: str | None = None
    renewal: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it is the one of a pair that answers for the VIP."""
        return self.vrrp_state == "MASTER"


class Node(Struct, frozen=True, kw_only=True):
    """A machine with an agent; `amphorae` counts what is placed on it.

    `lost` means that the fleet has given it up: what it carried is to be replaced.
    """

    id: str
    name: str
    heard: bool
    lost: bool = False
    drained: bool = False
    amphorae: int = 0
    zone: str | None = None


SPARE = "SPARE"
"""What stands in the place of a role while an amphora is nobody's."""


class Spare(Struct, frozen=True, kw_only=True):
    """An amphora that is nobody's yet: its machine is made ahead, in *zone*, and named after it.

    `node_id` is there once its agent has joined. `image_id` and `compute_flavor` are what it was made from, None
    where that is not known.
    """

    id: str
    zone: str | None = None
    node_id: str | None = None
    heard: bool = False
    lost: bool = False
    leaving: bool = False
    image_id: str | None = None
    compute_flavor: str | None = None
    host_id: str | None = None

    @property
    def is_ready(self) -> bool:
        return self.heard and not self.leaving


class Owned(Struct, frozen=True, kw_only=True):
    """Something outside that was made for a load balancer or an amphora, as it says itself by its name or tag.

    *kind* is the cloud's word for it (`port`, `server`); *owner* the id of whom it was made for.
    """

    kind: str
    id: str
    name: str
    owner: str
    is_amphoras: bool = False
