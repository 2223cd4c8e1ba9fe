# SPDX-License-Identifier: Apache-2.0
"""Certificates that are named: which are refused and how, and that what was accepted is kept."""

import pytest
from certificates import Authority
from cryptography.fernet import Fernet
from oslo_config import cfg
from sqlalchemy import select

from statera.api.app import build
from statera.config import load
from statera.drivers.network.noop import NoopNetwork
from statera.store.secrets import Sealer
from statera.store.tables import sealed_secrets

ROOT = Authority("root")
SITE, SHOP = ROOT.certificate_for("www.example.com"), ROOT.certificate_for("shop.example.com")
OTHER = Authority("other")
BELOW = Authority("middle", above=ROOT).certificate_for("www.example.com")
SECRETS = {
    "site": SITE.bundle.encode(),
    "shop": SHOP.pkcs12(),
    "locked": SITE.pkcs12(b"hush"),
    "garbage": b"\x01\x02",
    "words": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "nameless": ROOT.certificate_for("").bundle.encode(),
    "keyless": SITE.pem.encode(),
    "mismatched": (SITE.pem + SHOP.key_pem).encode(),
    "late": ROOT.certificate_for("late.example.com", days=-1).bundle.encode(),
    "broken-chain": (BELOW.bundle + Authority("middle", above=ROOT).pem).encode(),
    "ca": ROOT.pem.encode(),
    "crl": ROOT.revocations(SHOP).encode(),
    "other-crl": OTHER.revocations().encode(),
}
CA_TEXT = ("Validation failure: The client authentication CA certificate is invalid. It must be a valid x509 PEM "
           "format certificate. Error: ")
CRL_TEXT = ("Validation failure: The client authentication certificate revocation list is invalid. It must be a valid "
            "x509 PEM format certificate revocation list. Error: ")


class Drawer:
    """A secret store whose content is the test's."""

    def __init__(self):
        self.held = dict(SECRETS)

    def fetch(self, ref, caller):
        return self.held.get(ref)


@pytest.fixture
def drawer():
    return Drawer()


@pytest.fixture
def sealer():
    return Sealer(Fernet.generate_key())


@pytest.fixture
def tls(worlds, drawer, sealer, tmp_path):
    """A world with secrets, and a load balancer in it."""
    world, conf = worlds(), cfg.ConfigOpts()
    settings = load(conf, [], prog="octavia-api", files=[str(tmp_path / "octavia.conf")])
    made = type(world)(world.store, build(
        settings, conf, world.store, NoopNetwork(), secrets=drawer, sealer=sealer))
    made.the_lb = made.lb()
    return made


def listener(world, **values):
    return {"listener": {"loadbalancer_id": world.the_lb["id"], "protocol": "TERMINATED_HTTPS", "protocol_port": 443,
                         "default_tls_container_ref": "site", **values}}


def kept(world, sealer):
    with world.store.read() as connection:
        rows = connection.execute(select(sealed_secrets)).all()
    return {row.ref: sealer.open(row.sealed).decode() for row in rows}


@pytest.mark.parametrize(("values", "fault"), [
    pytest.param({"default_tls_container_ref": "none"}, "Could not retrieve certificate: ['none']", id="none such"),
    pytest.param({"sni_container_refs": ["shop", "lost"]}, "Could not retrieve certificate: ['lost']", id="lost SNI"),
    pytest.param({"default_tls_container_ref": "words"}, "Could not retrieve certificate: ['words']. It cannot be read",
                 id="broken PEM"),
    pytest.param({"default_tls_container_ref": "broken-chain"}, "its chain is broken", id="broken chain"),
    pytest.param({"default_tls_container_ref": "garbage"}, "The PKCS12 bundle is unreadable.", id="garbage"),
    pytest.param({"default_tls_container_ref": "locked"}, "make sure it does not require a pass phrase", id="locked"),
    pytest.param({"default_tls_container_ref": "nameless"},
                 "No CN or DNSName(s) found in certificate. The certificate is invalid.", id="nobody's certificate"),
    pytest.param({"default_tls_container_ref": "keyless"}, "keyless cannot be used: there is no private key in it.",
                 id="no key"),
    pytest.param({"default_tls_container_ref": "mismatched"}, "its private key belongs to another certificate.",
                 id="another's key"),
    pytest.param({"default_tls_container_ref": "late"}, "late cannot be used: it ran out on ", id="expired"),
    pytest.param({"client_ca_tls_container_ref": "garbage"}, CA_TEXT, id="CA is garbage"),
    pytest.param({"client_ca_tls_container_ref": "crl"}, CA_TEXT + "there is no certificate in it", id="CA is a CRL"),
    pytest.param({"client_ca_tls_container_ref": "ca", "client_crl_container_ref": "ca"}, CRL_TEXT, id="CRL is a CA"),
    pytest.param({"client_ca_tls_container_ref": "ca", "client_crl_container_ref": "other-crl"},
                 "The CRL specified is not valid for client certificate authority reference supplied.",
                 id="another authority's CRL"),
])
def test_what_is_wrong_with_a_certificate_is_said(tls, sealer, values, fault):
    assert fault in tls.refused(400, "POST", "/listeners", listener(tls, **values))
    assert kept(tls, sealer) == {}


