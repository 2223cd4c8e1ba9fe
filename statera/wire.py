# SPDX-License-Identifier: Apache-2.0
"""What crosses between a health manager and a node: specs down, facts up, over one WebSocket.

Each message is one JSON text frame holding a tagged struct. A node first says `Hello`; the health
manager answers `Roster`, the complete list of what the node is to carry, then a `Put` for each amphora
whose version the node does not run yet. Messages only ever name goals: any of them may be repeated,
and a lost one is made up for at the next connection.

Compatibility: fields are only ever added, with a default. What an old agent could misread raises the version of the
specs that have it, and of no others; an agent names the versions it reads in `Hello`.
"""

from typing import Literal, cast

import msgspec
from msgspec import Struct

from statera.model.fleet import Role
from statera.model.limits import Alarm, Effective, Limits

SPEC_VERSIONS = (1, 2)
"""Of specs: the second has legs that are ports of an Open vSwitch."""


class Address(Struct, frozen=True, kw_only=True):
    """An address with the prefix length of its subnet, and the subnet's gateway if it has one.

    *host_routes* are the further ways that the subnet prescribes, each a destination and the next hop.
    """

    ip: str
    prefix: int
    gateway: str | None = None
    host_routes: tuple[tuple[str, str], ...] = ()


class Interface(Struct, frozen=True, kw_only=True):
    """A leg of an amphora. The first is `eth1`, on the VIP network; members' networks follow.

    On a host *bridge* names the bridge to plug into, or *device* what to call the leg's end on the host for the
    network's own agent to plug it. With a *switch* the device is a port of that Open vSwitch, whose agent knows it by
    *port_id*, and the leg itself. In a virtual machine *mac_address* finds the interface.
    """

    name: str
    network_id: str
    addresses: tuple[Address, ...]
    mac_address: str | None = None
    bridge: str | None = None
    mtu: int = 1500
    device: str | None = None
    switch: str | None = None
    port_id: str | None = None


class L7RuleSpec(Struct, frozen=True, kw_only=True):
    """What a request must show."""

    id: str
    type: str
    compare_type: str
    value: str
    key: str | None = None
    invert: bool = False


class L7PolicySpec(Struct, frozen=True, kw_only=True):
    """What becomes of requests that all *rules* are true of; one that is not *enabled* rests."""

    id: str
    action: str
    rules: tuple[L7RuleSpec, ...]
    redirect_pool_id: str | None = None
    redirect_url: str | None = None
    redirect_prefix: str | None = None
    redirect_http_code: int = 302
    enabled: bool = True


class PemFile(Struct, frozen=True, kw_only=True):
    """What HAProxy reads to speak TLS. *name* says whose and what for, and stays when the content changes.

    *digest* is the content's SHA-256; *pem* may be left out where only a change matters.
    """

    name: str
    kind: Literal["certificate", "authority", "revocations"]
    digest: str
    pem: str = ""

    def __repr__(self) -> str:
        return f"PemFile({self.name!r}, {self.digest!r})"  # there is a private key in it


class TlsSpec(Struct, frozen=True, kw_only=True):
    """How a listener speaks TLS with clients, or a pool with members; files by their names in the spec.

    The first of a listener's *certificates* is for clients that name no host; a pool shows its only one to
    members. *client_authentication* is NONE for pools, whose members are verified when there is an *authority*.
    """

    certificates: tuple[str, ...] = ()
    authority: str | None = None
    revocations: str | None = None
    client_authentication: str = "NONE"
    tls_versions: tuple[str, ...] = ()
    tls_ciphers: str | None = None
    alpn_protocols: tuple[str, ...] = ()


class ListenerSpec(Struct, frozen=True, kw_only=True):
    """One enabled listener; *default_pool_id* names an enabled pool of the same spec or nothing.

    The first of *l7policies* that fits a request decides. *redirect_pool_ids* are the pools that policies
    may send to.
    """

    id: str
    protocol: str
    protocol_port: int
    connection_limit: int = -1
    default_pool_id: str | None = None
    insert_headers: dict[str, str] = {}
    timeout_client_data: int = 50_000
    timeout_member_connect: int = 5_000
    timeout_member_data: int = 50_000
    timeout_tcp_inspect: int = 0
    allowed_cidrs: tuple[str, ...] = ()
    tls: TlsSpec | None = None
    hsts_max_age: int | None = None
    hsts_include_subdomains: bool = False
    hsts_preload: bool = False
    l7policies: tuple[L7PolicySpec, ...] = ()
    redirect_pool_ids: tuple[str, ...] = ()


