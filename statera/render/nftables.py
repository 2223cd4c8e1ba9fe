# SPDX-License-Identifier: Apache-2.0
"""From a spec to a packet filter: who may connect to a listener, and that only the peer speaks VRRP."""

import ipaddress
from collections.abc import Iterator

from statera.errors import GiveUp
from statera.render.backends import DATAGRAMS
from statera.render.haproxy import PEERS_PORT
from statera.wire import ListenerSpec, Spec

TABLE = "inet statera"
FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


def render(spec: Spec) -> str:
    """One transaction that replaces the table, whether or not there is one; the empty text when nothing is filtered.

    Only the first packet of a connection is looked at: who is connected stays so when a list changes.
    """
    rules = [*peer_rules(spec), *(rule for listener in spec.listeners for rule in listener_rules(listener, spec))]
    if not rules:
        return ""
    chain = "\n".join(f"        {rule}" for rule in rules)
    return CLEAR + (
        f"table {TABLE} {{\n    chain input {{\n        type filter hook input priority 0; policy accept;\n"
        f"{chain}\n    }}\n}}\n"
    )


CLEAR = f"table {TABLE} {{}}\ndelete table {TABLE}\n"


def peer_rules(spec: Spec) -> Iterator[str]:
    if spec.vrrp is None:
        return
    peers = [ipaddress.ip_address(ip) for ip in spec.vrrp.everyone]
    yield "iif lo accept"
    for traffic in ("meta l4proto 112", f"tcp dport {PEERS_PORT}"):
        for peer in peers:
            yield f"{traffic} {FAMILIES[peer.version][0]} saddr {peer} accept"
        yield f"{traffic} drop"


def listener_rules(listener: ListenerSpec, spec: Spec) -> Iterator[str]:
    """For each VIP: a new connection from anywhere else than the listed networks is dropped."""
    if not listener.allowed_cidrs or listener.protocol in DATAGRAMS:
        return
    for ip in (ipaddress.ip_address(vip.ip) for vip in spec.vips):
        family, _ = FAMILIES[ip.version]
        start = f"{family} daddr {ip} tcp dport {listener.protocol_port} tcp flags & (syn | ack) == syn"
        networks = ", ".join(cidrs(listener, ip.version))
        yield f"{start} {family} saddr != {{ {networks} }} drop" if networks else f"{start} drop"


def cidrs(listener: ListenerSpec, version: int) -> list[str]:
    """The listener's networks of one family, those inside of others left out (nft refuses overlaps)."""
    try:
        networks = [ipaddress.ip_network(cidr, strict=False) for cidr in listener.allowed_cidrs]
    except ValueError as error:
        raise GiveUp("SPEC_REFUSED", f"allowed_cidrs of listener {listener.id}: {error}") from None
    four = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))
    return [str(network) for network in (four if version == 4 else six)]
