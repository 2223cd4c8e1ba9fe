# SPDX-License-Identifier: Apache-2.0
"""What a request may say beyond the types of its fields: tables of rules, checked in their order.

A rule looks at a `Case` and either has nothing to say (None) or gives the fault. Pure: facts that only the
database or the network knows are put into the case by the caller.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from statera.api.rules.cases import Case as Case
from statera.api.rules.cases import Rule, Values, rule, when
from statera.api.rules.cases import check as check
from statera.api.rules.certificates import good_authority, good_certificates
from statera.config import ApiSettings
from statera.errors import ApiError, BadRequest, DisabledOption, Invalid, InvalidOption

# Pools behind listeners.

POOLS_OF: Mapping[str, tuple[str, ...]] = {
    "TCP": ("TCP", "HTTP", "HTTPS", "PROXY", "PROXYV2"),
    "HTTP": ("HTTP", "PROXY", "PROXYV2"),
    "HTTPS": ("HTTPS", "TCP", "PROXY", "PROXYV2"),
    "TERMINATED_HTTPS": ("HTTP", "PROXY", "PROXYV2"),
    "UDP": ("UDP",),
    "SCTP": ("SCTP",),
    "PROMETHEUS": (),
}
POOL_PROTOCOLS = ("TCP", "HTTP", "HTTPS", "PROXY", "PROXYV2", "UDP", "SCTP")
ALGORITHMS = ("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT")
TRANSPORT = {"UDP": "UDP", "SCTP": "SCTP"}
"""Protocols that have ports of their own; all others share TCP's."""
PACKETS = ("UDP", "SCTP")


def transport(protocol: str) -> str:
    """Whose ports a listener of the protocol takes."""
    return TRANSPORT.get(protocol, "TCP")


def match(listener_protocol: str, pool_protocol: str) -> None:
    """Raise when such a pool cannot stand behind such a listener."""
    if pool_protocol not in POOLS_OF[listener_protocol]:
        raise Invalid(
            f"The pool protocol '{pool_protocol}' is invalid while the listener protocol is '{listener_protocol}'."
        )


def childless(listener_protocol: str) -> None:
    """Raise for listeners that have neither pools nor policies."""
    if listener_protocol == "PROMETHEUS":
        raise BadRequest("Protocol PROMETHEUS listeners cannot have child objects.")


# TLS.

CIPHER_TEXT = re.compile(r"[A-Za-z0-9\-+!:@=_.]*\Z")
TLS_VERSIONS = ("SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")


def good_ciphers(case: Case) -> ApiError | None:
    ciphers = case.sent.get("tls_ciphers")
    if not ciphers:
        return None
    if not CIPHER_TEXT.match(ciphers):
        return Invalid("Invalid characters in cipher string. Only alphanumeric, -, +, !, :, @, =, _, and . are "
                       "allowed.")
    prohibited = set(ciphers.split(":")) & set(case.settings.tls_cipher_prohibit_list.split(":")) - {""}
    if not prohibited:
        return None
    return Invalid(f"The following ciphers have been prohibited by an administrator: {', '.join(sorted(prohibited))}")


def good_tls_versions(case: Case) -> ApiError | None:
    versions = case.sent.get("tls_versions")
    if versions is None:
        return None
    if not versions:
        return Invalid("Empty TLS version list. Either specify at least one TLS version or remove this parameter to "
                       "use the default.")
    unknown = [version for version in versions if version not in TLS_VERSIONS]
    if unknown:
        return Invalid(f"Invalid TLS versions: {', '.join(unknown)}")
    return _new_enough(versions, case.settings.minimum_tls_version)


def _new_enough(versions: Sequence[str], minimum: str) -> ApiError | None:
    old = [name for name in versions if minimum and TLS_VERSIONS.index(name) < TLS_VERSIONS.index(minimum)]
    return Invalid(f"Requested TLS versions are less than the minimum: {', '.join(old)} < {minimum}") if old else None


def good_alpn(case: Case) -> ApiError | None:
    if case.sent.get("alpn_protocols") != []:
        return None
    return Invalid("Empty ALPN protocol list. Either specify at least one ALPN protocol or remove this parameter to "
                   "use the default.")


def bad_defaults(settings: ApiSettings) -> list[str]:
    """What the operator's TLS defaults say that no user might: the option and why, nothing for good ones."""
    said = {
        "tls_ciphers": ("default_listener_ciphers", "default_pool_ciphers"),
        "tls_versions": ("default_listener_tls_versions", "default_pool_tls_versions"),
    }
    rules = {"tls_ciphers": good_ciphers, "tls_versions": good_tls_versions}
    unknown = settings.minimum_tls_version not in ("", *TLS_VERSIONS)
    if unknown:
        return [f"minimum_tls_version = {settings.minimum_tls_version} is not one of {', '.join(TLS_VERSIONS)}"]
    return [
        f"{option}: {fault}" for field, options in said.items() for option in options
        if (fault := rules[field](Case({field: getattr(settings, option)}, {}, settings)))
    ]