@pytest.mark.parametrize(("values", "fault"), [
    pytest.param({"tls_container_ref": "none"}, "Could not retrieve certificate: ['none']", id="no such secret"),
    pytest.param({"tls_container_ref": "keyless"}, "there is no private key in it.", id="no key"),
    pytest.param({"ca_tls_container_ref": "garbage"}, CA_TEXT, id="CA is garbage"),
    pytest.param({"ca_tls_container_ref": "ca", "crl_container_ref": "other-crl"},
                 "The CRL specified is not valid for client certificate authority reference supplied.", id="wrong CRL"),
])
def test_a_pools_certificates_are_judged_alike(tls, values, fault):
    pool = {"loadbalancer_id": tls.the_lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "tls_enabled": True}
    assert fault in tls.refused(400, "POST", "/pools", {"pool": {**pool, **values}})


def test_what_was_accepted_is_kept_in_one_form(tls, sealer):
    tls.post("/listeners", **listener(tls, sni_container_refs=["shop"], client_ca_tls_container_ref="ca",
                                      client_authentication="MANDATORY"))
    tls.pool(tls.the_lb, tls_enabled=True, ca_tls_container_ref="ca", crl_container_ref="crl")
    assert kept(tls, sealer) == {
        "site": SITE.bundle, "shop": SHOP.bundle, "ca": ROOT.pem, "crl": SECRETS["crl"].decode()}


def test_a_whole_tree_keeps_its_certificates(tls, sealer):
    tls.lb(listeners=[{"protocol": "TERMINATED_HTTPS", "protocol_port": 443, "default_tls_container_ref": "shop",
                       "default_pool": {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
                                        "tls_enabled": True, "tls_container_ref": "site"}}])
    assert kept(tls, sealer) == {"site": SITE.bundle, "shop": SHOP.bundle}


def test_what_nothing_names_any_more_is_forgotten(tls, sealer):
    shown = tls.settled(tls.post("/listeners", **listener(tls, sni_container_refs=["shop"])))["listener"]
    tls.put(f"/listeners/{shown['id']}", listener={"sni_container_refs": []})
    assert set(kept(tls, sealer)) == {"site"}
    tls.settle()
    tls.delete(f"/listeners/{shown['id']}")
    assert kept(tls, sealer) == {}


def test_naming_a_secret_again_takes_its_new_content(tls, sealer, drawer):
    shown = tls.settled(tls.post("/listeners", **listener(tls)))["listener"]
    drawer.held["site"] = SHOP.bundle.encode()
    tls.put(f"/listeners/{shown['id']}", listener={"name": "renamed"})
    assert kept(tls, sealer) == {"site": SITE.bundle}
    tls.put(f"/listeners/{shown['id']}", listener={"default_tls_container_ref": "site"})
    assert kept(tls, sealer) == {"site": SHOP.bundle}


def test_a_secret_that_is_gone_stops_neither_a_rename_nor_a_delete(tls, drawer):
    shown = tls.settled(tls.post("/listeners", **listener(tls)))["listener"]
    drawer.held.clear()
    tls.settled(tls.put(f"/listeners/{shown['id']}", listener={"name": "renamed"}))
    tls.delete(f"/listeners/{shown['id']}")