class MonitorSpec(Struct, frozen=True, kw_only=True):
    """An enabled health monitor; *delay* and *timeout* in seconds."""

    type: str
    delay: int
    timeout: int
    max_retries: int
    max_retries_down: int = 3
    http_method: str | None = None
    url_path: str | None = None
    expected_codes: str | None = None
    http_version: float | None = None
    domain_name: str | None = None


class MemberSpec(Struct, frozen=True, kw_only=True):
    id: str
    address: str
    protocol_port: int
    weight: int = 1
    enabled: bool = True
    backup: bool = False
    monitor_address: str | None = None
    monitor_port: int | None = None


class PersistenceSpec(Struct, frozen=True, kw_only=True):
    type: str
    cookie_name: str | None = None
    persistence_timeout: int | None = None
    persistence_granularity: str | None = None


class PoolSpec(Struct, frozen=True, kw_only=True):
    """One enabled pool that a listener uses."""

    id: str
    protocol: str
    lb_algorithm: str
    members: tuple[MemberSpec, ...] = ()
    monitor: MonitorSpec | None = None
    session_persistence: PersistenceSpec | None = None
    tls: TlsSpec | None = None


class VrrpSpec(Struct, frozen=True, kw_only=True):
    """How the two of a pair agree who answers for the VIP; *advert_seconds* as keepalived's advert_int.

    While one of them is exchanged there are more: *peer_ips* are all others, *peer_ip* the one that remembers
    clients too. Who comes later is silent for *delay_seconds*, until the others know it.
    """

    priority: int
    peer_ip: str
    router_id: int = 1
    advert_seconds: float = 0.1
    peer_ips: tuple[str, ...] = ()
    delay_seconds: int = 0

    @property
    def everyone(self) -> tuple[str, ...]:
        return self.peer_ips or (self.peer_ip,)


class Predecessor(Struct, frozen=True, kw_only=True):
    """An amphora that may still run somewhere, cut off, though others have taken its place; *ip* is its own."""

    amphora_id: str
    ip: str


class Spec(Struct, frozen=True, kw_only=True):
    """All that one amphora is to run. *version* is the load balancer's; a higher one replaces a lower.

    *log_target* is where the tenant wants the flow log sent: a URL, reached from within the amphora. The
    *predecessors* are to be told to step back. A higher *renewal* has HAProxy start its program anew.
    """

    amphora_id: str
    load_balancer_id: str
    version: int
    role: Role
    interfaces: tuple[Interface, ...]
    vips: tuple[Address, ...]
    listeners: tuple[ListenerSpec, ...] = ()
    pools: tuple[PoolSpec, ...] = ()
    pem_files: tuple[PemFile, ...] = ()
    vrrp: VrrpSpec | None = None
    enabled: bool = True
    project_id: str = ""
    request_id: str | None = None
    log_target: str | None = None
    limits: Limits = Limits()
    predecessors: tuple[Predecessor, ...] = ()
    renewal: int = 0
    spec_version: int = SPEC_VERSIONS[0]


class LocalNetwork(Struct, frozen=True, kw_only=True):
    """A network that every host carries as a Linux bridge.

    The host bears *gateways* (address/prefix) on it, so that the host itself reaches what is behind. An
    *existing* bridge is used as it is and never removed; any other is one with the bridges of the other nodes
    by VXLAN, under the number *vni*. Networks of one *project_id* reach each other, and one that is *shared* is
    reached from all.
    """

    id: str
    bridge: str
    gateways: tuple[str, ...] = ()
    mtu: int = 1500
    existing: bool = False
    project_id: str = ""
    shared: bool = False
    vni: int | None = None


class Overlay(Struct, frozen=True, kw_only=True):
    """Between which addresses nodes send each other the frames of their networks: this one's and all others'."""

    local: str
    peers: tuple[str, ...]


