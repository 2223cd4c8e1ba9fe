# SPDX-License-Identifier: Apache-2.0
"""The words of TLS, one by one; whole files are among the golden cases."""

import pytest
from msgspec.structs import replace

from statera.errors import GiveUp
from statera.render import tls
from statera.wire import ListenerSpec, MonitorSpec, PoolSpec, TlsSpec

PLAIN = ListenerSpec(id="l", protocol="HTTP", protocol_port=80)
SECURE = ListenerSpec(id="l", protocol="TERMINATED_HTTPS", protocol_port=443, tls=TlsSpec(certificates=("d.pem",)))
POOL = PoolSpec(id="p", protocol="HTTP", lb_algorithm="ROUND_ROBIN", tls=TlsSpec())
TRUSTING = replace(POOL, tls=TlsSpec(authority="ca.pem"))


@pytest.mark.parametrize(("wanted", "words"), [
    pytest.param((), "", id="none named"),
    pytest.param(("TLSv1.3", "TLSv1.2"), " ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3", id="in any order"),
    pytest.param(("TLSv1",), " ssl-min-ver TLSv1.0 ssl-max-ver TLSv1.0", id="the oldest alone"),
    pytest.param(("TLSv1", "TLSv1.3"), " ssl-min-ver TLSv1.0 ssl-max-ver TLSv1.3 no-tlsv11 no-tlsv12", id="with holes"),
    pytest.param(("SSLv3", "TLSv1.2"), " ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2", id="SSLv3 is spoken by nobody"),
])
def test_versions(wanted, words):
    assert tls.versions(wanted) == words


@pytest.mark.parametrize(("text", "words"), [
    pytest.param("", "", id="none named"),
    pytest.param("TLS_AES_128_GCM_SHA256", " ciphersuites TLS_AES_128_GCM_SHA256", id="TLS 1.3 only"),
    pytest.param("HIGH:!aNULL:@SECLEVEL=1", " ciphers HIGH:!aNULL:@SECLEVEL=1", id="OpenSSL's words"),
    pytest.param("A:TLS_B:C", " ciphers A:C ciphersuites TLS_B", id="both"),
])
def test_ciphers(text, words):
    assert tls.ciphers(text) == words


@pytest.mark.parametrize(("pool", "listener", "mode", "words"), [
    pytest.param(POOL, PLAIN, "http", " ssl verify none sni req.hdr(host),host_only", id="the host of the request"),
    pytest.param(POOL, SECURE, "http", " ssl verify none sni ssl_fc_sni", id="the host of the client's handshake"),
    pytest.param(TRUSTING, PLAIN, "http", " ssl ca-file ca.pem verify required", id="verified: whoever it says it is"),
    pytest.param(TRUSTING, SECURE, "http", " ssl ca-file ca.pem verify required sni ssl_fc_sni", id="verified by name"),
    pytest.param(POOL, PLAIN, "tcp", " ssl verify none", id="no host is known"),
    pytest.param(replace(POOL, tls=None), SECURE, "http", "", id="no TLS"),
])
def test_servers(pool, listener, mode, words):
    assert tls.server(pool, listener, mode) == words


def test_a_stream_that_is_not_looked_into_chooses_no_protocol():
    pool = replace(POOL, tls=TlsSpec(alpn_protocols=("h2",)))
    assert " alpn h2" in tls.server(pool, PLAIN, "http")
    assert " alpn" not in tls.server(pool, PLAIN, "tcp")


MONITOR = MonitorSpec(type="HTTPS", delay=5, timeout=5, max_retries=3, domain_name="www.example.com")
H2 = TlsSpec(alpn_protocols=("h2",))


@pytest.mark.parametrize(("pool_tls", "by_http", "words"), [
    pytest.param(None, False, " check-ssl verify none check-sni www.example.com", id="traffic passes through"),
    pytest.param(TlsSpec(), True, " check-ssl check-sni www.example.com", id="as the pool"),
    pytest.param(H2, True, " check-ssl check-sni www.example.com check-alpn http/1.1", id="no check by HTTP/2"),
    pytest.param(H2, False, " check-ssl check-sni www.example.com", id="a handshake"),
    pytest.param(TRUSTING.tls, True, " check-ssl", id="verified: whoever it says it is"),
])
def test_checks(pool_tls, by_http, words):
    assert tls.check(pool_tls, MONITOR, by_http=by_http) == words


@pytest.mark.parametrize("bad", [
    {"tls_ciphers": "A B"}, {"tls_ciphers": "A\nB"}, {"alpn_protocols": ("h2 crt /etc/passwd",)},
    {"tls_versions": ("SSLv3",)}, {"client_authentication": "MAYBE"}, {"client_authentication": "MANDATORY"},
    {"certificates": ()}, {"authority": "../x", "client_authentication": "OPTIONAL"},
], ids=str)
def test_what_cannot_be_said_safely_is_refused(bad):
    with pytest.raises(GiveUp):
        tls.bind(replace(SECURE, tls=replace(SECURE.tls, **bad)), "/run/x")
