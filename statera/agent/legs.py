# SPDX-License-Identifier: Apache-2.0
"""Gets an amphora's legs into its namespace: from a bridge, for the network service's own agent, or a whole interface.

Where a spec names a bridge of this host, the leg goes into it. Where it names a device, the leg's outer end bears that
name and nothing else is done with it: the network's agent on this host waits for it. Where it names an Open vSwitch
too, the device is a port of that, and goes into the namespace as a whole under the name by which the switch knows it.
In a virtual machine the hypervisor has plugged an interface already, found by its hardware address.
"""

import hashlib
import os
import socket
from collections.abc import Iterable
from typing import Any

from statera.agent import switch
from statera.errors import GiveUp, TryAgain
from statera.wire import Interface

SWITCHED = ("openvswitch", "tun")
"""What kinds of links the ports of an Open vSwitch are: of the kernel's, and of one that is a process."""


def outer_name(amphora_id: str, interface: str) -> str:
    """The host's end of a leg: the same after a restart, different for each, at most 15 characters."""
    digest = hashlib.sha256(f"{amphora_id}/{interface}".encode()).hexdigest()
    return f"sta{digest[:12]}"


def outer_end(amphora_id: str, interface: Interface) -> str | None:
    """What the leg's end on the host is called, None for an interface that is in the namespace as a whole."""
    if interface.bridge:
        return outer_name(amphora_id, interface.name)
    return None if interface.switch else interface.device


def is_plugged(amphora_id: str, interface: Interface) -> bool:
    """Whether the leg is where it belongs, as far as the host shows that; cheap enough to ask every second."""
    if interface.switch:
        # Here it does not belong: a switch that started again has made it anew.
        return not _is_here(interface.name)
    outer = outer_end(amphora_id, interface)
    return outer is None or _is_here(outer)


def ensure(host: Any, amphora_id: str, interface: Interface, *, namespace: str, inner: Iterable[str]) -> None:
    """Have the leg end in the *namespace*, where links named *inner* are already.

    Raise `TryAgain` when what it is made from is not there (yet), `GiveUp` when the spec does not say what that is.
    """
    outer = outer_end(amphora_id, interface)
    if outer and interface.name not in inner:
        # The other end of what is left of it is in a namespace that nobody finds any more.
        drop_outer(host, [outer])
    if interface.bridge:
        _into_bridge(host, outer_name(amphora_id, interface.name), interface, namespace)
    elif interface.switch:
        if interface.name not in inner:
            _from_switch(host, interface, namespace)
    elif interface.device:
        if not host.link_lookup(ifname=interface.device):
            _pair(host, interface.device, interface, namespace, address=interface.mac_address)
    elif interface.mac_address:
        if interface.name not in inner:
            _take(host, interface, namespace)
    else:
        raise GiveUp("SPEC_REFUSED", f"interface {interface.name} of amphora {amphora_id} names no bridge, no device "
                                     "and no hardware address")


def drop_outer(host: Any, names: Iterable[str]) -> bool:
    """Remove legs by their ends on the host; whether there were any."""
    found = [index for name in names for index in host.link_lookup(ifname=name)]
    for index in found:
        host.link("del", index=index)
    return bool(found)


def drop_inner(route: Any, wanted: set[str]) -> set[str]:
    """Leave the loopback and the *wanted* alone in the namespace; what is no link of ours goes back to the host.

    Return the names of those that are left.
    """
    left = set()
    for link in route.get_links():
        name, kind = str(link.get("ifname")), link.get(("linkinfo", "kind"))
        if link.get("index") == 1 or name in wanted:
            left.add(name)
            continue
        if kind in SWITCHED:
            switch.drop([name])
        if not kind:
            route.link("set", index=link["index"], net_ns_pid=os.getpid())
        elif route.link_lookup(ifname=name):
            route.link("del", index=link["index"])
    return left


def _into_bridge(host: Any, outer: str, interface: Interface, namespace: str) -> None:
    bridges = host.link_lookup(ifname=interface.bridge)
    if not bridges:
        raise TryAgain("BRIDGE_MISSING", f"there is no bridge {interface.bridge} on this host")
    for index in host.link_lookup(ifname=outer):
        host.link("set", index=index, master=bridges[0])
        return
    _pair(host, outer, interface, namespace, master=bridges[0])


def _is_here(name: str) -> bool:
    """Whether the thread's namespace has such a link; /sys may show another's."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _from_switch(host: Any, interface: Interface, namespace: str) -> None:
    if not host.link_lookup(ifname=interface.name):
        switch.add(interface)
    found = host.link_lookup(ifname=interface.name)
    if not found:
        raise TryAgain("SWITCH", f"Open vSwitch {interface.switch} made no device of port {interface.name}; "
                                 "`ovs-vsctl show` says why")
    host.link("set", index=found[0], state="down", address=interface.mac_address)
    host.link("set", index=found[0], net_ns_fd=namespace, mtu=interface.mtu)


def _pair(
    host: Any, outer: str, interface: Interface, namespace: str, *, master: int | None = None,
    address: str | None = None,
) -> None:
    more = {} if master is None else {"master": master}
    own = {} if address is None else {"address": address}
    peer = {"ifname": interface.name, "net_ns_fd": namespace, "mtu": interface.mtu, **own}
    host.link("add", ifname=outer, kind="veth", state="up", mtu=interface.mtu, peer=peer, **more)


def _take(host: Any, interface: Interface, namespace: str) -> None:
    wanted = str(interface.mac_address).lower()
    found = [link["index"] for link in host.get_links() if (link.get_attr("IFLA_ADDRESS") or "").lower() == wanted]
    if not found:
        raise TryAgain("INTERFACE_MISSING", f"no interface of this machine has the hardware address {wanted} (yet)")
    host.link("set", index=found[0], state="down")
    host.link("set", index=found[0], ifname=interface.name, net_ns_fd=namespace, mtu=interface.mtu)