# From the health manager to the node.


class Roster(Struct, frozen=True, kw_only=True, tag="roster"):
    """The whole of what the node is to carry; whatever else it carries must go and be reported `Gone`.

    *roots* are the authorities to trust from now on, PEM, that of who signs first; empty for no news.
    Without an *overlay* the node's networks end at the node.
    """

    amphorae: tuple[str, ...]
    networks: tuple[LocalNetwork, ...] = ()
    overlay: Overlay | None = None
    report_seconds: float = 1.0
    beat_seconds: float = 3.0
    roots: str = ""


class Put(Struct, frozen=True, kw_only=True, tag="put"):
    spec: Spec


class Certificate(Struct, frozen=True, kw_only=True, tag="certificate"):
    """The answer to `Renew`: the new certificate and the roots to trust from now on, PEM."""

    certificate: str
    roots: str


Down = Roster | Put | Certificate


# From the node to the health manager.


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """First on every connection. *running* maps each amphora that the node carries to its version.

    *trusts* names the authorities that the node trusts by their certificates' SHA-256.
    *overlay_ip* is where other nodes can send it frames of its networks, None for nowhere.
    """

    agent_version: str
    spec_versions: tuple[int, ...] = SPEC_VERSIONS
    features: tuple[str, ...] = ()
    hostname: str = ""
    running: dict[str, int] = {}
    trusts: tuple[str, ...] = ()
    overlay_ip: str | None = None


class Applied(Struct, frozen=True, kw_only=True, tag="applied"):
    """The node now runs *version*, or could not: then *failure* says why and the node goes on trying."""

    amphora_id: str
    version: int
    failure: str | None = None
    how: Literal["nothing", "runtime", "reload", "start"] = "nothing"
    seconds: float = 0.0
    haproxy_version: str | None = None


class Gone(Struct, frozen=True, kw_only=True, tag="gone"):
    """Nothing of this amphora is left on the node."""

    amphora_id: str


class Counters(Struct, frozen=True, kw_only=True, array_like=True):
    """Totals of one listener since the amphora was made; they never fall, reloads and restarts included."""

    bytes_in: int = 0
    bytes_out: int = 0
    active_connections: int = 0
    total_connections: int = 0
    request_errors: int = 0


class Report(Struct, frozen=True, kw_only=True, tag="report"):
    """HAProxy's own words by object id: only what changed since the last report on this connection.

    *full* says that objects that are not named have no status. Pools are keyed by pool id, the worst of
    a pool's backends counts. *alarms* are all that there are now; these and *effective* are None when unchanged.
    """

    amphora_id: str
    full: bool = False
    vrrp: str | None = None
    listeners: dict[str, str] = {}
    pools: dict[str, str] = {}
    members: dict[str, str] = {}
    counters: dict[str, Counters] = {}
    alarms: tuple[Alarm, ...] | None = None
    effective: Effective | None = None


class Beat(Struct, frozen=True, kw_only=True, tag="beat"):
    """Nothing changed; the node is alive."""


class Renew(Struct, frozen=True, kw_only=True, tag="renew"):
    """Ask for a new certificate for this node; PEM certificate signing request. *trusts* as in `Hello`."""

    csr: str
    trusts: tuple[str, ...] = ()


Up = Hello | Applied | Gone | Report | Beat | Renew


# A node without a certificate posts Join to /v1/join and gets Joined or 403.


class Join(Struct, frozen=True, kw_only=True):
    token: str
    name: str
    csr: str


class Joined(Struct, frozen=True, kw_only=True):
    node_id: str
    certificate: str
    roots: str


_encoder = msgspec.json.Encoder()
_up = msgspec.json.Decoder(Up)
_down = msgspec.json.Decoder(Down)


def encode(message: Up | Down | Join | Joined | Spec) -> bytes:
    return _encoder.encode(message)


def decode_up(data: bytes | str) -> Up:
    """Raise `msgspec.ValidationError` for anything that is not a message of a node."""
    return cast(Up, _up.decode(data))


def decode_down(data: bytes | str) -> Down:
    """Raise `msgspec.ValidationError` for anything that is not a message of a health manager."""
    return cast(Down, _down.decode(data))