# Listeners.

CERTIFICATES = ("default_tls_container_ref", "sni_container_refs")
CA, CRL = "client_ca_tls_container_ref", "client_crl_container_ref"
PLAIN_HEADERS = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-IP", "X-Client-IP",
                 "X-Real-IP")
SSL_HEADERS = ("X-SSL-Client-Verify", "X-SSL-Client-Has-Cert", "X-SSL-Client-DN", "X-SSL-Client-CN", "X-SSL-Issuer",
               "X-SSL-Client-SHA1", "X-SSL-Client-Not-Before", "X-SSL-Client-Not-After")


def good_headers(show: Callable[[Values], object]) -> Rule:
    """*show* prints the names of the headers: POST and PUT do it differently."""
    def judge(case: Case) -> ApiError | None:
        headers = case.sent.get("insert_headers") or {}
        if headers and case.protocol not in ("HTTP", "TERMINATED_HTTPS"):
            return InvalidOption("insert-headers", f"a {case.protocol} protocol listener.")
        if any(name not in PLAIN_HEADERS + SSL_HEADERS for name in headers):
            return InvalidOption(show(headers), "insert_headers")
        ssl = [name for name in headers if name in SSL_HEADERS]
        if ssl and case.protocol == "HTTP":
            return InvalidOption(ssl, f"{case.protocol} protocol listener.")
        return None

    return judge


def _is_plain(case: Case) -> bool:
    return case.protocol in ("TCP", "HTTP", "HTTPS")


def _authenticates(case: Case) -> bool:
    return bool("client_authentication" in case.sent and case.sent["client_authentication"] != "NONE")


def allowed_protocol(case: Case) -> ApiError | None:
    settings, prometheus = case.settings, case.protocol == "PROMETHEUS"
    if not settings.allow_tls_terminated_listeners and case.protocol == "TERMINATED_HTTPS":
        return DisabledOption("protocol", "TERMINATED_HTTPS")
    if not settings.allow_tls_terminated_listeners and prometheus and case.names(*CERTIFICATES):
        return DisabledOption("protocol", "PROMETHEUS with TLS")
    if not settings.allow_prometheus_listeners and prometheus:
        return DisabledOption("protocol", "PROMETHEUS")
    return None


def good_cidrs(case: Case) -> ApiError | None:
    cidrs = case.sent.get("allowed_cidrs") or ()
    if cidrs and case.vip_sg_ids:
        return Invalid("Allowed CIDRs are not allowed when using custom VIP Security Groups.")
    versions = {ipaddress.ip_address(vip).version for vip in case.vips}
    for cidr in cidrs:
        if ipaddress.ip_network(cidr).version not in versions:
            return Invalid(f"CIDR {cidr} IP version incompatible with all VIPs {list(case.vips)} IP version.")
    return None


def _tls_capable(case: Case) -> bool:
    prometheus_with_tls = case.protocol == "PROMETHEUS" and case.has(*CERTIFICATES)
    return case.protocol == "TERMINATED_HTTPS" or prometheus_with_tls


NO_CERTIFICATES = rule(lambda case: _is_plain(case) and case.names(*CERTIFICATES),
                       "Certificate container references are not allowed on {protocol} protocol listeners.")
AUTHENTICATION_NEEDS_CA = rule(
    lambda case: _authenticates(case) and not case.has(CA),
    "Client authentication setting {client_authentication} requires a client CA container reference.")
CRL_NEEDS_CA = rule(
    lambda case: case.has(CRL) and not case.has(CA),
    "A client authentication CA reference is required to specify a client authentication revocation list.")
HSTS_ONLY_WITH_TLS = rule(
    lambda case: case.sent.get("hsts_max_age") is not None and case.protocol != "TERMINATED_HTTPS",
    "The HSTS feature can only be used for listeners using the TERMINATED_HTTPS protocol.")

LISTENER_NULLS: tuple[Rule, ...] = (
    rule(lambda case: case.after["protocol"] is None, "None is not a valid option for protocol", BadRequest),
    rule(lambda case: case.after["protocol_port"] is None, "{protocol} is not a valid option for protocol", BadRequest),
)

