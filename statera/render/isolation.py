# SPDX-License-Identifier: Apache-2.0
"""From the networks of a host to the packet filter that keeps those of different tenants apart, and off the host.

Rules speak only of bridges that the agent made: an existing one is its owner's business. Without shared networks
they know no state, so that a host that serves nothing else need not track connections.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from statera.wire import LocalNetwork

GUARD = "guard"
"""A counter that says by being there that the rules are."""
NEW = "tcp flags & (syn | ack) == syn"
FIRST_ANSWERED_PORT = 32768
"""Linux gives programs that ask by UDP ports from here on, where their answers come back."""


def render(networks: Iterable[LocalNetwork], table: str, *, serves: bool) -> str:
    """One transaction that replaces the table; *serves*: amphorae may use the host's services at their gateways."""
    own = sorted((network for network in networks if not network.existing), key=lambda network: network.bridge)
    if not own:
        return clear(table)
    return clear(table) + "\n".join([
        f"table inet {table} {{",
        f"    counter {GUARD} {{ }}",
        *_chain("gateway", gateway_rules(serves=serves)),
        *_chain("input", input_rules(own), hook="input"),
        *_chain("forward", forward_rules(own), hook="forward"),
        "}\n"])


def clear(table: str) -> str:
    return f"table inet {table} {{}}\ndelete table inet {table}\n"


def _chain(name: str, rules: Iterable[str], *, hook: str | None = None) -> Iterator[str]:
    yield f"    chain {name} {{"
    if hook:
        yield f"        type filter hook {hook} priority filter - 10; policy accept;"
    yield from (f"        {rule}" for rule in rules)
    yield "    }"


def gateway_rules(*, serves: bool) -> Iterator[str]:
    """What an amphora may send to its gateway: answers, and questions only where the operator lets it."""
    if serves:
        yield "accept"
        return
    yield "meta l4proto { icmp, icmpv6 } accept"
    yield f"meta l4proto tcp {NEW} drop"
    yield "meta l4proto tcp accept"
    yield "sctp chunk init exists drop"
    yield "meta l4proto sctp accept"
    yield f"udp dport >= {FIRST_ANSWERED_PORT} accept"
    yield "drop"


def input_rules(own: Sequence[LocalNetwork]) -> Iterator[str]:
    """To the host: nothing but what neighbours say to each other, and what goes to the network's own gateways."""
    for network in own:
        start = f'iifname "{network.bridge}"'
        yield f"{start} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, " \
              "mld-listener-report, mld2-listener-report } accept"
        for family, addresses in _gateways(network).items():
            yield f"{start} {family} daddr {{ {', '.join(addresses)} }} goto gateway"
        yield f"{start} drop"


def _gateways(network: LocalNetwork) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for gateway in map(ipaddress.ip_interface, network.gateways):
        found.setdefault("ip" if gateway.version == 4 else "ip6", []).append(str(gateway.ip))
    return found


def forward_rules(own: Sequence[LocalNetwork]) -> Iterator[str]:
    """From one network to another: among those of one project, and to shared ones, whose answers come back."""
    if any(network.shared for network in own):
        yield "ct state established,related accept"
    bridges = ", ".join(f'"{network.bridge}"' for network in own)
    for network in own:
        reached = [f'"{other.bridge}"' for other in own if other.shared or other.project_id == network.project_id]
        yield f'iifname "{network.bridge}" oifname {{ {", ".join(reached)} }} accept'
    yield f"iifname {{ {bridges} }} oifname {{ {bridges} }} drop"
