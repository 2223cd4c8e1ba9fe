# SPDX-License-Identifier: Apache-2.0
"""Networks that Statera keeps itself, and the arithmetic of their addresses."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise

from msgspec import Struct

from statera.errors import BadField, Invalid

Block = IPv4Network | IPv6Network


class AddressRange(Struct, frozen=True):
    """Both ends belong to it."""

    start: str
    end: str


class LocalNetwork(Struct, frozen=True, kw_only=True):
    """A network that every host carries as the Linux bridge *bridge*; *vni* numbers it between hosts."""

    id: str
    project_id: str
    name: str
    bridge: str
    created_at: datetime
    description: str = ""
    existing_bridge: bool = False
    shared: bool = False
    mtu: int = 1500
    vni: int | None = None


class LocalSubnet(Struct, frozen=True, kw_only=True):
    """A block of addresses of a network; *allocation_pools* are what ports may be given unasked."""

    id: str
    network_id: str
    project_id: str
    name: str
    cidr: str
    ip_version: int
    allocation_pools: tuple[AddressRange, ...]
    created_at: datetime
    gateway_ip: str | None = None
    description: str = ""


class LocalPort(Struct, frozen=True, kw_only=True):
    """*fixed_ips* are (subnet id, address)."""

    id: str
    network_id: str
    project_id: str
    name: str
    mac_address: str
    created_at: datetime
    device_id: str = ""
    device_owner: str = ""
    admin_state_up: bool = True
    fixed_ips: tuple[tuple[str, str], ...] = ()


FIRST_VNI, LAST_VNI = 4096, 2**24 - 1
"""Low numbers are what operators give to VXLANs of their own."""

OVERLAY_MTU = 1450
"""What is left of 1500 when a frame travels inside of another: VXLAN over IPv4 takes 50 bytes."""


def bridge_name(network_id: str) -> str:
    """A name for the network's bridge that fits into the kernel's 15 characters."""
    return "st-" + network_id.replace("-", "")[:11]


def mac_address(port_id: str) -> str:
    """A locally administered address that follows from the port's id."""
    digits = port_id.replace("-", "")[:10]
    return ":".join(["02", *(digits[at:at + 2] for at in range(0, 10, 2))])


def block(cidr: str) -> Block:
    """The addresses that *cidr* stands for; raise `BadField` unless it is a network's own address."""
    try:
        parsed = ip_network(cidr)
    except ValueError as error:
        raise BadField("cidr", cidr, f"{error}.") from error
    if parsed.num_addresses < 4:
        raise BadField("cidr", cidr, "It leaves no address for ports.")
    return parsed


def usable(subnet: Block) -> AddressRange:
    """What hosts may bear: all but the network's address and IPv4's broadcast."""
    last = subnet.broadcast_address - 1 if subnet.version == 4 else subnet.broadcast_address
    return AddressRange(str(subnet.network_address + 1), str(last))


def gateway(subnet: Block, asked: str | None) -> str:
    """The gateway's address: *asked*, else the first; raise `BadField` unless it lies in the subnet."""
    if asked is None:
        return str(subnet.network_address + 1)
    if not holds((usable(subnet),), asked):
        raise BadField("gateway_ip", asked, f"It is no host's address in {subnet}.")
    return str(ip_address(asked))


def default_pools(subnet: Block, gateway_ip: str | None) -> tuple[AddressRange, ...]:
    """All usable addresses but the gateway's."""
    whole = usable(subnet)
    if gateway_ip is None:
        return (whole,)
    hole, first, last = ip_address(gateway_ip), ip_address(whole.start), ip_address(whole.end)
    before = (AddressRange(whole.start, str(hole - 1)),) if int(first) < int(hole) else ()
    after = (AddressRange(str(hole + 1), whole.end),) if int(hole) < int(last) else ()
    return before + after


def check_pools(subnet: Block, pools: Sequence[AddressRange], gateway_ip: str | None) -> tuple[AddressRange, ...]:
    """The pools in the order of their addresses; raise `BadField` for one outside, empty, or in another's way."""
    ordered = tuple(sorted((_pool_in(subnet, pool) for pool in pools), key=_first))
    for earlier, later in pairwise(ordered):
        if holds((earlier,), later.start):
            raise BadField("allocation_pools", f"{later.start}-{later.end}", f"It overlaps {earlier.end}.")
    if gateway_ip and holds(ordered, gateway_ip):
        raise BadField("allocation_pools", gateway_ip, "The gateway's address may not be in a pool.")
    return ordered


def _first(pool: AddressRange) -> int:
    return int(ip_address(pool.start))


def _pool_in(subnet: Block, pool: AddressRange) -> AddressRange:
    shown, whole = f"{pool.start}-{pool.end}", (usable(subnet),)
    if not (holds(whole, pool.start) and holds(whole, pool.end)):
        raise BadField("allocation_pools", shown, f"It does not lie in {subnet}.")
    start, end = ip_address(pool.start), ip_address(pool.end)
    if int(start) > int(end):
        raise BadField("allocation_pools", shown, "It ends before it starts.")
    return AddressRange(str(start), str(end))


def holds(pools: Sequence[AddressRange], address: str) -> bool:
    """Whether *address*, which may be any text, lies in one of the pools."""
    try:
        wanted = ip_address(address)
    except ValueError:
        return False
    ends = ((ip_address(pool.start), ip_address(pool.end)) for pool in pools)
    return any(start.version == wanted.version and int(start) <= int(wanted) <= int(end) for start, end in ends)


def size(pools: Sequence[AddressRange]) -> int:
    """How many addresses are in the pools."""
    return sum(int(ip_address(pool.end)) - int(ip_address(pool.start)) + 1 for pool in pools)


def first_free(pools: Sequence[AddressRange], taken: Collection[str]) -> str | None:
    """The lowest address of the pools that is not *taken*; None when all are."""
    return next((address for address in _addresses(pools) if address not in taken), None)


def _addresses(pools: Sequence[AddressRange]) -> Iterator[str]:
    for pool in pools:
        start, end = ip_address(pool.start), ip_address(pool.end)
        for offset in range(int(end) - int(start) + 1):
            yield str(start + offset)


def check_address(subnet: LocalSubnet, address: str) -> str:
    """*address* in its usual spelling; raise `Invalid` unless a port in the subnet may bear it."""
    if not holds((usable(ip_network(subnet.cidr)),), address):
        raise Invalid(f"IP address {address} is not a valid IP for subnet {subnet.id} ({subnet.cidr})")
    return str(ip_address(address))