LISTENER_POST: tuple[Rule, ...] = (
    good_headers(lambda headers: headers.keys()),
    rule(lambda case: case.protocol in PACKETS and case.names(*CERTIFICATES),
         "{protocol} protocol listener does not support TLS."),
    allowed_protocol,
    NO_CERTIFICATES,
    rule(lambda case: case.names(CA) and not case.names(*CERTIFICATES),
         "An SNI or default certificate container reference must be provided with a client CA container reference."),
    rule(lambda case: case.protocol == "TERMINATED_HTTPS" and not case.names(*CERTIFICATES),
         "An SNI or default certificate container reference must be provided for TERMINATED_HTTPS protocol listeners."),
    AUTHENTICATION_NEEDS_CA,
    CRL_NEEDS_CA,
    good_ciphers,
    good_certificates(*CERTIFICATES),
    good_authority(CA, CRL),
)
"""Up to the certificates; between these and the next stands the test that the port is free."""

LISTENER_POST_LATER: tuple[Rule, ...] = (
    good_cidrs,
    when(_tls_capable, good_tls_versions, good_alpn),
    rule(lambda case: case.names("hsts_include_subdomains", "hsts_preload") and case.sent.get("hsts_max_age") is None,
         "HSTS configuration options hsts_include_subdomains and hsts_preload only make sense if hsts_max_age is set "
         "as well."),
    HSTS_ONLY_WITH_TLS,
)

LISTENER_PUT: tuple[Rule, ...] = (
    rule(lambda case: case.protocol in PACKETS and case.names(*CERTIFICATES, "insert_headers"),
         "{protocol} protocol listener does not support TLS or header insertion."),
    NO_CERTIFICATES,
    AUTHENTICATION_NEEDS_CA,
    good_headers(lambda headers: list(headers)),
    good_certificates(*CERTIFICATES),
    CRL_NEEDS_CA,
    good_authority(CA, CRL),
    good_cidrs,
    good_ciphers,
    good_tls_versions,
    good_alpn,
    rule(lambda case: case.names("hsts_include_subdomains", "hsts_preload") and case.after.get("hsts_max_age") is None,
         "Cannot enable hsts_include_subdomains or hsts_preload if hsts_max_age was not set as well."),
    HSTS_ONLY_WITH_TLS,
)


# Pools.

COOKIE_NAME_BAD = re.compile(r"[\x00-\x20\x22\x28\x29\x2c\x2f\x3a-\x40\x5b-\x5d\x7b\x7d\x7f]")


def _persistence(broken: Callable[[str, Values], object], text: str) -> Rule:
    """A rule about session persistence; *broken* gets the pool's protocol and the object."""
    def judge(case: Case) -> ApiError | None:
        wanted: Values = case.after.get("session_persistence") or {}
        if not case.sent.get("session_persistence") or not broken(case.protocol, wanted):
            return None
        return Invalid(text.format(**wanted))

    return judge


def _timed(protocol: str, wanted: Values) -> bool:
    return protocol not in PACKETS and bool(wanted["persistence_timeout"] or wanted["persistence_granularity"])


def persistence_rules(packet_protocols: str) -> tuple[Rule, ...]:
    """*packet_protocols* is how the texts call UDP and SCTP: POST and PUT differ."""
    return (
        _persistence(lambda _protocol, wanted: wanted["type"] is None, "Invalid session_persistence provided."),
        _persistence(lambda protocol, wanted: protocol in PACKETS and wanted["type"] == "SOURCE_IP" and
                     wanted["cookie_name"],
                     "session_persistence SOURCE_IP type for UDP and SCTP protocols only accepts: type, "
                     "persistence_timeout, persistence_granularity."),
        _persistence(lambda protocol, wanted: protocol in PACKETS and wanted["cookie_name"],
                     "Cookie names are not supported for UDP/SCTP pools."),
        _persistence(lambda protocol, wanted: protocol in PACKETS and wanted["type"] != "SOURCE_IP",
                     "Session persistence of type {type} is not supported for UDP/SCTP protocol pools."),
        _persistence(_timed, f"persistence_timeout and persistence_granularity is only for {packet_protocols} protocol "
                             "pools."),
        _persistence(lambda _protocol, wanted: wanted["cookie_name"] and wanted["type"] != "APP_COOKIE",
                     'Field "cookie_name" can only be specified with session persistence of type "APP_COOKIE".'),
        _persistence(lambda _protocol, wanted: wanted["cookie_name"] and COOKIE_NAME_BAD.search(wanted["cookie_name"]),
                     'Supplied "cookie_name" is invalid.'),
        _persistence(lambda _protocol, wanted: wanted["type"] == "APP_COOKIE" and not wanted["cookie_name"],
                     'Field "cookie_name" must be specified when using the "APP_COOKIE" session persistence type.'),
    )


PERSISTENCE_POST = persistence_rules("UDP and SCTP")
PERSISTENCE_PUT = persistence_rules("UDP")

