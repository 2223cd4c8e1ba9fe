# SPDX-License-Identifier: Apache-2.0
"""Decides who may reach a VIP, for networks that let nothing through that they were not told of."""

from collections.abc import Iterator
from hashlib import sha256
from ipaddress import ip_address

import msgspec
from msgspec import Struct

from statera.model.tree import Listener, LoadBalancer

TRANSPORTS = {"UDP": "udp", "SCTP": "sctp"}
"""What carries a listener's protocol; all others go over TCP."""

ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
PEERS_PORT = 1025
"""Where the HAProxy of a pair's other amphora asks for stick tables."""
SUCCESSION_PORT = 1024
"""Where an amphora is told of its successor; below the ports that connections to members use."""


class Door(Struct, frozen=True):
    """What comes in: a transport, its port (None for all) and from where; *cidr* None is another amphora."""

    protocol: str
    port: int | None = None
    cidr: str | None = None


class Guard(Struct, frozen=True, kw_only=True):
    """All that is to hold for a VIP's ports; *group_ids* are the tenant's own security groups."""

    doors: tuple[Door, ...] = ()
    group_ids: tuple[str, ...] = ()
    qos_policy_id: str | None = None

    @property
    def mark(self) -> str:
        """Tells this guard from any other."""
        return sha256(msgspec.json.encode(self)).hexdigest()[:16]


def guard(lb: LoadBalancer) -> Guard:
    """Who may reach the load balancer: its listeners' clients, or whom the tenant's own groups admit."""
    doors = [*between(lb), *(() if lb.vip_sg_ids else to_listeners(lb))]
    return Guard(doors=tuple(dict.fromkeys(doors)), group_ids=lb.vip_sg_ids, qos_policy_id=lb.vip_qos_policy_id)


def to_listeners(lb: LoadBalancer) -> Iterator[Door]:
    vips = [lb.vip_address, *(vip.ip_address for vip in lb.additional_vips)]
    everywhere = [ANYWHERE[version] for version in sorted({ip_address(vip).version for vip in vips if vip})]
    for listener in lb.listeners:
        if listener.admin_state_up and not listener.deleting:
            for cidr in listener.allowed_cidrs or everywhere:
                yield Door(transport(listener), listener.protocol_port, cidr)


def between(lb: LoadBalancer) -> Iterator[Door]:
    """What the load balancer's amphorae tell each other: one its successor, the two of a pair much more."""
    yield Door("udp", SUCCESSION_PORT)
    if lb.topology == "ACTIVE_STANDBY":
        yield Door("vrrp")
        yield Door("tcp", PEERS_PORT)


def transport(listener: Listener) -> str:
    return TRANSPORTS.get(listener.protocol, "tcp")
