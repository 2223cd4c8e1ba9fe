# SPDX-License-Identifier: Apache-2.0
"""All that the data plane offers, who does it, and where one sees how.

A test that sends real traffic for a feature says so by `@pytest.mark.carries("<feature>")`; from both
`script/data_plane.py` writes docs/reference/data-plane.md.
"""

from typing import NamedTuple

HAPROXY, KERNEL, AGENT = "HAProxy", "kernel", "agent"


class Feature(NamedTuple):
    """*by* does it, by what *shows*, which stands in a file of the case *golden* of tests/golden if one is named."""

    name: str
    shows: str = ""
    golden: str = ""
    by: str = HAPROXY


FIRST, TCP, ALL, CIDRS = (
    "one-http-listener", "tcp-passthrough-and-shared-pool", "every-header-limit-and-timeout", "allowed-cidrs")
TLS, REENCRYPTED, COOKIES, MONITOR = (
    "tls-from-clients", "tls-to-members", "cookies-of-both-kinds", "http-monitor-and-special-members")
MONITORS, POOLLESS = "monitors-of-every-type", "no-pool-and-metrics-by-tls"
FLOWS, HASHES, PAIR, L7, METRICS = (
    "udp-beside-tcp-on-one-port", "udp-persistence-and-hashes", "a-pair-with-two-families",
    "l7-policies-of-every-kind", "metrics-for-prometheus")

LOGS, LIMITS = "logs-of-every-listener", "limits-of-a-flavor"