POOL_CERTIFICATE, POOL_CA, POOL_CRL = "tls_container_ref", "ca_tls_container_ref", "crl_container_ref"
POOL_POST: tuple[Rule, ...] = (
    rule(lambda case: case.has(POOL_CRL) and not case.has(POOL_CA),
         "A CA certificate reference is required to specify a revocation list."),
    good_certificates(POOL_CERTIFICATE),
    good_authority(POOL_CA, POOL_CRL),
    good_ciphers,
    when(lambda case: case.after["tls_enabled"], good_tls_versions, good_alpn),
)
POOL_PUT: tuple[Rule, ...] = (
    rule(lambda case: POOL_CA in case.sent and not case.names(POOL_CA) and case.has(POOL_CRL)
         and POOL_CRL not in case.sent,
         "A CA reference cannot be removed when a certificate revocation list is present."),
    rule(lambda case: case.has(POOL_CRL) and not case.has(POOL_CA),
         "A CA reference is required to specify a certificate revocation list."),
    good_certificates(POOL_CERTIFICATE),
    good_authority(POOL_CA, POOL_CRL),
    good_ciphers,
    good_tls_versions,
    good_alpn,
)


# Members.


def reserved(address: str, reserved_ips: Iterable[str]) -> None:
    """Raise for an address that no member may have."""
    exploded = ipaddress.ip_address(address).exploded.upper()
    if exploded in {ipaddress.ip_address(ip).exploded.upper() for ip in reserved_ips}:
        raise InvalidOption(exploded, "member address")


# Health monitors. Beside the monitor's own fields the case holds `pool_protocol`.

ON_PACKETS = ("UDP-CONNECT", "SCTP", "TCP", "HTTP")
HTTP_TYPES = ("HTTP", "HTTPS")
HTTP_FIELDS = ("http_method", "url_path", "expected_codes")


def _short_delay(case: Case) -> bool:
    delay = case.after["delay"]
    return delay is not None and delay < case.settings.udp_connect_min_interval_health_monitor


def late_enough(applies: Callable[[Case], bool]) -> Rule:
    def judge(case: Case) -> ApiError | None:
        if not applies(case) or not _short_delay(case):
            return None
        smallest = case.settings.udp_connect_min_interval_health_monitor
        return Invalid(f"The request delay value {case.after['delay']} should be larger than {smallest} for "
                       "UDP-CONNECT health monitor type.")

    return judge


def _no_null(field: str) -> Rule:
    return rule(lambda case: case.after[field] is None, f"None is not a valid option for {field}", BadRequest)


def _http_only(field: str, broken: Callable[[Case, str], object]) -> Rule:
    return rule(lambda case: case.after["type"] not in HTTP_TYPES and broken(case, field),
                f"{field} is not a valid option for health monitors of type {{type}}", BadRequest)


NO_NULLS = tuple(_no_null(field) for field in ("delay", "timeout", "max_retries"))
DOMAIN: tuple[Rule, ...] = (
    rule(lambda case: case.has("domain_name") and case.after["http_version"] is None and
         not ("http_version" in case.sent and "domain_name" not in case.sent),
         "'http_version' must be specified when 'domain_name' is provided."),
    rule(lambda case: case.has("domain_name") and case.after["http_version"] == 1.0,
         "http_version 1.0 is not a valid option for health monitors HTTP 1.1 domain name health check", BadRequest),
)
MONITOR_TYPE: tuple[Rule, ...] = (
    rule(lambda case: case.after["type"] == "PING" and not case.settings.allow_ping_health_monitors,
         "The selected type is not allowed in this deployment: PING", BadRequest),
    rule(lambda case: case.after["type"] is not None and case.after["pool_protocol"] in PACKETS and
         case.after["type"] not in ON_PACKETS,
         "The associated pool protocol is {pool_protocol}, so only a UDP-CONNECT/SCTP/TCP/HTTP health monitor is "
         "supported."),
    late_enough(lambda case: case.after["type"] == "UDP-CONNECT" and case.after["pool_protocol"] in PACKETS),
    rule(lambda case: case.after["pool_protocol"] not in PACKETS and case.after["type"] in ("UDP-CONNECT", "SCTP"),
         "The {type} type is only supported for pools of type UDP/SCTP."),
)
MONITOR_POST: tuple[Rule, ...] = (
    _no_null("type"), *NO_NULLS,
    *(_http_only(field, lambda case, name: case.names(name)) for field in HTTP_FIELDS),
    *DOMAIN,
)
MONITOR_PUT: tuple[Rule, ...] = (
    *(_http_only(field, lambda case, name: name in case.sent) for field in HTTP_FIELDS),
    *NO_NULLS,
    *DOMAIN,
    late_enough(lambda case: case.after["pool_protocol"] in PACKETS),
)
