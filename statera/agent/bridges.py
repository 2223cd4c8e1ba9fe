# SPDX-License-Identifier: Apache-2.0
"""A Linux bridge for each local network, with the host as its gateway.

The host forwards between the bridges that it is a gateway of (`forwarding` of each such bridge alone), so
that amphorae reach members on other local networks. Whether the host forwards to and from its other
interfaces is the operator's to decide: net.ipv4.ip_forward stays as it is.
"""

import contextlib
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from statera.errors import TryAgain
from statera.wire import LocalNetwork


def ensure(networks: Iterable[LocalNetwork]) -> None:
    """Make every bridge that is to be there; an existing one that was named is only looked for.

    Raise `TryAgain` when the kernel refuses or a named bridge is missing.
    """
    with IPRoute() as host:
        for network in networks:
            try:
                _ensure(host, network)
            except (NetlinkError, OSError) as error:
                raise TryAgain("NETWORK", f"bridge {network.bridge}: {error}") from error


def remove(networks: Iterable[LocalNetwork]) -> list[str]:
    """Remove the bridges that were made for these networks and say which there were."""
    gone = []
    with IPRoute() as host:
        for network in networks:
            for index in host.link_lookup(ifname=network.bridge) if not network.existing else ():
                host.link("del", index=index)
                gone.append(network.bridge)
    return gone


def _ensure(host: Any, network: LocalNetwork) -> None:
    found = host.link_lookup(ifname=network.bridge)
    if network.existing:
        if not found:
            raise TryAgain("BRIDGE_MISSING", f"there is no bridge {network.bridge} on this host")
        return
    if not found:
        # A bridge without an address of its own takes that of a port, and changes it when ports come and go.
        own = ":".join(f"{byte:02x}" for byte in (2, *os.urandom(5)))
        host.link("add", ifname=network.bridge, kind="bridge", mtu=network.mtu, address=own)
        found = host.link_lookup(ifname=network.bridge)
    _set(network.bridge, {"ipv6": "accept_dad"}, "0")
    # Who asks on one network learns nothing of the host's addresses on others.
    _set(network.bridge, {"ipv4": "arp_ignore"}, "1")
    host.link("set", index=found[0], state="up")
    there = {f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}" for a in host.get_addr(index=found[0])}
    for gateway in map(ipaddress.ip_interface, network.gateways):
        if str(gateway) not in there:
            host.addr("add", index=found[0], address=str(gateway.ip), prefixlen=gateway.network.prefixlen)
    if network.gateways:
        _set(network.bridge, {"ipv4": "forwarding", "ipv6": "force_forwarding"}, "1")


def _set(bridge: str, names: dict[str, str], value: str) -> None:
    for family, name in names.items():
        # A kernel without IPv6 lacks these, one before 6.17 cannot forward IPv6 on single interfaces.
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/{family}/conf/{bridge}/{name}").write_text(value)
