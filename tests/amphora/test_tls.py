# SPDX-License-Identifier: Apache-2.0
"""TLS as clients and members meet it: certificates, versions, client authentication, re-encryption, renewal."""

import hashlib
import json
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import Authority
from cryptography.hazmat.primitives.hashes import SHA1
from msgspec.structs import replace

from statera.agent.files import write
from statera.agent.teardown import demolish
from statera.wire import MonitorSpec, PemFile, TlsSpec

ROOT = Authority("root")
SITE, SHOP, NEWS = (ROOT.certificate_for(f"{name}.example.com") for name in ("www", "shop", "news"))
CLIENTS = Authority("clients")
ALICE, MALLORY = CLIENTS.certificate_for("alice"), CLIENTS.certificate_for("mallory")
SLY = CLIENTS.certificate_for("sly\r\nX-Admin: yes")
STRANGER = Authority("strangers").certificate_for("stranger")


def pem_file(name, text, kind="certificate"):
    return PemFile(name=name, kind=kind, digest=hashlib.sha256(text.encode()).hexdigest(), pem=text)


DEFAULT, SNI = pem_file("default.pem", SITE.bundle), pem_file("shop.pem", SHOP.bundle)
CA = pem_file("ca.pem", CLIENTS.pem, "authority")


def crl(*revoked):
    return pem_file("crl.pem", CLIENTS.revocations(*revoked), "revocations")


def terminated(spec, *files, version=None, **tls):
    """The spec's listener on port 443 with the default certificate and what else is named."""
    made = TlsSpec(**{"certificates": ("default.pem",), **tls})
    listener = replace(spec.listeners[0], protocol="TERMINATED_HTTPS", protocol_port=443, tls=made)
    return replace(spec, version=version or spec.version + 1, listeners=(listener,), pem_files=(DEFAULT, *files))


def with_listener(spec, **changes):
    return replace(spec, version=spec.version + 1, listeners=(replace(spec.listeners[0], **changes),))


class Client:
    """A TLS client; *shows* is its own certificate."""

    def __init__(self, folder, *, shows=None, alpn=(), **versions):
        self.context = ssl.create_default_context(cadata=ROOT.pem)
        self.context.check_hostname = False
        for name, version in versions.items():
            setattr(self.context, name, version)
        if alpn:
            self.context.set_alpn_protocols(alpn)
        if shows:
            file = folder / f"{shows.certificate.serial_number}.pem"
            file.write_text(shows.bundle)
            self.context.load_cert_chain(file)

    def connect(self, lab, host="www.example.com", session=None):
        raw = socket.create_connection((lab.vip, 443), timeout=3)
        return self.context.wrap_socket(raw, server_hostname=host, session=session)

    def ask(self, lab, host="www.example.com", headers="", session=None):
        """Status, headers, the body as the member wrote it, and who the certificate is for."""
        with self.connect(lab, host, session) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n".encode())
            answer = b""
            while data := connection.recv(65536):
                answer += data
            head, _, body = answer.decode().partition("\r\n\r\n")
            status, *lines = head.split("\r\n")
            return {
                "status": int(status.split()[1]), "body": body, "served": served(connection),
                "headers": dict(line.lower().split(": ", 1) for line in lines), "session": connection.session,
            }


def served(connection):
    return dict(pair for (pair,) in connection.getpeercert()["subject"])["commonName"]


@pytest.fixture
def client(tmp_path):
    return lambda **options: Client(tmp_path, **options)


def seen(answer):
    """The headers that reached the member."""
    return {name.lower(): value for name, value in json.loads(answer["body"])["headers"].items()}


@pytest.mark.carries("SNI", "TERMINATED_HTTPS listener")
def test_a_client_gets_the_certificate_of_the_host_that_it_names(lab, node, serving, client):
    assert node.put(terminated(serving, SNI, certificates=("default.pem", "shop.pem"))).failure is None
    hosts = {"www.example.com": "www.example.com", "shop.example.com": "shop.example.com",
             "else.example.com": "www.example.com"}
    assert {host: client().ask(lab, host)["served"] for host in hosts} == hosts


