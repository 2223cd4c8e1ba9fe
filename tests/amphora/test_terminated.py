# SPDX-License-Identifier: Apache-2.0
"""TLS on both sides of one amphora, side by side: HTTP/2 from clients and to members, chains, what members are told."""

import contextlib
import hashlib
import json
import re
import socket
import ssl
import subprocess

import pytest
from certificates import Authority
from cryptography.hazmat.primitives.hashes import SHA1

from statera.wire import ListenerSpec, PemFile, PoolSpec, TlsSpec

ROOT, CLIENTS, INSIDE = Authority("root"), Authority("clients"), Authority("inside")
MIDDLE = Authority("middle", above=ROOT)
SITE, ALICE = MIDDLE.certificate_for("www.example.com"), CLIENTS.certificate_for("alice")
MEMBER = INSIDE.certificate_for("www.example.com")

HEADERS = ("X-SSL-Client-Verify", "X-SSL-Client-Has-Cert", "X-SSL-Client-DN", "X-SSL-Client-CN", "X-SSL-Issuer",
           "X-SSL-Client-SHA1", "X-SSL-Client-Not-Before", "X-SSL-Client-Not-After")
WEB, TOLD, HEADED, H2, GOOD, REVOKED, CIPHER, PASSED, METRICS = range(443, 452)
H2_MEMBER = """global
    stats socket {folder}/h2.sock
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend h2
    bind :8443 ssl crt {folder}/member.pem alpn h2
    http-request return status 200 content-type application/json lf-string '{{"version": "%[req.ver]"}}'
"""
"""A member that speaks nothing but HTTP/2."""


def pem_file(name, text, kind="certificate"):
    return PemFile(name=name, kind=kind, digest=hashlib.sha256(text.encode()).hexdigest(), pem=text)


FILES = (
    pem_file("site.pem", SITE.pem + MIDDLE.pem + SITE.key_pem), pem_file("clients.pem", CLIENTS.pem, "authority"),
    pem_file("inside.pem", INSIDE.pem, "authority"), pem_file("none.pem", INSIDE.revocations(), "revocations"),
    pem_file("all.pem", INSIDE.revocations(MEMBER), "revocations"))
SERVED = TlsSpec(certificates=("site.pem",), alpn_protocols=("h2", "http/1.1"))
ASKING = TlsSpec(certificates=("site.pem",), authority="clients.pem", client_authentication="OPTIONAL")


def pools(lab):
    def pool(id, port, protocol="HTTP", **tls):
        return PoolSpec(id=id, protocol=protocol, lb_algorithm="ROUND_ROBIN", tls=TlsSpec(**tls) if tls else None,
                        members=(lab.member(10, protocol_port=port),))

    known = {"authority": "inside.pem"}
    return (
        pool("web", 80), pool("told", 70, "PROXYV2"), pool("h2", 8443, alpn_protocols=("h2", "http/1.1")),
        pool("good", 443, revocations="none.pem", **known), pool("revoked", 443, revocations="all.pem", **known),
        pool("cipher", 443, tls_ciphers="ECDHE-ECDSA-AES256-GCM-SHA384", tls_versions=("TLSv1.2",)),
        pool("passed", 443, "HTTPS"))


def listener(port, protocol="TERMINATED_HTTPS", pool=None, tls=SERVED, **changes):
    return ListenerSpec(id=f"listener-{port}", protocol=protocol, protocol_port=port, default_pool_id=pool, tls=tls,
                        **changes)


