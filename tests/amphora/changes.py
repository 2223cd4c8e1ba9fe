# SPDX-License-Identifier: Apache-2.0
"""Every kind of change that the API allows, done to the spec of an amphora that carries all kinds of traffic."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from certificates import Authority
from msgspec.structs import replace

from statera.wire import (
    Address,
    L7PolicySpec,
    L7RuleSpec,
    ListenerSpec,
    MemberSpec,
    MonitorSpec,
    PemFile,
    PersistenceSpec,
    PoolSpec,
    Spec,
    TlsSpec,
)

HTTP, STREAM, DOWNLOAD, SECURE, FLOW = "keep-alive", "WebSocket", "download", "TLS", "UDP"
KINDS = (HTTP, STREAM, DOWNLOAD, SECURE, FLOW)
WEB_PORT, SECURE_PORT, FLOW_PORT, SPARE_PORT, MEMBER_PORT = 80, 443, 53, 8443, 8080

ROOT, CLIENTS = Authority("root"), Authority("clients")
SITE, RENEWED, SHOP = (ROOT.certificate_for("www.example.com").bundle, ROOT.certificate_for("www.example.com").bundle,
                       ROOT.certificate_for("shop.example.com").bundle)


class Change(NamedTuple):
    """*act* does it to a spec, and the spec before undoes it, which is a change with the name *back*.

    *breaks* are the kinds of traffic that the change itself removes. Without a *back* (None) undoing it is no change
    that the API knows.
    """

    object: str
    what: str
    act: Callable[[Spec], Spec]
    back: str | None = "… and back"
    breaks: tuple[str, ...] = ()


def pem(name: str, text: str, kind: str = "certificate") -> PemFile:
    return PemFile(name=name, kind=kind, digest=hashlib.sha256(text.encode()).hexdigest(), pem=text)


def member(net: str, last: int, port: int = MEMBER_PORT, **changes: object) -> MemberSpec:
    return MemberSpec(**{"id": f"member-{last}", "address": f"{net}.{last}", "protocol_port": port, **changes})


MONITOR = MonitorSpec(type="HTTP", delay=5, timeout=3, max_retries=2, http_method="GET", url_path="/",
                      expected_codes="200", http_version=1.1, domain_name="www.example.com")
RULE = L7RuleSpec(id="rule", type="PATH", compare_type="STARTS_WITH", value="/nowhere")
POLICIES = (
    L7PolicySpec(id="policy", action="REDIRECT_TO_URL", redirect_url="http://other.example.com", rules=(RULE,)),
    L7PolicySpec(id="second", action="REDIRECT_TO_POOL", redirect_pool_id="other",
                 rules=(replace(RULE, id="second-rule", type="HEADER", key="X-Other", value="yes"),)),
    L7PolicySpec(id="third", action="REDIRECT_PREFIX", redirect_prefix="http://third.example.com",
                 rules=(replace(RULE, id="third-rule", value="/third"),)),
)
TLS = TlsSpec(certificates=("default.pem",), tls_versions=("TLSv1.2", "TLSv1.3"), alpn_protocols=("http/1.1",))


def everything(spec: Spec, net: str) -> Spec:
    """*spec* with listeners and pools for all kinds of traffic; members have addresses in *net*."""
    pools = (
        PoolSpec(id="web", protocol="HTTP", lb_algorithm="ROUND_ROBIN", monitor=MONITOR,
                 members=tuple(member(net, last) for last in (10, 11))),
        PoolSpec(id="other", protocol="HTTP", lb_algorithm="ROUND_ROBIN", members=(member(net, 12),)),
        PoolSpec(id="names", protocol="UDP", lb_algorithm="ROUND_ROBIN",
                 members=tuple(member(net, last, 90, id=f"name-{last}") for last in (10, 11))),
    )
    listeners = (
        ListenerSpec(id="page", protocol="HTTP", protocol_port=WEB_PORT, default_pool_id="web", l7policies=POLICIES,
                     redirect_pool_ids=("other",)),
        ListenerSpec(
            id="secure", protocol="TERMINATED_HTTPS", protocol_port=SECURE_PORT, default_pool_id="web", tls=TLS),
        ListenerSpec(id="flow", protocol="UDP", protocol_port=FLOW_PORT, default_pool_id="names"),
        ListenerSpec(id="spare", protocol="HTTP", protocol_port=SPARE_PORT, default_pool_id="web"),
    )
    return replace(spec, listeners=listeners, pools=pools, pem_files=(pem("default.pem", SITE),))


def listener(id_: str, **changes: object) -> Callable[[Spec], Spec]:
    return lambda spec: replace(spec, listeners=tuple(
        replace(one, **changes) if one.id == id_ else one for one in spec.listeners))


def pool(id_: str, **changes: object) -> Callable[[Spec], Spec]:
    return lambda spec: replace(spec, pools=tuple(
        replace(one, **changes) if one.id == id_ else one for one in spec.pools))


def monitor(**changes: object) -> Callable[[Spec], Spec]:
    return pool("web", monitor=replace(MONITOR, **changes))


def tls(*files: PemFile, **changes: object) -> Callable[[Spec], Spec]:
    def act(spec: Spec) -> Spec:
        kept = {one.name: one for one in (*spec.pem_files, *files)}
        return listener("secure", tls=replace(TLS, **changes))(replace(spec, pem_files=tuple(kept.values())))

    return act


def policy(number: int, **changes: object) -> Callable[[Spec], Spec]:
    return listener("page", l7policies=(
        *POLICIES[:number], replace(POLICIES[number], **changes), *POLICIES[number + 1:]))


def rule(**changes: object) -> Callable[[Spec], Spec]:
    return policy(0, rules=(replace(RULE, **changes),))


def members(id_: str, act: Callable[[tuple[MemberSpec, ...]], tuple[MemberSpec, ...]]) -> Callable[[Spec], Spec]:
    return lambda spec: replace(spec, pools=tuple(
        replace(one, members=act(one.members)) if one.id == id_ else one for one in spec.pools))


def last_one(**changes: object) -> Callable[[tuple[MemberSpec, ...]], tuple[MemberSpec, ...]]:
    return lambda some: (*some[:-1], replace(some[-1], **changes))


def another(some: tuple[MemberSpec, ...]) -> tuple[MemberSpec, ...]:
    net = some[0].address.rpartition(".")[0]
    return (*some, replace(some[0], id=f"{some[0].id}-more", address=f"{net}.13"))


def elsewhere(some: tuple[MemberSpec, ...]) -> tuple[MemberSpec, ...]:
    """The API cannot move a member: the same name with another address is another member."""
    return (*some[:-1], replace(another(some)[-1], id="moved"))


def all_at_once(spec: Spec) -> Spec:
    for change in (members("web", another), monitor(delay=6), listener("page", insert_headers={"X-Real-IP": "true"}),
                   listener("secure", timeout_client_data=40_000), rule(value="/there")):
        spec = change(spec)
    return spec


def more_vips(spec: Spec) -> Spec:
    ip = spec.vips[0].ip.rpartition(".")[0] + ".201"
    return replace(spec, vips=(*spec.vips, Address(ip=ip, prefix=24)))


def without_page(spec: Spec) -> Spec:
    return replace(spec, listeners=spec.listeners[1:])


WEB = (HTTP, STREAM, DOWNLOAD, SECURE)
LISTENER_FIELDS = {
    "connection_limit": 1000, "timeout_client_data": 40_000, "timeout_member_connect": 4000,
    "timeout_member_data": 40_000, "timeout_tcp_inspect": 100, "insert_headers": {"X-Forwarded-For": "true"},
}
MONITOR_FIELDS = {
    "delay": 6, "timeout": 4, "max_retries": 3, "max_retries_down": 4, "http_method": "HEAD", "url_path": "/healthy",
    "expected_codes": "200-204", "http_version": 1.0, "domain_name": "shop.example.com",
}

CHANGES = (
    Change("load balancer", "name, description, tags", lambda spec: spec),
    Change("load balancer", "additional VIP added", more_vips, "additional VIP removed"),
    Change("load balancer", "several of these at once", all_at_once),
    Change("load balancer", "admin_state_up: false", lambda spec: replace(spec, enabled=False),
           "admin_state_up: true", (*WEB, FLOW)),
    Change("listener", "created", lambda spec: replace(spec, listeners=(*spec.listeners, ListenerSpec(
        id="more", protocol="TCP", protocol_port=8081, default_pool_id="other"))), "deleted"),
    Change("listener", "admin_state_up: false", without_page, "admin_state_up: true", (HTTP, STREAM, DOWNLOAD)),
    *(Change("listener", field, listener("page", **{field: value})) for field, value in LISTENER_FIELDS.items()),
    Change("listener", "connection_limit above the default", listener("page", connection_limit=70_000)),
    Change("listener", "allowed_cidrs", listener("page", allowed_cidrs=("10.0.0.0/8",))),
    Change("listener", "default_pool_id", listener("spare", default_pool_id="other")),
    Change("listener", "no default_pool_id", listener("spare", default_pool_id=None)),
    Change("listener", "UDP: connection_limit", listener("flow", connection_limit=1000)),
    Change("listener", "UDP: allowed_cidrs", listener("flow", allowed_cidrs=("10.0.0.0/8",))),
    Change("TLS of a listener", "certificate renewed", lambda spec: replace(
        spec, pem_files=(pem("default.pem", RENEWED),))),
    Change("TLS of a listener", "sni_container_refs: one added",
           tls(pem("shop.pem", SHOP), certificates=("default.pem", "shop.pem")), "sni_container_refs: one removed"),
    Change("TLS of a listener", "tls_versions", tls(tls_versions=("TLSv1.3",))),
    Change("TLS of a listener", "tls_ciphers", tls(tls_ciphers="ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256")),
    Change("TLS of a listener", "alpn_protocols", tls(alpn_protocols=("h2", "http/1.1"))),
    Change("TLS of a listener", "hsts_max_age", listener("secure", hsts_max_age=1000)),
    Change("TLS of a listener", "client_authentication: OPTIONAL", tls(
        pem("ca.pem", CLIENTS.pem, "authority"), authority="ca.pem", client_authentication="OPTIONAL"),
        "client_authentication: NONE"),
    Change("TLS of a listener", "client_crl_container_ref", tls(
        pem("ca.pem", CLIENTS.pem, "authority"), pem("crl.pem", CLIENTS.revocations(), "revocations"),
        authority="ca.pem", revocations="crl.pem", client_authentication="OPTIONAL")),
    Change("pool", "lb_algorithm", pool("web", lb_algorithm="LEAST_CONNECTIONS")),
    Change("pool", "session_persistence", pool("web", session_persistence=PersistenceSpec(type="HTTP_COOKIE")),
           "session_persistence: none"),
    Change("pool", "tls_enabled", pool("other", tls=TlsSpec()), "tls_enabled: false"),
    Change("pool", "UDP: lb_algorithm", pool("names", lb_algorithm="SOURCE_IP")),
    Change("pool", "UDP: session_persistence", pool("names", session_persistence=PersistenceSpec(type="SOURCE_IP"))),
    Change("member", "added", members("web", another), "removed"),
    Change("member", "500 added", members("web", lambda some: (*some, *(
        replace(some[0], id=f"many-{number}", weight=0) for number in range(500)))), "500 removed"),
    Change("member", "another address (removed and added)", members("web", elsewhere), None),
    Change("member", "weight", members("web", last_one(weight=5))),
    Change("member", "weight: 0", members("web", last_one(weight=0))),
    Change("member", "admin_state_up: false", members("web", last_one(enabled=False)), "admin_state_up: true"),
    Change("member", "backup", members("web", last_one(backup=True))),
    Change("member", "monitor_address, monitor_port", members("web", lambda some: (*some[:-1], replace(
        some[-1], monitor_address=some[0].address, monitor_port=MEMBER_PORT)))),
    Change("member", "UDP: added", members("names", another), "UDP: removed"),
    Change("member", "UDP: weight: 0", members("names", last_one(weight=0))),
    Change("health monitor", "created", pool("other", monitor=MONITOR), "deleted"),
    Change("health monitor", "type", monitor(type="TCP")),
    *(Change("health monitor", field, monitor(**{field: value})) for field, value in MONITOR_FIELDS.items()),
    Change("health monitor", "UDP: created", pool("names", monitor=MonitorSpec(
        type="UDP-CONNECT", delay=5, timeout=3, max_retries=2)), "UDP: deleted"),
    Change("l7policy", "created", listener("page", l7policies=(
        *POLICIES, replace(POLICIES[0], id="fourth", rules=(replace(RULE, id="fourth-rule"),)))), "deleted"),
    Change("l7policy", "admin_state_up: false", listener("page", l7policies=POLICIES[:2]), "admin_state_up: true"),
    Change("l7policy", "position", listener("page", l7policies=(POLICIES[1], POLICIES[0], POLICIES[2]))),
    Change("l7policy", "action", policy(0, action="REJECT", redirect_url=None)),
    Change("l7policy", "redirect_url", policy(0, redirect_url="http://new.example.com")),
    Change("l7policy", "redirect_prefix", policy(2, redirect_prefix="http://new.example.com")),
    Change("l7policy", "redirect_http_code", policy(0, redirect_http_code=301)),
    Change("l7policy", "redirect_pool_id: one that is not used yet", lambda spec: listener(
        "page", redirect_pool_ids=("other", "fresh"), l7policies=(
            POLICIES[0], replace(POLICIES[1], redirect_pool_id="fresh"), POLICIES[2]))(replace(
                spec, pools=(*spec.pools, replace(spec.pools[1], id="fresh"))))),
    Change("l7rule", "created", policy(0, rules=(RULE, replace(RULE, id="more"))), "deleted"),
    Change("l7rule", "value", rule(value="/there")),
    Change("l7rule", "compare_type", rule(compare_type="ENDS_WITH")),
    Change("l7rule", "type, key", rule(type="HEADER", key="X-Test")),
    Change("l7rule", "invert", policy(1, rules=(replace(POLICIES[1].rules[0], invert=True, value="no"),
                                                replace(RULE, id="never", value="/never")))),
)
