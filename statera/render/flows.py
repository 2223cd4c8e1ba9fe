# SPDX-License-Identifier: Apache-2.0
"""From a spec to the rules by which the kernel itself spreads UDP and SCTP: chosen once for each flow, then followed.

A listener is one chain for each address family. Its first rules say who may come in and how many; the next give
the packet a member's number as its mark, remembered or chosen; the last translates the address by that mark. The
flow's own mark is the listener's number, by which its bytes are counted. Numbers, names and addresses are all
that is written here: anything else raises `GiveUp`.
"""

import hashlib
import ipaddress
import math
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from msgspec import Struct

from statera.render.haproxy import numbered
from statera.render.nftables import FAMILIES, cidrs
from statera.render.text import one_of, refused
from statera.wire import ListenerSpec, MemberSpec, PersistenceSpec, PoolSpec, Spec

TABLE = "inet statera_flows"
PROTOCOLS = {"UDP": ("udp", 17), "SCTP": ("sctp", 132)}
BUCKETS = 1024
MOST_SLOTS = 4096
STICKY_SIZE = 65_536
STICKY_SECONDS = 360

FRAME = (
    f"add table {TABLE}",
    # Nobody translates or filters TCP by its state here, so the kernel need not track it.
    f"add chain {TABLE} untracked {{ type filter hook prerouting priority raw; }}",
    f"add chain {TABLE} unsent {{ type filter hook output priority raw; }}",
    f"add chain {TABLE} arrive {{ type nat hook prerouting priority dstnat; }}",
    f"add chain {TABLE} pass {{ type filter hook forward priority filter; policy drop; }}",
    f"add chain {TABLE} leave {{ type nat hook postrouting priority srcnat; }}",
)
CLEAR = f"table {TABLE} {{}}\ndelete table {TABLE}\n"


class Way(Struct, frozen=True):
    """One listener in one address family; *number* marks its flows."""

    number: int
    listener: ListenerSpec
    pool: PoolSpec | None
    version: int
    vips: tuple[str, ...]

    @property
    def chain(self) -> str:
        return f"v{self.version}-{safe(self.listener.id)}"

    @property
    def sticky(self) -> str:
        return f"sticky{self.version}-{safe(self.listener.id)}"

    @property
    def limit(self) -> str:
        # A set's element keeps the limit that it was made with, so another limit is another set.
        return f"limit-{safe(self.listener.id)}-{self.listener.connection_limit}"

    @property
    def persistence(self) -> PersistenceSpec | None:
        return self.pool.session_persistence if self.pool else None


def render(spec: Spec, down: Collection[str] = ()) -> str:
    """One transaction that replaces all rules and keeps counters, limits and memory; empty when there are no flows.

    *down* are the ids of members that failed their health check.
    """
    everywhere = [*ways(spec)]
    if not everywhere:
        return ""
    declared = dict.fromkeys(line for way in everywhere for line in declarations(way))
    rules = [*frame_rules(everywhere), *(f"{way.chain} {rule}" for way in everywhere for rule in way_rules(way, down))]
    lines = [*FRAME, *declared, f"flush table {TABLE}", *(f"add rule {TABLE} {rule}" for rule in rules)]
    return "\n".join(lines) + "\n"


def transition(former: str, text: str) -> str:
    """The transaction from one text of `render` to the next: what only the *former* declares is deleted.

    It may be repeated: after a crash nobody knows whether what is to be deleted is still there.
    """
    if not text:
        return CLEAR if former else ""
    kept = text.splitlines()
    stale = [line for line in former.splitlines() if line.startswith(DECLARATIONS) and line not in kept]
    return text + "".join(f"{line}\ndelete {line.split()[1]} {TABLE} {line.split()[4]}\n" for line in stale)


DECLARATIONS = tuple(f"add {kind} {TABLE} " for kind in ("chain", "counter", "set", "map"))


def flow_listeners(spec: Spec) -> list[tuple[int, ListenerSpec]]:
    """The listeners that the kernel serves, each with the number that marks its flows."""
    return numbered(listener for listener in spec.listeners if listener.protocol in PROTOCOLS)


def ways(spec: Spec) -> Iterator[Way]:
    pools = {pool.id: pool for pool in spec.pools}
    vips = [ipaddress.ip_address(vip.ip) for vip in spec.vips]
    for number, listener in flow_listeners(spec):
        for version in FAMILIES:
            same = tuple(str(vip) for vip in vips if vip.version == version)
            if same:
                yield Way(number, listener, pools.get(listener.default_pool_id or ""), version, same)


