# SPDX-License-Identifier: Apache-2.0
"""An amphora's network namespace: its legs into the bridges, addresses, routes and kernel settings.

Every function names a goal and may be repeated. They block, and enter the namespace with the calling
thread, so the agent calls them from one thread of their own.
"""

import contextlib
import ctypes
import ipaddress
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from statera.agent import legs, switch
from statera.agent.announce import announce
from statera.errors import TryAgain
from statera.wire import Address, Interface, Spec

VIP_TABLE, MAIN_TABLE = 1, 254
BIND = 0x1000
NETNS_FOLDER = Path("/run/netns")

SYSCTLS = {
    "net/ipv4/ip_nonlocal_bind": "1",
    "net/ipv6/ip_nonlocal_bind": "1",
    "net/ipv4/ip_local_port_range": "1026 65534",
    "net/ipv4/tcp_fin_timeout": "5",
    "net/ipv4/tcp_max_syn_backlog": "65534",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/core/somaxconn": "65534",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}
"""What the data plane wants of its namespace; none of these reaches outside. A kernel without IPv6 lacks some."""


def name_of(amphora_id: str) -> str:
    return f"amphora-{amphora_id}"


def netns_path(amphora_id: str) -> Path:
    return NETNS_FOLDER / name_of(amphora_id)


def exists(amphora_id: str) -> bool:
    return os.path.ismount(netns_path(amphora_id))


def ensure(spec: Spec, *, own_vips: bool) -> None:
    """Make the namespace what *spec* says, and its addresses known; *own_vips*: bear the VIPs too.

    Raise `TryAgain` when a bridge or an interface is not there (yet), `GiveUp` for a leg that names none.
    """
    try:
        _ensure_namespace(spec.amphora_id)
        plugged = {leg.name for leg in spec.interfaces if legs.is_plugged(spec.amphora_id, leg)}
        with inside(spec.amphora_id), IPRoute() as route:
            route.link("set", index=1, state="up")
            inner = legs.drop_inner(route, plugged)
        with IPRoute() as host:
            for interface in spec.interfaces:
                legs.ensure(
                    host, spec.amphora_id, interface, namespace=name_of(spec.amphora_id), inner=inner)
        with inside(spec.amphora_id), IPRoute() as route:
            for interface in spec.interfaces:
                _ensure_addresses(route, spec, interface, own_vips=own_vips)
    except NetlinkError as error:
        raise TryAgain("NETWORK", f"amphora {spec.amphora_id}: {error}") from error


def mend(amphora_id: str, pid: int) -> bool:
    """Give the namespace in which process *pid* lives its name again, if somebody took that away; whether it was so."""
    if exists(amphora_id):
        return False
    path = netns_path(amphora_id)
    path.touch(mode=0o000)
    if _libc.mount(f"/proc/{pid}/ns/net".encode(), str(path).encode(), None, BIND, None) != 0:
        raise TryAgain("NETWORK", f"amphora {amphora_id}: {os.strerror(ctypes.get_errno())}")
    return True


def is_plugged(amphora_id: str, interfaces: Iterable[Interface]) -> bool:
    """Whether the namespace and all its legs' ends on the host are there."""
    return exists(amphora_id) and all(legs.is_plugged(amphora_id, interface) for interface in interfaces)


def claim(amphora_id: str, doors: Collection[tuple[str, int]]) -> None:
    """Raise `TryAgain` if a stranger listens where HAProxy shall.

    HAProxy finds out while it reloads, and lets the old worker refuse everybody for the two seconds that it tries
    (HAProxy 2.6).
    """
    with inside(amphora_id):
        for ip, port in doors:
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as door:
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                try:
                    door.bind((ip, port))
                except OSError as error:
                    raise TryAgain("PORT_TAKEN", f"nobody can listen on {ip} port {port}: {error.strerror}") from error


def inode(amphora_id: str) -> int | None:
    """What tells this namespace from one that had its name before; None when there is none."""
    return _inode(netns_path(amphora_id))


def silence(spec: Spec) -> None:
    """Take VIPs and legs down: nothing of the amphora is heard or answers any more. Repeating is harmless."""
    if not exists(spec.amphora_id):
        return
    drop_vips(spec)
    with inside(spec.amphora_id), IPRoute() as route:
        for interface in spec.interfaces:
            for index in route.link_lookup(ifname=interface.name):
                route.link("set", index=index, state="down")


def forward(amphora_id: str, value: Literal["0", "1"]) -> None:
    """Let packets pass through the namespace (1) or not (0)."""
    with inside(amphora_id):
        for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            with contextlib.suppress(FileNotFoundError):
                (Path("/proc/sys") / name).write_text(value)


def drop_vips(spec: Spec) -> None:
    """Bear none of the VIPs; one that is not borne is success."""
    if not exists(spec.amphora_id):
        return
    with inside(spec.amphora_id), IPRoute() as route:
        for vip in (ipaddress.ip_interface(vip.ip) for vip in spec.vips):
            for index in route.link_lookup(ifname=spec.interfaces[0].name):
                if vip in _addresses(route, index):
                    route.addr("del", index=index, address=str(vip.ip), prefixlen=vip.network.prefixlen)


def remove(amphora_id: str, interfaces: Iterable[Interface]) -> bool:
    """Remove the namespace, whose processes must have ended, and its legs; whether there was anything."""
    switch.drop(interface.name for interface in interfaces if interface.switch)
    with IPRoute() as host:
        found = legs.drop_outer(host, filter(None, (legs.outer_end(amphora_id, one) for one in interfaces)))
    if exists(amphora_id):
        netns.remove(name_of(amphora_id))
        found = True
    netns_path(amphora_id).unlink(missing_ok=True)
    return found


def processes(amphora_id: str) -> list[int]:
    """Everything that runs in the namespace, whoever started it."""
    try:
        ours = os.stat(netns_path(amphora_id)).st_ino
    except FileNotFoundError:
        return []
    return [int(path.parts[2]) for path in Path("/proc").glob("[0-9]*/ns/net") if _inode(path) == ours]


def bears(pid: int, ip: str) -> bool:
    """Whether an address is up in the namespace of process *pid*; read from the kernel's table, nothing is entered."""
    address = ipaddress.ip_address(ip)
    if address.version == 6:
        return address.exploded.replace(":", "") in Path(f"/proc/{pid}/net/if_inet6").read_text()
    local = rf"\|-- {re.escape(str(address))}\n +/32 host LOCAL"
    return re.search(local, Path(f"/proc/{pid}/net/fib_trie").read_text()) is not None


@contextlib.contextmanager
def inside(amphora_id: str) -> Iterator[None]:
    """Let the calling thread be in the namespace for a while."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(netns_path(amphora_id), os.O_RDONLY)
    try:
        _setns(there)
        yield
    finally:
        _setns(home)
        os.close(there)
        os.close(home)


_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _ensure_namespace(amphora_id: str) -> None:
    """Have the namespace with its settings, which interfaces take over when they arrive."""
    if not exists(amphora_id):
        # A crash between making the file and mounting the namespace on it leaves an empty one.
        netns_path(amphora_id).unlink(missing_ok=True)
        netns.create(name_of(amphora_id))
    with inside(amphora_id):
        for name, value in SYSCTLS.items():
            # A kernel without IPv6 has no such settings and needs none.
            with contextlib.suppress(FileNotFoundError):
                (Path("/proc/sys") / name).write_text(value)


def _ensure_addresses(route: Any, spec: Spec, interface: Interface, *, own_vips: bool) -> None:
    index = route.link_lookup(ifname=interface.name)[0]
    first = interface is spec.interfaces[0]
    vips = [ipaddress.ip_interface(vip.ip) for vip in spec.vips] if first else []
    wanted = [ipaddress.ip_interface(f"{address.ip}/{address.prefix}") for address in interface.addresses]
    wanted += vips if own_vips else []
    there = _addresses(route, index)
    for one in there:
        if one not in wanted and one not in vips:
            route.addr("del", index=index, address=str(one.ip), prefixlen=one.network.prefixlen)
    for one in (one for one in wanted if one not in there):
        nodad = {"flags": 0x02} if one.version == 6 else {}
        route.addr("add", index=index, address=str(one.ip), prefixlen=one.network.prefixlen, **nodad)
    route.link("set", index=index, state="up")
    _ensure_host_routes(route, interface.addresses, index)
    if first:
        _ensure_routes(route, spec, index)
        _ensure_host_routes(route, spec.vips, index, table=VIP_TABLE)
    # Neighbours may know another's hardware address for it. Also one that is there: who added it may have died since.
    for one in wanted:
        announce(interface.name, one.ip)


AnyInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _addresses(route: Any, index: int) -> list[AnyInterface]:
    found = [
        ipaddress.ip_interface(f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}")
        for address in route.get_addr(index=index)
    ]
    return [one for one in found if not one.ip.is_link_local]


def _ensure_routes(route: Any, spec: Spec, index: int) -> None:
    """The default route; and answers from a VIP leave by its own network even if a member's leg is nearer."""
    for address in spec.interfaces[0].addresses:
        if address.gateway:
            route.route("replace", dst=_anywhere(address.gateway), gateway=address.gateway, oif=index)
    for vip in spec.vips:
        own = ipaddress.ip_interface(f"{vip.ip}/{vip.prefix}")
        route.route("replace", dst=str(own.network), oif=index, table=VIP_TABLE)
        if vip.gateway:
            route.route("replace", dst=_anywhere(vip.gateway), gateway=vip.gateway, oif=index, table=VIP_TABLE)
        _ensure_rule(route, own.ip)


def _ensure_host_routes(route: Any, addresses: Iterable[Address], index: int, *, table: int = MAIN_TABLE) -> None:
    """The further ways that the subnets prescribe, and none that they prescribed before."""
    wanted = dict(way for address in addresses for way in address.host_routes)
    for found in route.get_routes(oif=index, table=table):
        there = f"{found.get_attr('RTA_DST')}/{found['dst_len']}"
        if found.get_attr("RTA_GATEWAY") and found["dst_len"] and there not in wanted:
            route.route("del", dst=there, oif=index, table=table)
    for destination, next_hop in wanted.items():
        route.route("replace", dst=destination, gateway=next_hop, oif=index, table=table)


def _anywhere(gateway: str) -> str:
    return "0.0.0.0/0" if ipaddress.ip_address(gateway).version == 4 else "::/0"


def _ensure_rule(route: Any, vip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
    sources = {rule.get_attr("FRA_SRC") for rule in route.get_rules(family=family)}
    if str(vip) not in sources:
        route.rule("add", src=str(vip), src_len=vip.max_prefixlen, table=VIP_TABLE, priority=100, family=family)