@pytest.mark.carries("tls_versions")
def test_versions_that_are_not_listed_are_refused(lab, node, serving, client):
    old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    assert node.put(terminated(serving, tls_versions=("TLSv1.3",))).failure is None
    with client(minimum_version=new).connect(lab) as connection:
        assert connection.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        client(maximum_version=old).connect(lab)
    assert node.put(terminated(serving, tls_versions=("TLSv1.2",), version=3)).failure is None
    with client().connect(lab) as connection:
        assert connection.version() == "TLSv1.2"


@pytest.mark.carries("tls_ciphers")
def test_only_listed_ciphers_are_spoken(lab, node, serving, client):
    ciphers = "TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"
    assert node.put(terminated(serving, tls_ciphers=ciphers)).failure is None
    with client().connect(lab) as connection:
        assert connection.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    with client(maximum_version=ssl.TLSVersion.TLSv1_2).connect(lab) as connection:
        assert connection.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"


def test_http2_is_chosen_by_alpn(lab, node, serving, client):
    assert node.put(terminated(serving, alpn_protocols=("h2", "http/1.1"))).failure is None
    with client(alpn=["h2", "http/1.1"]).connect(lab) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert connection.recv(9)[3] == 4
    with client(alpn=["http/1.1"]).connect(lab) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"


@pytest.mark.carries("X-SSL-… headers", "client_authentication OPTIONAL")
def test_members_learn_about_client_and_certificate_and_nobody_makes_it_up(lab, node, serving, client):
    names = ("X-SSL-Client-Verify", "X-SSL-Client-Has-Cert", "X-SSL-Client-DN", "X-SSL-Client-CN", "X-SSL-Issuer",
             "X-SSL-Client-SHA1", "X-Forwarded-Proto", "X-Forwarded-Port")
    spec = terminated(serving, CA, authority="ca.pem", client_authentication="OPTIONAL")
    spec = with_listener(spec, insert_headers=dict.fromkeys(names, "true"))
    assert node.put(spec).failure is None
    made_up = "X-SSL-Client-CN: root\r\nX-SSL-Client-Not-After: never\r\nX-Forwarded-Proto: http\r\n"
    known, unknown, sly = (seen(client(shows=shows).ask(lab, headers=made_up)) for shows in (ALICE, None, SLY))
    assert (sly["x-ssl-client-cn"], sly.get("x-admin")) == ("sly%0D%0AX-Admin: yes", None)
    assert known["x-ssl-client-cn"] == "alice"
    assert known["x-ssl-issuer"] == "/CN=clients"
    assert known["x-ssl-client-has-cert"] == "1"
    assert known["x-ssl-client-verify"] == "0"
    assert known["x-ssl-client-sha1"] == ALICE.certificate.fingerprint(SHA1()).hex().upper()
    assert (known["x-forwarded-proto"], known["x-forwarded-port"]) == ("https", "443")
    assert "x-ssl-client-not-after" not in known
    assert (unknown["x-ssl-client-has-cert"], unknown.get("x-ssl-client-cn", "")) == ("0", "")


def refused(lab, client):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        client.ask(lab)
    return True


@pytest.mark.carries("client_authentication MANDATORY", "client CRL")
def test_only_clients_of_the_authority_that_are_not_revoked_get_in(lab, node, serving, client):
    demanding = {"authority": "ca.pem", "revocations": "crl.pem", "client_authentication": "MANDATORY"}
    spec = terminated(serving, CA, crl(), **demanding)
    assert node.put(spec).failure is None
    alice, mallory = client(shows=ALICE), client(shows=MALLORY)
    assert alice.ask(lab)["status"] == mallory.ask(lab)["status"] == 200
    assert refused(lab, client())
    assert refused(lab, client(shows=STRANGER))
    assert node.put(terminated(serving, CA, crl(MALLORY), version=3, **demanding)).how == "reload"
    assert refused(lab, mallory)
    assert alice.ask(lab)["status"] == 200


