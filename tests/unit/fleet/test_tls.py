# SPDX-License-Identifier: Apache-2.0
"""Which certificates an amphora gets, and under which names."""

from certificates import Authority
from msgspec import structs

from statera.fleet.specs import build
from statera.model.fleet import Amphora, Port, Role
from statera.model.tree import Listener, LoadBalancer, Pool
from statera.wire import TlsSpec

NEW = {"created_version": 1, "wanted_version": 1}
ROOT = Authority("root")
SITE = ROOT.certificate_for("www.example.com")
SECRETS = {"site": SITE.bundle, "shop": SITE.bundle, "all": SITE.bundle + ROOT.revocations()}
PORT = Port(port_id="p1", network_id="n", subnet_id="s", ip_address="10.0.0.11", cidr="10.0.0.0/24")
AMPHORA = Amphora(id="a", load_balancer_id="lb", role=Role.STANDALONE, born_version=1, ports=(PORT,))
LISTENER = Listener(
    id="l", protocol="TERMINATED_HTTPS", protocol_port=443, default_tls_container_ref="site", tls_versions=("TLSv1.3",),
    tls_ciphers="A", alpn_protocols=("h2",), hsts_max_age=5, hsts_preload=None, default_pool_id="p", **NEW)
POOL = Pool(id="p", protocol="HTTP", lb_algorithm="ROUND_ROBIN", tls_enabled=True, **NEW)
LB = LoadBalancer(id="lb", project_id="t", provider="amphora", topology="SINGLE", version=7, listeners=(LISTENER,),
                  pools=(POOL,), **NEW)


def built(secrets=SECRETS, pool=None, **listener):
    pools = (structs.replace(POOL, **pool),) if pool else LB.pools
    lb = structs.replace(LB, listeners=(structs.replace(LISTENER, **listener),), pools=pools)
    return build(lb, AMPHORA, [], secrets=secrets)


def names(spec):
    return [file.name for file in spec.pem_files]


def test_a_listener_says_how_it_speaks_tls():
    (listener,) = built().listeners
    assert listener.tls == TlsSpec(
        certificates=("l.default.pem",), tls_versions=("TLSv1.3",), tls_ciphers="A", alpn_protocols=("h2",))
    assert (listener.hsts_max_age, listener.hsts_include_subdomains, listener.hsts_preload) == (5, False, False)


def test_a_file_keeps_its_name_whatever_comes_into_it():
    first, second = built(), built(default_tls_container_ref="shop", secrets={"shop": ROOT.bundle})
    assert names(first) == names(second) == ["l.default.pem"]
    assert first.pem_files[0].digest != second.pem_files[0].digest


def test_without_a_default_the_first_of_the_others_is_it():
    spec = built(default_tls_container_ref=None, sni_container_refs=("shop", "site", "shop"))
    (listener,) = spec.listeners
    assert len(listener.tls.certificates) == 2
    assert listener.tls.certificates[0] == "l.default.pem"
    assert names(spec) == list(listener.tls.certificates)


def test_each_use_gets_the_blocks_that_it_needs():
    spec = built(default_tls_container_ref="all", client_ca_tls_container_ref="all", client_crl_container_ref="all",
                 client_authentication="MANDATORY")
    kinds = {file.kind: file.pem for file in spec.pem_files}
    assert kinds["certificate"] == SITE.bundle
    assert kinds["authority"] == SITE.pem
    assert kinds["revocations"].startswith("-----BEGIN X509 CRL-----")


def test_nobody_needs_an_authority_that_asks_nobody():
    spec = built(client_ca_tls_container_ref="site")
    assert (spec.listeners[0].tls.authority, names(spec)) == (None, ["l.default.pem"])


def test_a_pool_speaks_tls_where_that_is_enabled():
    refs = {"tls_container_ref": "site", "ca_tls_container_ref": "site", "crl_container_ref": "all"}
    on, off = built(pool=refs), built(pool={**refs, "tls_enabled": False})
    assert on.pools[0].tls == TlsSpec(
        certificates=("p.default.pem",), authority="p.authority.pem", revocations="p.revocations.pem")
    assert names(on) == ["l.default.pem", "p.default.pem", "p.authority.pem", "p.revocations.pem"]
    assert (off.pools[0].tls, names(off)) == (None, ["l.default.pem"])


def test_what_is_not_there_is_asked_for_all_the_same_so_that_nobody_serves_without_it():
    spec = built(secrets={})
    assert spec.listeners[0].tls.certificates == ("l.default.pem",)
    assert spec.pem_files == ()


def test_who_is_off_needs_no_certificate():
    assert names(built(admin_state_up=False)) == []


def test_a_key_does_not_show_in_a_log():
    assert "PRIVATE" not in repr(built())