SECTIONS = {
    "Listeners": (
        Feature("HTTP listener", "mode http", FIRST),
        Feature("TCP listener", "mode tcp", TCP),
        Feature("HTTPS listener, passed through", "mode tcp", TCP),
        Feature("TERMINATED_HTTPS listener", "ssl crt-list", TLS),
        Feature("UDP listener", "meta l4proto udp dnat", FLOWS, KERNEL),
        Feature("SCTP listener", "meta l4proto sctp dnat", HASHES, KERNEL),
        Feature("PROMETHEUS listener", "path /metrics", METRICS, f"{AGENT}, behind HAProxy"),
        Feature("PROMETHEUS listener, by TLS", "bind 10.0.0.9:8443 ssl crt-list", POOLLESS,
                f"{AGENT}, behind {HAPROXY}"),
        Feature("several listeners", "frontend l4", TCP),
        Feature("TCP and UDP on one port", ". udp .", FLOWS, f"{HAPROXY} and {KERNEL}"),
        Feature("no default pool", "frontend idle", POOLLESS),
        Feature("insert_headers", "http-request set-header X-Real-IP %[src]", ALL),
        Feature("connection_limit", "maxconn 60000", ALL),
        Feature("connection_limit of datagrams", "ct count over 100", FLOWS, KERNEL),
        Feature("timeout_client_data", "timeout client 1000ms", ALL),
        Feature("timeout_member_connect", "timeout connect 2000ms", ALL),
        Feature("timeout_member_data", "timeout server 3000ms", ALL),
        Feature("timeout_tcp_inspect", "tcp-request inspect-delay 4000ms", ALL),
        Feature("allowed_cidrs, HTTP", "tcp flags & (syn | ack) == syn ip saddr !=", CIDRS, KERNEL),
        Feature("allowed_cidrs, TCP", "tcp flags & (syn | ack) == syn ip6 saddr !=", CIDRS, KERNEL),
        Feature("allowed_cidrs, UDP", "ip saddr != { 192.0.2.0/24 } drop", FLOWS, KERNEL),
        Feature("allowed_cidrs, PROMETHEUS", "ip saddr !=", METRICS, KERNEL),
    ),
    "TLS from clients": (
        Feature("SNI", "ssl crt-list", TLS),
        Feature("a chain of certificates", "ssl crt-list", TLS),
        Feature("alpn_protocols", "alpn h2,http/1.1,http/1.0", TLS),
        Feature("HTTP/2 from clients", "alpn h2", TLS),
        Feature("tls_versions", "ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3", TLS),
        Feature("tls_ciphers", "ciphersuites TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256", TLS),
        Feature("client_authentication OPTIONAL", "verify optional", TLS),
        Feature("client_authentication MANDATORY", "verify required", TLS),
        Feature("client CRL", "crl-file l1.revocations.pem", TLS),
        Feature("X-SSL-… headers", "http-request set-header X-SSL-Client-CN", TLS),
        Feature("HSTS", "http-after-response set-header Strict-Transport-Security", TLS),
        Feature("a renewed certificate, live", "`set ssl cert`, `commit ssl cert`", by=f"{AGENT} and {HAPROXY}"),
    ),
    "Pools and members": (
        Feature("pool protocol HTTP", "mode http", FIRST),
        Feature("pool protocol TCP", "mode tcp", TCP),
        Feature("HTTP pool of a TCP listener", "mode http", TCP),
        Feature("pool protocol PROXY", "send-proxy", TCP),
        Feature("pool protocol PROXYV2", "send-proxy-v2", COOKIES),
        Feature("pool protocol HTTPS", "mode tcp", TCP),
        Feature("PROXYV2 with the client's certificate", "send-proxy-v2-ssl-cn", TLS),
        Feature("ROUND_ROBIN", "balance roundrobin", FIRST),
        Feature("LEAST_CONNECTIONS", "balance leastconn", ALL),
        Feature("SOURCE_IP", "balance source", TCP),
        Feature("SOURCE_IP_PORT", "balance hash src,concat(-,txn.src_port)", "hash-of-source-and-port"),
        Feature("SOURCE_IP persistence, with timeout", "stick-table type ipv6 size 10k expire 60s", TCP),
        Feature("HTTP_COOKIE persistence", "cookie SRV insert indirect nocache dynamic", COOKIES),
        Feature("APP_COOKIE persistence", "stick store-response", COOKIES),
        Feature("weight", "weight 5", FIRST),
        Feature("weight 0 keeps sessions", "weight 0", MONITOR),
        Feature("backup members", "backup", MONITOR),
        Feature("tls_enabled", "ssl verify none", REENCRYPTED),
        Feature("CA of members", "ca-file p1.authority.pem", REENCRYPTED),
        Feature("CRL of members", "crl-file p1.revocations.pem", REENCRYPTED),
        Feature("HTTP/2 to members", "alpn h2,http/1.1", REENCRYPTED),
        Feature("tls_versions and tls_ciphers to members", "ciphers ECDHE-ECDSA-AES128-GCM-SHA256", REENCRYPTED),
        Feature("our certificate, shown to members", "crt p1.default.pem", REENCRYPTED),
        Feature("ROUND_ROBIN of datagrams", "numgen inc mod 3", FLOWS, KERNEL),
        Feature("SOURCE_IP and SOURCE_IP_PORT of datagrams", "jhash ip saddr . th sport", HASHES, KERNEL),
        Feature("SOURCE_IP persistence of datagrams, timeout and granularity",
                "ip saddr & 255.255.255.0 timeout 60s", HASHES, KERNEL),
        Feature("weight of datagrams", "numgen inc mod 3 map { 0 : 2053932786, 1 : 298486375, 2 : 2053932786 }", FLOWS,
                KERNEL),
        Feature("weight 0 of datagrams", by=KERNEL),
    ),
    "Health monitors": (
        Feature("TCP monitor", "check inter 5s fall 3 rise 2", MONITORS),
        Feature("HTTP monitor", "option httpchk", MONITORS),
        Feature("HTTPS monitor", "check-ssl verify none", MONITORS),
        Feature("TLS-HELLO monitor", "check-ssl verify none", MONITORS),
        Feature("PING monitor", "ICMP, then `set server … health`", by=AGENT),
        Feature("TCP monitor of datagrams", "connects", by=AGENT),
        Feature("HTTP monitor of datagrams", "asks", by=AGENT),
        Feature("UDP-CONNECT monitor", "a datagram that must not be refused", by=AGENT),
        Feature("SCTP monitor", "INIT, answered by INIT-ACK", by=AGENT),
        Feature("PING monitor of datagrams", "ICMP", by=AGENT),
        Feature("max_retries and max_retries_down", "fall 3 rise 2", MONITORS, f"{HAPROXY} and {AGENT}"),
        Feature("expected_codes", "http-check expect status 200,202-204", MONITOR, f"{HAPROXY} and {AGENT}"),
        Feature("http_method", "http-check send meth HEAD", MONITOR, f"{HAPROXY} and {AGENT}"),
        Feature("url_path", "uri '/up?a=1&b=it'", MONITOR, f"{HAPROXY} and {AGENT}"),
        Feature("http_version and domain_name", "ver HTTP/1.1 hdr Host", MONITOR, f"{HAPROXY} and {AGENT}"),
        Feature("monitor_address and monitor_port", "addr 10.0.0.31 port 8080", MONITOR, f"{HAPROXY} and {AGENT}"),
        Feature("a monitor of a TLS pool speaks TLS", "check-ssl", REENCRYPTED),
    ),
    "Operating statuses": (
        *(Feature(f"operating_status {word}", by=f"{HAPROXY}, {AGENT}, health manager")
          for word in ("ONLINE", "OFFLINE", "DEGRADED", "ERROR", "DRAINING", "NO_MONITOR")),
        Feature("a member's death and return, within a report", by=f"{HAPROXY}, {AGENT}, health manager"),
    ),
    "Secrets": (
        Feature("PKCS12 with a passphrase", "`passphrase` beside `payload`, `--passphrase-file`", by="API"),
        Feature("expiry, shown", "`expiration` of secrets; an event before", by="API, housekeeping"),
        Feature("a renewed secret, rolled out by itself", "housekeeping looks", by=f"housekeeping, {AGENT}, {HAPROXY}"),
    ),
    "VIPs and networks": (
        Feature("additional VIPs, HTTP and TCP", "bind [fd00::9]:80", PAIR),
        Feature("additional VIPs of both families, UDP", "ip6 daddr", FLOWS, KERNEL),
        Feature("additional VIPs in ACTIVE_STANDBY", "virtual_ipaddress_excluded", PAIR, "keepalived"),
        Feature("IPv4 VIP with IPv6 members", "server m2 [fd00::2]:80", MONITOR),
        Feature("IPv6 VIP with IPv4 members", "bind [fd00::9]:80", PAIR),
        Feature("IPv6, UDP", "dnat ip6 to", FLOWS, KERNEL),
        Feature("members in other subnets, by a leg of their own", "veth", by=f"{AGENT}, {KERNEL}"),
        Feature("members behind the VIP subnet's gateway", "default route", by=f"{AGENT}, {KERNEL}"),
        Feature("host_routes of a subnet", "routes, `neutron` networks only", by=f"{AGENT}, {KERNEL}"),
    ),
    "L7 policies": (
        Feature("every rule type, comparison, key and invert", "acl", L7),
        Feature("rules about a client's certificate", "ssl_c_s_dn", L7),
        Feature("REJECT, REDIRECT_TO_URL, REDIRECT_PREFIX, REDIRECT_TO_POOL", "http-request deny", L7),
        Feature("every redirect code", "http-request redirect code 308", L7),
        Feature("position, across all actions", "!{ var(txn.l7) -m found }", L7),
        Feature("AND of up to fifty rules", "acl", L7),
        Feature("user text, exactly", "-f l7/", L7),
    ),
    "Logs": (
        Feature("a line about each request", "log-format '", LOGS, f"{HAPROXY} and {AGENT}"),
        Feature("a line about each TCP connection", "%t - - %B", LOGS, f"{HAPROXY} and {AGENT}"),
        Feature("a line about each UDP flow", "conntrack DESTROY", by=f"{KERNEL} and {AGENT}"),
        Feature("lines for the operator", "local1 notice", LOGS, f"{HAPROXY} and {AGENT}"),
        Feature("user_log_format", "log-format '%ci it", "logs-of-the-operators-own-form"),
        Feature("connection_logging off", "local1 notice", "logs-of-connections-switched-off"),
        Feature("log servers by UDP and TCP, the next when one fails", by=AGENT),
        Feature("a socket of the host", by=AGENT),
        Feature("a tenant's own log server", "`PUT …/log_target`", by=AGENT),
        Feature("whatever clients send, a line is one line", "`#0A`", by=f"{HAPROXY} and {AGENT}"),
        Feature("traffic never waits for logs, and lost lines are an event", by=AGENT),
    ),
    "Limits and isolation": (
        Feature("memory and CPUs of a flavor, changed live", "nbthread 1", LIMITS, f"{KERNEL} and {AGENT}"),
        Feature("max_connections of a flavor", "maxconn 2482", LIMITS),
        Feature("a limit that is hit is an event, once", by=f"{AGENT}, health manager"),
        Feature("unprivileged HAProxy in an empty root", "chroot /run/statera/empty", FIRST),
        Feature("networks of two tenants are apart", 'iifname "st-b1" oifname { "st-b1" } accept',
                "networks-of-two-tenants", KERNEL),
        Feature("a shared network is reached and reaches nobody", "ct state established,related accept",
                "networks-one-of-them-shared", KERNEL),
        Feature("the host's services are out of reach", "goto gateway", "networks-of-two-tenants", KERNEL),
    ),
}