@pytest.mark.carries("client CRL")
def test_a_revoked_client_cannot_resume_what_it_had(lab, node, serving, client):
    demanding = {"authority": "ca.pem", "revocations": "crl.pem", "client_authentication": "MANDATORY"}
    assert node.put(terminated(serving, CA, crl(), **demanding)).failure is None
    mallory = client(shows=MALLORY, maximum_version=ssl.TLSVersion.TLSv1_2)
    session = mallory.ask(lab)["session"]
    assert node.put(terminated(serving, CA, crl(MALLORY), version=3, **demanding)).failure is None
    with pytest.raises((ssl.SSLError, ConnectionError)):
        mallory.ask(lab, session=session)


@pytest.mark.carries("HSTS")
def test_strict_transport_security_is_said_with_every_answer(lab, node, serving, client):
    spec = with_listener(terminated(serving), hsts_max_age=300, hsts_include_subdomains=True, hsts_preload=True)
    assert node.put(spec).failure is None
    policy = "max-age=300; includesubdomains; preload;"
    assert client().ask(lab)["headers"]["strict-transport-security"] == policy
    assert node.put(replace(spec, version=9, pools=(replace(spec.pools[0], members=()),))).failure is None
    own = client().ask(lab)
    assert (own["status"], own["headers"]["strict-transport-security"]) == (503, policy)


