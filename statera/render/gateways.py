# SPDX-License-Identifier: Apache-2.0
"""The filter that lets every host be the gateway of a network that reaches over several hosts.

All hosts bear the same gateway addresses. Who asks for one is answered by the host that it is on, because the
question never leaves by the overlay. And a host that asks for a machine elsewhere does not say which address
it asks for, or the machine would take the far host for its gateway from then on.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from statera.wire import LocalNetwork

TABLE = "bridge statera"
CLEAR = f"table {TABLE} {{}}\ndelete table {TABLE}\n"
ASKS = "ether type arp arp operation request"


def port_name(network: LocalNetwork) -> str:
    """The overlay's port on the network's bridge."""
    return f"st-vx{network.vni}"


def render(networks: Iterable[LocalNetwork]) -> str:
    """One transaction that replaces the table, whether or not there is one."""
    gateways = [
        (port_name(network), ipaddress.ip_interface(gateway).ip)
        for network in networks for gateway in network.gateways]
    passing = [_kept(port, gateway) for port, gateway in gateways]
    own = [f'oifname "{port}" {ASKS} arp saddr ip {gateway} arp saddr ip set 0.0.0.0'
           for port, gateway in gateways if gateway.version == 4]
    return CLEAR + f"table {TABLE} {{\n{''.join((*_chain('forward', passing), *_chain('output', own)))}}}\n"


def _kept(port: str, gateway: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if gateway.version == 4:
        return f'oifname "{port}" {ASKS} arp daddr ip {gateway} drop'
    return f'oifname "{port}" icmpv6 type nd-neighbor-solicit @th,64,128 {int(gateway):#034x} drop'


def _chain(hook: str, rules: Iterable[str]) -> Iterator[str]:
    """All but the few packets that ask for neighbours leave at the first rule."""
    yield f"    chain {hook} {{\n        type filter hook {hook} priority 0; policy accept;\n"
    yield "        ether type != { arp, ip6 } accept\n        ether type ip6 meta l4proto != icmpv6 accept\n"
    yield from (f"        {rule}\n" for rule in rules)
    yield "    }\n"
