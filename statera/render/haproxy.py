# SPDX-License-Identifier: Apache-2.0
"""From a spec to HAProxy's configuration: tables of lines, one row per feature.

Text that a user wrote reaches a line only through `quote`, as a number, as an address or as a key of a
table here; anything else is refused with `GiveUp`.
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec import Struct

from statera.render import l7, limits, logs, metrics, tls
from statera.render.backends import backend_name, backends
from statera.render.logs import Logs
from statera.render.text import address, endpoint, literal, name, one_of, quote, refused, token
from statera.wire import ListenerSpec, MemberSpec, MonitorSpec, PersistenceSpec, PoolSpec, Spec

Numbered = TypeVar("Numbered", MemberSpec, ListenerSpec)

PEERS_PORT = 1025
STICK_SIZE = "10k"


class Machine(Struct, frozen=True, kw_only=True):
    """What the host gives an HAProxy: folders, threads, and as many connections as descriptors allow.

    *memory_mb* is what each amphora gets whose flavor does not say; 0 is no limit.
    """

    run: str
    chroot: str
    threads: int = 1
    most_connections: int = 50_000
    memory_mb: int = 0
    logs: Logs | None = None
    default_connection_limit: int = 50_000
    hard_stop_seconds: int = 3600
    most_old_workers: int = 20


LISTENER_MODES = {"HTTP": "http", "PROMETHEUS": "http", "TERMINATED_HTTPS": "http", "HTTPS": "tcp", "TCP": "tcp"}
SCHEMES = {"HTTP": "http", "TERMINATED_HTTPS": "https"}
POOL_MODES = {"HTTP": "http", "HTTPS": "tcp", "TCP": "tcp"}
POOL_WRAPS = {"PROXY": " send-proxy", "PROXYV2": " send-proxy-v2"}

# The hash must be consistent: with a static one members can neither be added live nor weighted.
ALGORITHMS = {
    "ROUND_ROBIN": "balance roundrobin",
    "LEAST_CONNECTIONS": "balance leastconn",
    "SOURCE_IP": "balance source\nhash-type consistent",
    "SOURCE_IP_PORT": "tcp-request content set-var(txn.src_port) src_port\n"
                      "balance hash src,concat(-,txn.src_port)\nhash-type consistent",
}

HEADERS = {
    "X-Forwarded-For": "option forwardfor",
    "X-Forwarded-Port": "http-request set-header X-Forwarded-Port %[dst_port]",
    "X-Forwarded-Proto": "http-request set-header X-Forwarded-Proto {scheme}",
    "X-Forwarded-IP": "http-request set-header X-Forwarded-IP %[src]",
    "X-Client-IP": "http-request set-header X-Client-IP %[src]",
    "X-Real-IP": "http-request set-header X-Real-IP %[src]",
}

MONITORS = {
    "TCP": (False, False),
    "HTTP": (True, False),
    "HTTPS": (True, True),
    "TLS-HELLO": (False, True),
}
"""Type → whether it asks by HTTP, and whether by TLS even where the pool does not speak it."""

METHODS = {method: method for method in (
    "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT")}


def render(spec: Spec, machine: Machine) -> str:
    """The whole file. Its `description` holds the version, which `show info` gives back."""
    sections = [
        section("global", global_lines(spec, machine)),
        section("peers statera", peer_lines(spec)),
        section("defaults", DEFAULTS),
        *(section(f"frontend {name(listener.id)}", frontend_lines(listener, spec, machine))
          for listener in spec.listeners),
        *(section(f"backend {name(backend_name(pool.id, listener))}",
                  backend_lines(pool, listener, spec=spec, machine=machine))
          for listener, pool in backends(spec)),
        *(section(head, lines) for head, lines in metrics.sections(spec, machine.run)),
    ]
    return "\n".join(sections)


def section(head: str, lines: Iterable[str]) -> str:
    body = "\n".join(lines).splitlines()
    return "\n".join([head, *(f"    {line}" for line in body)]) + "\n"


def description(version: int) -> str:
    return f"statera {version}"


def global_lines(spec: Spec, machine: Machine) -> Iterator[str]:
    yield f"description {description(spec.version)}"
    if spec.renewal:
        yield f"# renewal {spec.renewal}"
    # Files are named relative to this one, so that a candidate is checked where it will lie.
    yield "default-path config"
    yield "user haproxy\ngroup haproxy"
    yield f"chroot {quote(machine.chroot)}"
    yield f"stats socket {quote(machine.run + '/haproxy.sock')} mode 600 level admin"
    yield f"localpeer {peer_name(own_address(spec))}"
    yield f"nbthread {limits.threads(spec, most=machine.threads)}"
    yield f"maxconn {most_connections(spec, machine)[0]}"
    yield f"hard-stop-after {machine.hard_stop_seconds}s\nmworker-max-reloads {machine.most_old_workers}"
    yield from logs.global_lines(spec, machine.logs)
    if spec.pem_files:
        folder = quote(f"{machine.run}/{tls.FOLDER}")
        yield f"crt-base {folder}\nca-base {folder}"


def most_connections(spec: Spec, machine: Machine) -> tuple[int, str]:
    """How many connections there may be in all, and what sets that limit.

    The listeners' wish has room for the limit of each: one up to the default can thus change while running.
    """
    wanted = sum(max(listener.connection_limit, machine.default_connection_limit) for listener in spec.listeners)
    ceilings = limits.ceilings(
        spec, wanted=max(1, wanted or machine.default_connection_limit),
        memory_mb=memory_mb(spec, machine), by_descriptors=machine.most_connections)
    return min((count, what) for what, count in ceilings.items())


def memory_mb(spec: Spec, machine: Machine) -> int:
    return machine.memory_mb if spec.limits.memory_mb is None else spec.limits.memory_mb


def own_address(spec: Spec) -> str:
    """Where the peer finds this amphora; alone it talks to itself only, so that stick tables outlive reloads."""
    return spec.interfaces[0].addresses[0].ip if spec.vrrp else "127.0.0.1"


def peer_name(ip: str) -> str:
    """The same on both amphorae, and free of characters that a peer's name may not have."""
    digest = hashlib.sha1(ip.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=").replace("-", "x")


def peer_lines(spec: Spec) -> Iterator[str]:
    addresses = [own_address(spec), *([spec.vrrp.peer_ip] if spec.vrrp else [])]
    for ip in addresses:
        yield f"peer {peer_name(ip)} {endpoint(ip, PEERS_PORT)}"


DEFAULTS = (
    "retries 3",
    "option redispatch",
    "option splice-request",
    "option splice-response",
    "option http-keep-alive",
    "timeout connect 5s\ntimeout client 50s\ntimeout server 50s",
)


def frontend_lines(listener: ListenerSpec, spec: Spec, machine: Machine) -> Iterator[str]:
    limit = listener.connection_limit if listener.connection_limit >= 0 else machine.default_connection_limit
    mode = one_of(LISTENER_MODES, "listener protocol", listener.protocol)
    yield f"mode {mode}"
    if mode == "http":
        # At a reload an idle client is told with its next answer to connect anew, instead of finding its connection
        # closed when it asks (HAProxy Configuration Manual 2.6, 4.2). Until its client timeout the old worker waits
        # for that, `hard-stop-after` at the latest.
        yield "option idle-close-on-response"
    for vip in spec.vips:
        yield f"bind {endpoint(vip.ip, listener.protocol_port)}{tls.bind(listener, machine.run)}"
    yield f"maxconn {limit}"
    yield from logs.frontend_lines(listener, mode, spec=spec, logs=machine.logs)
    yield f"timeout client {listener.timeout_client_data}ms"
    if listener.timeout_tcp_inspect:
        yield f"tcp-request inspect-delay {listener.timeout_tcp_inspect}ms"
    yield from tls.frontend_lines(listener)
    yield from l7.lines(listener)
    yield from metrics.frontend_lines(listener)
    if listener.default_pool_id:
        yield f"default_backend {name(backend_name(listener.default_pool_id, listener))}"


def backend_lines(pool: PoolSpec, listener: ListenerSpec, *, spec: Spec, machine: Machine) -> Iterator[str]:
    mode = backend_mode(pool, listener)
    yield f"mode {mode}"
    yield from logs.backend_lines(machine.logs)
    yield one_of(ALGORITHMS, "lb_algorithm", pool.lb_algorithm)
    yield "option allbackups"
    yield f"timeout connect {listener.timeout_member_connect}ms"
    yield f"timeout server {listener.timeout_member_data}ms"
    if mode == "http":
        yield "http-reuse safe"
        yield from header_lines(listener)
    if pool.session_persistence and (mode == "http" or pool.session_persistence.type == "SOURCE_IP"):
        persist = one_of(PERSISTENCES, "session_persistence", pool.session_persistence.type)
        yield persist(pool.session_persistence, pool.id)
    if pool.monitor:
        yield from monitor_lines(pool.monitor, spec)
    for number, member in numbered(pool.members):
        yield f"server {server(pool, listener, member=member, number=number)}{'' if member.enabled else ' disabled'}"


def backend_mode(pool: PoolSpec, listener: ListenerSpec) -> str:
    if pool.protocol in POOL_WRAPS:
        return one_of(LISTENER_MODES, "listener protocol", listener.protocol)
    return one_of(POOL_MODES, "pool protocol", pool.protocol)


def header_lines(listener: ListenerSpec) -> Iterator[str]:
    known = HEADERS | tls.headers(listener)
    for header, value in sorted(listener.insert_headers.items()):
        if value.lower() == "true" and listener.protocol in SCHEMES:
            yield one_of(known, "insert_headers", header).replace("{scheme}", SCHEMES[listener.protocol])


def stick_table(kind: str, persistence: PersistenceSpec) -> str:
    expire = f" expire {persistence.persistence_timeout}s" if persistence.persistence_timeout else ""
    return f"stick-table type {kind} size {STICK_SIZE}{expire} peers statera"


def by_source(persistence: PersistenceSpec, _pool_id: str) -> str:
    return f"{stick_table('ipv6', persistence)}\nstick on src"


def by_own_cookie(_persistence: PersistenceSpec, pool_id: str) -> str:
    # Dynamic: members that are added while running cannot have a cookie of their own. Both amphorae of a pair
    # must come to the same key. Who knows the pool's id could choose a member for himself; clients never see it.
    key = hashlib.sha256(f"statera cookie of pool {pool_id}".encode()).hexdigest()
    return f"cookie SRV insert indirect nocache dynamic\ndynamic-cookie-key {key}"


def by_application_cookie(persistence: PersistenceSpec, _pool_id: str) -> str:
    cookie = token(persistence.cookie_name or "")
    store, match = (quote(f'{fetch}("{cookie}")') for fetch in ("res.cook", "req.cook"))
    return f"{stick_table('string len 64', persistence)}\nstick store-response {store}\nstick match {match}"


PERSISTENCES = {"SOURCE_IP": by_source, "HTTP_COOKIE": by_own_cookie, "APP_COOKIE": by_application_cookie}


def monitor_lines(monitor: MonitorSpec, spec: Spec) -> Iterator[str]:
    by_http, _ = one_of(MONITORS, "health monitor type", monitor.type)
    yield f"timeout check {monitor.timeout}s"
    if not by_http:
        return
    method = one_of(METHODS, "http_method", monitor.http_method or "GET")
    version = "1.1" if monitor.http_version == 1.1 else "1.0"
    # RFC 9112, 3.2: without a host servers refuse HTTP/1.1.
    asked = literal(monitor.domain_name) if monitor.domain_name else address(spec.vips[0].ip)
    host = f" hdr Host {asked}" if version == "1.1" else ""
    yield "option httpchk"
    yield f"http-check send meth {method} uri {quote(monitor.url_path or '/')} ver HTTP/{version}{host}"
    yield f"http-check expect status {codes(monitor.expected_codes or '200')}"


def codes(text: str) -> str:
    """HAProxy takes the API's own notation: single codes and ranges with commas between."""
    if not re.fullmatch(r"\d{3}(-\d{3})?(,\d{3}(-\d{3})?)*", text, re.ASCII):
        raise refused("expected_codes", text)
    return text


def numbered(things: Iterable[Numbered]) -> list[tuple[int, Numbered]]:
    """Each with a number made of its id: consistent hashes go by it, on every amphora and after any change."""
    taken: dict[int, Numbered] = {}
    for thing in things:
        number = zlib.crc32(thing.id.encode()) % (2**31 - 1) + 1
        while number in taken:
            number += 1
        taken[number] = thing
    return list(taken.items())


def server(pool: PoolSpec, listener: ListenerSpec, *, member: MemberSpec, number: int) -> str:
    """A server with all that it needs said, as `add server` inherits nothing: name, address, options."""
    words = f"{name(member.id)} {endpoint(member.address, member.protocol_port)} id {number} weight {member.weight}"
    backup = " backup" if member.backup else ""
    # Without these two a server that was added while running keeps no idle connections (HAProxy 2.6).
    reuse = " pool-max-conn -1 pool-purge-delay 5s"
    wrap = POOL_WRAPS.get(pool.protocol, "")
    wrap += "-ssl-cn" if pool.protocol == "PROXYV2" and listener.tls else ""
    secure = tls.server(pool, listener, backend_mode(pool, listener))
    return words + backup + reuse + wrap + secure + check(pool, member)


def check(pool: PoolSpec, member: MemberSpec) -> str:
    monitor = pool.monitor
    if monitor is None:
        return ""
    by_http, by_tls = one_of(MONITORS, "health monitor type", monitor.type)
    secure = tls.check(pool.tls, monitor, by_http=by_http) if pool.tls or by_tls else ""
    at = f" addr {address(member.monitor_address)}" if member.monitor_address else ""
    port = f" port {member.monitor_port}" if member.monitor_port else ""
    times = f" check inter {monitor.delay}s fall {monitor.max_retries_down} rise {monitor.max_retries}"
    return times + at + port + secure