@pytest.mark.carries("a renewed certificate, live")
def test_a_certificate_is_renewed_without_a_failed_handshake(lab, node, serving, client):
    spec = terminated(serving)
    node.put(spec)
    pids = node.pids(spec)
    script = Path(__file__).with_name("handshakes.py")
    child = subprocess.Popen([sys.executable, str(script), lab.vip, "443"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"ready\n"
        for version in range(10, 30):
            renewed = pem_file("default.pem", ROOT.certificate_for(f"v{version}.example.com").bundle)
            applied = node.put(replace(spec, version=version, pem_files=(renewed,)))
            assert (applied.failure, applied.how) == (None, "runtime")
        came = json.loads(child.communicate(timeout=20)[0])
    finally:
        child.kill()
        child.wait()
    print(f"\n20 renewals during {came['handshakes']} handshakes, {len(came['served'])} certificates seen")
    assert came["failures"] == []
    assert came["handshakes"] >= 40
    assert client().ask(lab, "www.example.com")["served"] == "v29.example.com"
    assert set(node.pids(spec)) <= set(pids)


@pytest.mark.carries("SNI")
def test_hosts_come_and_go_in_the_same_worker(lab, node, serving, client):
    spec = terminated(serving)
    node.put(spec)
    pids = node.pids(spec)
    both = terminated(serving, SNI, certificates=("default.pem", "shop.pem"), version=3)
    assert node.put(both).how == "runtime"
    assert client().ask(lab, "shop.example.com")["served"] == "shop.example.com"
    assert node.put(replace(spec, version=4)).how == "runtime"
    assert client().ask(lab, "shop.example.com")["served"] == "www.example.com"
    assert node.put(replace(both, version=5)).how == "runtime"
    assert set(node.pids(spec)) <= set(pids)
    assert node.put(with_listener(replace(both, version=6), timeout_client_data=9_000)).how == "reload"
    assert client().ask(lab, "shop.example.com")["served"] == "shop.example.com"


def test_an_agent_that_comes_back_knows_what_runs_and_renews_it(lab, node, serving, client):
    spec = terminated(serving)
    node.put(spec)
    pids = node.pids(spec)
    node.stop()
    assert client().ask(lab)["served"] == "www.example.com"
    again = lab.host()
    again.carry(lab.network, spec.amphora_id)
    assert again.put(spec).how == "nothing"
    assert again.put(replace(spec, version=9, pem_files=(pem_file("default.pem", NEWS.bundle),))).how == "runtime"
    assert client().ask(lab)["served"] == "news.example.com"
    assert set(again.pids(spec)) <= set(pids)


def test_after_a_reboot_a_listener_has_its_certificate_again(lab, node, serving, client):
    spec = terminated(serving)
    node.put(spec)
    home = node.home(spec)
    node.stop()
    reboot(home)
    lab.host()
    assert client().ask(lab)["served"] == "www.example.com"


def reboot(home):
    """What a reboot takes: processes, namespace and all below /run."""
    spec, folder = home.spec.read_bytes(), home.folder
    demolish(home)
    folder.mkdir(parents=True)
    write(home.spec, spec)


def test_keys_are_for_root_alone_and_leave_with_their_listener(lab, node, serving):
    spec = terminated(serving, SNI, certificates=("default.pem", "shop.pem"))
    node.put(spec)
    home = node.home(spec)
    modes = {file.name: file.stat().st_mode & 0o777 for file in home.tls.iterdir()}
    assert modes == dict.fromkeys(("default.pem", "shop.pem", f"{spec.listeners[0].id}.list"), 0o600)
    assert "PRIVATE KEY" not in home.running.read_text()
    assert node.put(replace(serving, version=9)).failure is None
    assert list(home.tls.iterdir()) == []


def test_a_listener_that_would_be_less_safe_than_wished_is_refused_and_the_old_one_serves_on(
        lab, node, serving, client):
    spec = terminated(serving)
    node.put(spec)
    for version, bad, why in [
        (3, terminated(serving, client_authentication="MANDATORY"), "asks for client certificates but has no auth"),
        (4, terminated(serving, certificates=()), "has no certificate"),
        (5, terminated(serving, certificates=("default.pem", "lost.pem")), "the content of lost.pem is missing"),
        (6, terminated(serving, tls_versions=("SSLv3",)), "none of the TLS versions SSLv3 can be spoken"),
    ]:
        assert why in node.put(replace(bad, version=version)).failure
    assert client().ask(lab)["status"] == 200


# Members that speak TLS.


def reencrypted(lab, spec, *files, monitor=None, members=None, **tls):
    """The spec's HTTP listener with a pool that speaks TLS to the members' port 443."""
    members = members or tuple(lab.member(last, protocol_port=443) for last in (10, 11))
    pool = replace(spec.pools[0], tls=TlsSpec(**tls), members=members, monitor=monitor)
    return replace(spec, version=spec.version + 1, pools=(pool,), pem_files=files)


@pytest.fixture
def secure(lab, node, tmp_path):
    """Members that speak TLS on port 443 and tell who asked; their authority."""
    authority = Authority("members")
    bundle, clients = tmp_path / "members.pem", tmp_path / "members-clients.pem"
    bundle.write_text(authority.certificate_for("member.internal").bundle)
    clients.write_text(CLIENTS.pem)
    lab.start_tls_members(bundle, clients)
    return authority


@pytest.mark.carries("tls_enabled")
def test_members_are_spoken_to_by_tls(lab, node, serving, secure):
    assert node.put(reencrypted(lab, serving)).failure is None
    assert json.loads(lab.get()["tls"])["version"] == "TLSv1.3"
    old = reencrypted(lab, replace(serving, version=2), tls_versions=("TLSv1.2",), alpn_protocols=("http/1.1",))
    assert node.put(old).failure is None
    spoken = json.loads(lab.get()["tls"])
    assert spoken.pop("cipher")
    assert spoken == {"version": "TLSv1.2", "alpn": "http/1.1", "client": None, "host": "test"}


@pytest.mark.carries("CA of members")
def test_members_are_verified_where_an_authority_is_named(lab, node, serving, secure, client):
    known = pem_file("pool-ca.pem", secure.pem, "authority")
    spec = reencrypted(lab, serving, known, authority="pool-ca.pem")
    assert node.put(spec).failure is None
    assert lab.get()["who"].endswith((".10", ".11"))
    false = pem_file("pool-ca.pem", ROOT.pem, "authority")
    assert node.put(replace(spec, version=3, pem_files=(false,))).how == "reload"
    with pytest.raises(ConnectionError, match="503"):
        lab.get()
    assert node.put(replace(spec, version=4)).how == "reload"
    assert lab.get()["who"].endswith((".10", ".11"))


@pytest.mark.carries("our certificate, shown to members")
def test_members_see_our_certificate_and_join_live(lab, node, serving, secure):
    own = pem_file("pool.pem", ALICE.bundle)
    spec = reencrypted(lab, serving, own, certificates=("pool.pem",), members=(lab.member(10, protocol_port=443),))
    assert node.put(spec).failure is None
    assert json.loads(lab.get()["tls"])["client"] == "alice"
    pids = node.pids(spec)
    joined = replace(spec, version=9, pools=(replace(spec.pools[0], members=(lab.member(12, protocol_port=443),)),))
    assert node.put(joined).how == "runtime"
    answer = lab.get()
    assert (answer["who"].rsplit(".")[-1], json.loads(answer["tls"])["client"]) == ("12", "alice")
    assert set(node.pids(spec)) <= set(pids)


def test_the_first_member_of_a_pool_with_files_loads_them(lab, node, serving, secure):
    known = pem_file("pool-ca.pem", secure.pem, "authority")
    spec = reencrypted(lab, serving, known, authority="pool-ca.pem")
    empty = replace(spec, pools=(replace(spec.pools[0], members=()),))
    assert node.put(empty).failure is None
    assert node.put(replace(spec, version=9)).how == "reload"
    assert lab.get()["who"]


@pytest.mark.carries("a monitor of a TLS pool speaks TLS")
@pytest.mark.parametrize("kind", ["HTTPS", "TLS-HELLO", "HTTP", "TCP"])
def test_checks_of_members_that_speak_tls_speak_tls(lab, node, serving, secure, kind, wait_until):
    monitor = MonitorSpec(
        type=kind, delay=1, timeout=1, max_retries=1, max_retries_down=1, domain_name="www.example.com")
    good = lab.member(10, protocol_port=443, monitor_port=443)
    plain = lab.member(11, protocol_port=443, monitor_port=80)
    spec = reencrypted(lab, serving, monitor=monitor, members=(good, plain), alpn_protocols=("h2", "http/1.1"))
    assert node.put(spec).failure is None
    wait_until(lambda: node.words("members").get(plain.id, "").startswith("DOWN"))
    assert node.words("members")[good.id] == "UP"
    joining = lab.member(12, protocol_port=443)
    joined = replace(spec, version=9, pools=(replace(spec.pools[0], members=(good, plain, joining)),))
    assert node.put(joined).how == "runtime"
    wait_until(lambda: node.words("members").get(joining.id) == "UP")


@pytest.mark.carries("HTTPS listener, passed through")
@pytest.mark.parametrize("kind", ["HTTPS", "TLS-HELLO"])
def test_a_tls_monitor_shakes_hands_with_members_that_traffic_passes_through_to(
        lab, node, serving, secure, kind, client, wait_until):
    monitor = MonitorSpec(type=kind, delay=1, timeout=1, max_retries=1, max_retries_down=1)
    good, plain = lab.member(10, protocol_port=443), lab.member(11, protocol_port=90)
    spec = replace(
        serving, version=2,
        listeners=(replace(serving.listeners[0], protocol="HTTPS", protocol_port=443),),
        pools=(replace(serving.pools[0], protocol="HTTPS", members=(good, plain), monitor=monitor),))
    assert node.put(spec).failure is None
    wait_until(lambda: node.words("members").get(plain.id, "").startswith("DOWN"))
    assert node.words("members")[good.id] == "UP"