def safe(identifier: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", identifier):
        raise refused("id", identifier)
    return identifier


COUNTERS = ("new", "in", "out")


def declarations(way: Way) -> Iterator[str]:
    """What keeps its content when rules change; a name says all about a thing, so that two texts never disagree."""
    for counter in COUNTERS:
        yield f"add counter {TABLE} {counter}-{safe(way.listener.id)}"
    if way.listener.connection_limit >= 0:
        yield f"add set {TABLE} {way.limit} {{ type inet_service; size 16; flags dynamic; }}"
    if way.persistence:
        _, kind = FAMILIES[way.version]
        yield f"add map {TABLE} {way.sticky} {{ type {kind} : mark; size {STICKY_SIZE}; flags dynamic,timeout; }}"
    yield f"add chain {TABLE} {way.chain}"


def frame_rules(everywhere: Sequence[Way]) -> Iterator[str]:
    numbers = {way.listener.id: way.number for way in everywhere}
    yield "untracked meta l4proto tcp notrack"
    yield "unsent meta l4proto tcp notrack"
    for version, group in groupby(sorted(everywhere, key=lambda way: way.version), lambda way: way.version):
        family, _ = FAMILIES[version]
        doors = (f"{vip} . {PROTOCOLS[way.listener.protocol][0]} . {way.listener.protocol_port} : goto {way.chain}"
                 for way in group for vip in way.vips)
        yield f"arrive {family} daddr . meta l4proto . th dport vmap {{ {', '.join(doors)} }}"
    for direction, counter in (("original", "in"), ("reply", "out")):
        counters = ", ".join(f'{number} : "{counter}-{safe(id_)}"' for id_, number in numbers.items())
        yield f"pass ct direction {direction} counter name ct mark map {{ {counters} }}"
    # Nothing but these flows: an amphora is no router between its networks.
    yield "pass ct status dnat accept"
    yield "leave ct status dnat masquerade"


def way_rules(way: Way, down: Collection[str]) -> Iterator[str]:
    """From the first packet of a flow to its member; one that finds no member is answered as a closed port."""
    family, _ = FAMILIES[way.version]
    yield from door_rules(way)
    members = [*reachable(way, down)]
    if way.pool is None or not members:
        return
    numbers = ", ".join(str(number) for number, _ in members)
    weights = eligible(members)
    if way.persistence:
        yield f"meta mark set {client(way)} map @{way.sticky}"
    if weights:
        yield f"meta mark != {{ {numbers} }} meta mark set {choice(way, way.pool, weights)}"
    else:
        yield f"meta mark != {{ {numbers} }} accept"
    if way.persistence:
        seconds = way.persistence.persistence_timeout or STICKY_SECONDS
        yield f"update @{way.sticky} {{ {client(way)} timeout {seconds}s : meta mark }}"
    yield f"ct mark set {way.number} counter name new-{safe(way.listener.id)}"
    places = ", ".join(f"{number} : {host(member)} . {member.protocol_port}"
                       for number, member in members)
    protocol, _ = PROTOCOLS[way.listener.protocol]
    yield f"meta l4proto {protocol} dnat {family} to meta mark map {{ {places} }}"


def door_rules(way: Way) -> Iterator[str]:
    family, _ = FAMILIES[way.version]
    if way.listener.allowed_cidrs:
        networks = ", ".join(cidrs(way.listener, way.version))
        yield f"{family} saddr != {{ {networks} }} drop" if networks else "drop"
    if way.listener.connection_limit >= 0:
        # The key is the listener's own port: one element, that counts the flows of all VIPs and families.
        yield f"add @{way.limit} {{ th dport ct count over {way.listener.connection_limit} }} drop"


def reachable(way: Way, down: Collection[str]) -> Iterator[tuple[int, MemberSpec]]:
    """Members with which a flow may stay: a drained one is among them."""
    for number, member in numbered(way.pool.members if way.pool else ()):
        if member.enabled and member.id not in down and host(member).version == way.version:
            yield number, member


def host(member: MemberSpec) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(member.address)
    except ValueError:
        raise refused("address", member.address) from None


def eligible(members: Iterable[tuple[int, MemberSpec]]) -> dict[int, int]:
    """The weights of those that get new flows, by number; backups only when there is nobody else."""
    able = [(number, member) for number, member in members if member.weight > 0]
    first = {number: member.weight for number, member in able if not member.backup}
    return first or {number: member.weight for number, member in able}


def client(way: Way) -> str:
    """The client as persistence sees it: its address or, by a coarser granularity, its network."""
    family, _ = FAMILIES[way.version]
    granularity = way.persistence.persistence_granularity if way.persistence else None
    if not granularity:
        return f"{family} saddr"
    return f"{family} saddr & {mask(granularity, way.version)}"


def mask(granularity: str, version: int) -> str:
    """A mask of this family, from a netmask (version 4) or a prefix length (version 6); the other family's: all."""
    bits = ipaddress.ip_network("0.0.0.0/0" if version == 4 else "::/0").max_prefixlen
    try:
        length = ipaddress.ip_network(f"::/{granularity}").prefixlen if granularity.isdecimal() else (
            ipaddress.ip_network(f"0.0.0.0/{granularity}").prefixlen)
    except ValueError:
        raise refused("persistence_granularity", granularity) from None
    if granularity.isdecimal() is (version == 4):
        length = bits
    return str(ipaddress.ip_network(f"{'0.0.0.0' if version == 4 else '::'}/{length}").netmask)


def choice(way: Way, pool: PoolSpec, weights: Mapping[int, int]) -> str:
    family, _ = FAMILIES[way.version]
    key = one_of(ALGORITHMS, "lb_algorithm", pool.lb_algorithm)
    if key is None:
        slots = interleaved(scaled(weights))
        return f"numgen inc mod {len(slots)} map {{ {spans(slots)} }}"
    # The same on both amphorae of a pair.
    seed = zlib.crc32(pool.id.encode()) or 1
    return f"jhash {key.format(family=family)} mod {BUCKETS} seed {seed} map {{ {spans(buckets(weights))} }}"


ALGORITHMS = {
    "ROUND_ROBIN": None,
    # The kernel cannot compare members' flows while it chooses; turns, by weight, come nearest.
    "LEAST_CONNECTIONS": None,
    "SOURCE_IP": "{family} saddr",
    "SOURCE_IP_PORT": "{family} saddr . th sport",
}
"""What of a client is hashed; None takes turns."""


def scaled(weights: Mapping[int, int]) -> dict[int, int]:
    """The same shares in the smallest numbers; where these need too many slots, nearly the same."""
    divisor = math.gcd(*weights.values())
    total = sum(weights.values()) // divisor
    shrink = max(1.0, total / MOST_SLOTS)
    return {number: max(1, round(weight / divisor / shrink)) for number, weight in weights.items()}


def interleaved(weights: Mapping[int, int]) -> list[int]:
    """Whose turn is when: everyone's turns lie as evenly as can be, so that no member gets a burst."""
    turns = (((2 * turn + 1) / (2 * weight), number) for number, weight in weights.items() for turn in range(weight))
    return [number for _, number in sorted(turns)]


def buckets(weights: Mapping[int, int]) -> list[int]:
    """Who serves each bucket of a hash: the highest draw wins, so a change of members moves only their own share."""
    draws = {number: struct.unpack(f">{BUCKETS}L", hashlib.shake_128(str(number).encode()).digest(4 * BUCKETS))
             for number in weights}
    scores = {number: [weight / -math.log((draw + 0.5) / 2**32) for draw in draws[number]]
              for number, weight in weights.items()}
    return [max(scores, key=lambda number: scores[number][bucket]) for bucket in range(BUCKETS)]


def spans(slots: Iterable[int]) -> str:
    """The elements of a map from positions to numbers, runs of the same number as one range."""
    parts, start = [], 0
    for number, run in groupby(slots):
        length = len(list(run))
        parts.append(f"{start}-{start + length - 1} : {number}" if length > 1 else f"{start} : {number}")
        start += length
    return ", ".join(parts)


Door = tuple[int, str, int]


def ends(spec: Spec, down: Collection[str] = ()) -> dict[Door, set[tuple[str, int]]]:
    """Where a flow through each door (protocol, VIP, port) may end; one that ends elsewhere is to be cut."""
    return {
        (PROTOCOLS[way.listener.protocol][1], vip, way.listener.protocol_port): {
            (str(host(member)), member.protocol_port) for _, member in reachable(way, down)}
        for way in ways(spec) for vip in way.vips
    }
