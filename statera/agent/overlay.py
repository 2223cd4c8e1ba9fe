# SPDX-License-Identifier: Apache-2.0
"""One network on several hosts: a VXLAN port on each bridge, which sends to all other hosts whatever has no known way.

Nothing is asked of the hosts' network but that they reach each other: no multicast, no routing protocol. Where
a machine is the kernel learns from what it sends.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from statera.errors import TryAgain
from statera.render.gateways import port_name
from statera.wire import LocalNetwork, Overlay

PORT = 4789
ANYWHERE = "00:00:00:00:00:00"


def spanning(networks: Iterable[LocalNetwork], overlay: Overlay | None) -> tuple[LocalNetwork, ...]:
    """The networks that reach to other hosts: none before there are any."""
    if overlay is None or not peers(overlay):
        return ()
    return tuple(network for network in networks if network.vni is not None and not network.existing)


def peers(overlay: Overlay) -> frozenset[str]:
    """The others' addresses, those of the other family left out: one port speaks only one."""
    version = ipaddress.ip_address(overlay.local).version
    return frozenset(peer for peer in overlay.peers if ipaddress.ip_address(peer).version == version)


def ensure(networks: Iterable[LocalNetwork], overlay: Overlay | None) -> None:
    """Have a port to all others on the bridge of each network that spans hosts, no port when there are no others.

    Raise `TryAgain`.
    """
    remove(networks if not spanning(networks, overlay) else ())
    with IPRoute() as host:
        for network in spanning(networks, overlay):
            assert overlay is not None
            try:
                _follow(host, _port(host, network, overlay.local), peers(overlay))
            except NetlinkError as error:
                raise TryAgain("NETWORK", f"overlay of bridge {network.bridge}: {error}") from error


def remove(networks: Iterable[LocalNetwork]) -> list[str]:
    """Remove these networks' ports and say which there were."""
    gone = []
    with IPRoute() as host:
        for name in (port_name(network) for network in networks if network.vni is not None):
            for index in host.link_lookup(ifname=name):
                host.link("del", index=index)
                gone.append(name)
    return gone


def _port(host: Any, network: LocalNetwork, local: str) -> int:
    """The port's index; one that was made for another address of ours is made anew."""
    name, [bridge] = port_name(network), host.link_lookup(ifname=network.bridge)
    attribute = "vxlan_local" if ipaddress.ip_address(local).version == 4 else "vxlan_local6"
    for index in host.link_lookup(ifname=name):
        [found] = host.get_links(index)
        if found.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", f"IFLA_{attribute.upper()}") != local:
            host.link("del", index=index)
    if not host.link_lookup(ifname=name):
        host.link("add", ifname=name, kind="vxlan", vxlan_id=network.vni, vxlan_port=PORT, mtu=network.mtu,
                  **{attribute: local})
    [port] = host.link_lookup(ifname=name)
    host.link("set", index=port, master=bridge, state="up")
    return int(port)


def _follow(host: Any, port: int, wanted: frozenset[str]) -> None:
    """Send to these hosts and no others; what was learned about those that left is forgotten."""
    there = [entry for entry in host.fdb("dump", ifindex=port)
             if entry["ifindex"] == port and entry.get_attr("NDA_DST") is not None]
    flooded = {entry.get_attr("NDA_DST") for entry in there if entry.get_attr("NDA_LLADDR") == ANYWHERE}
    for entry in there:
        if entry.get_attr("NDA_DST") not in wanted:
            host.fdb("del", ifindex=port, lladdr=entry.get_attr("NDA_LLADDR"), dst=entry.get_attr("NDA_DST"))
    for peer in sorted(wanted - flooded):
        host.fdb("append", ifindex=port, lladdr=ANYWHERE, dst=peer)