LISTENERS = (
    listener(WEB, pool="web"), listener(TOLD, pool="told", tls=ASKING),
    listener(HEADED, pool="web", tls=ASKING, insert_headers=dict.fromkeys(HEADERS, "true")),
    listener(H2, "HTTP", "h2", None), listener(GOOD, pool="good"), listener(REVOKED, pool="revoked"),
    listener(CIPHER, "HTTP", "cipher", None), listener(PASSED, "HTTPS", "passed", None),
    listener(METRICS, "PROMETHEUS"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("files")
    for name, text in (("member.pem", MEMBER.bundle), ("clients.pem", CLIENTS.pem), ("root.pem", ROOT.pem),
                       ("alice.pem", ALICE.bundle)):
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def spec(wide, folder, wait_for_h2):
    made = wide.spec(pools=pools(wide), listeners=LISTENERS, pem_files=FILES)
    [node] = wide.hosts
    node.carry(wide.network, made.amphora_id)
    assert node.put(made).failure is None
    return made


@pytest.fixture(scope="module")
def wait_for_h2(wide, folder):
    """Members that speak TLS on port 443, and HTTP/2 on port 8443."""
    wide.start_tls_members(folder / "member.pem", folder / "clients.pem")
    (folder / "h2.cfg").write_text(H2_MEMBER.format(folder=folder))
    enter = ["ip", "netns", "exec", f"members-{wide.tag}", "haproxy", "-f", str(folder / "h2.cfg"), "-D", "-p"]
    # It goes into the background only when it listens.
    subprocess.run([*enter, str(folder / "h2.pid")], check=True)
    yield
    subprocess.run(["kill", (folder / "h2.pid").read_text().strip()], check=True)


@contextlib.contextmanager
def speak(lab, port, folder, *, shows=False, authority=ROOT):
    context = ssl.create_default_context(cadata=authority.pem)
    if shows:
        context.load_cert_chain(folder / "alice.pem")
    with (socket.create_connection((lab.vip, port), timeout=5) as raw,
          context.wrap_socket(raw, server_hostname="www.example.com") as link):
        yield link


def ask(link):
    """What the member said."""
    link.sendall(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
    head, _, body = b"".join(iter(lambda: link.recv(65536), b"")).partition(b"\r\n\r\n")
    return head.split(b" ")[1].decode(), json.loads(body) if head.startswith(b"HTTP/1.1 200") else body


@pytest.mark.carries("HTTP/2 from clients", "alpn_protocols")
def test_a_client_speaks_http2_many_requests_on_one_connection(wide, spec, folder):
    urls = [f"https://www.example.com/{number}" for number in range(20)]
    asked = subprocess.run(
        ["curl", "-sS", "--http2", "--cacert", folder / "root.pem", "--connect-to", f"::{wide.vip}:{WEB}",
         "--write-out", "%{stderr}%{http_version} %{http_code} %{num_connects}\\n", *urls],
        capture_output=True, text=True, timeout=30, check=True)
    lines = asked.stderr.split("\n")[:-1]
    assert {line.rpartition(" ")[0] for line in lines} == {"2 200"}
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 1
    paths = re.findall(r'"request": "GET (\S+) HTTP/1.1"', asked.stdout)
    assert sorted(paths) == sorted(f"/{number}" for number in range(20))


@pytest.mark.carries("HTTP/2 to members")
def test_a_member_that_speaks_only_http2_is_spoken_to(wide, spec):
    with socket.create_connection((wide.vip, H2), timeout=5) as link:
        assert ask(link) == ("200", {"version": "2.0"})


@pytest.mark.carries("a chain of certificates", "TERMINATED_HTTPS listener")
def test_the_whole_chain_is_shown(wide, spec, folder):
    with speak(wide, WEB, folder) as link:
        assert ask(link)[0] == "200"


@pytest.mark.carries("X-SSL-… headers")
def test_members_are_told_all_about_the_clients_certificate(wide, spec, folder):
    with speak(wide, HEADED, folder, shows=True) as link:
        found = {name.lower(): value for name, value in ask(link)[1]["headers"].items()}
    known = ALICE.certificate
    assert [found[name.lower()] for name in HEADERS] == [
        "0", "1", "/CN=alice", "alice", "/CN=clients", known.fingerprint(SHA1()).hex().upper(),
        f"{known.not_valid_before_utc:%y%m%d%H%M%SZ}", f"{known.not_valid_after_utc:%y%m%d%H%M%SZ}"]


@pytest.mark.carries("PROXYV2 with the client's certificate")
def test_proxy_tells_members_of_the_clients_certificate(wide, spec, folder):
    with speak(wide, TOLD, folder, shows=True) as link:
        told = bytes.fromhex(ask(link)[1]["heard"])
        mine = link.getsockname()[1]
    records = dict(parsed(told[28:16 + int.from_bytes(told[14:16], "big")]))
    assert int.from_bytes(told[24:26], "big") == mine
    client, verify, inner = records[0x20][0], records[0x20][1:5], dict(parsed(records[0x20][5:]))
    # PROXY protocol 2.2.6: by TLS, with a certificate on this connection and session, which was found good.
    assert (client, verify, inner[0x22]) == (7, bytes(4), b"alice")
    with speak(wide, TOLD, folder) as link:
        told = bytes.fromhex(ask(link)[1]["heard"])
    assert dict(parsed(told[28:16 + int.from_bytes(told[14:16], "big")]))[0x20][0] == 1


def parsed(data):
    """Type, length, value."""
    while data:
        length = int.from_bytes(data[1:3], "big")
        yield data[0], data[3:3 + length]
        data = data[3 + length:]


@pytest.mark.carries("CA of members", "CRL of members")
def test_a_member_whose_certificate_is_revoked_gets_nothing(wide, spec, folder):
    for port, status in ((GOOD, "200"), (REVOKED, "503")):
        with speak(wide, port, folder) as link:
            assert ask(link)[0] == status


@pytest.mark.carries("tls_versions and tls_ciphers to members")
def test_members_are_spoken_to_by_the_cipher_that_is_wished(wide, spec):
    with socket.create_connection((wide.vip, CIPHER), timeout=5) as link:
        spoken = json.loads(ask(link)[1]["tls"])
        assert (spoken["version"], spoken["cipher"]) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")


@pytest.mark.carries("HTTPS listener, passed through", "pool protocol HTTPS")
def test_what_is_passed_through_is_between_client_and_member(wide, spec, folder):
    with speak(wide, PASSED, folder, shows=True, authority=INSIDE) as link:
        spoken = json.loads(ask(link)[1]["tls"])
        assert (spoken["client"], spoken["host"]) == ("alice", "www.example.com")


@pytest.mark.carries("PROMETHEUS listener, by TLS")
def test_metrics_are_had_by_tls(wide, spec, folder):
    with speak(wide, METRICS, folder) as link:
        link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"octavia_loadbalancer" in b"".join(iter(lambda: link.recv(65536), b""))
