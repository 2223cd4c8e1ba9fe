# SPDX-License-Identifier: Apache-2.0
"""What secrets hold, and what is wrong with them."""

from datetime import UTC, datetime, timedelta

import pytest
from certificates import Authority
from cryptography.hazmat.primitives import serialization

from statera.model import pem

NOW = datetime.now(UTC)
ROOT = Authority("root")
MIDDLE = Authority("middle", above=ROOT)
SITE = MIDDLE.certificate_for("www.example.com")
OTHER = ROOT.certificate_for("other.example.com")
LATE = ROOT.certificate_for("late.example.com", days=-1)
FALSE_MIDDLE = Authority("middle", above=ROOT)


def read(text, passphrase=None):
    return pem.read(text.encode() if isinstance(text, str) else text, passphrase, now=NOW)


def names(material):
    return [each.subject.rfc4514_string() for each in material.certificates]


@pytest.mark.parametrize("text", [
    pytest.param(SITE.bundle + MIDDLE.pem + ROOT.pem, id="as it should be"),
    pytest.param(ROOT.pem + SITE.key_pem + MIDDLE.pem + SITE.pem, id="in any order"),
    pytest.param("Bag Attributes\n\n" + SITE.pem + "\n\n" + MIDDLE.pem + SITE.pem + SITE.key_pem + ROOT.pem,
                 id="with blank lines, words and doubles"),
])
def test_a_bundle_is_put_in_order(text):
    material = read(text)
    assert (material.problem, material.flaw) == ("", "")
    assert names(material) == ["CN=www.example.com", "CN=middle", "CN=root"]
    assert material.pem() == SITE.pem + MIDDLE.pem + ROOT.pem + SITE.key_pem
    assert "\n\n" not in material.pem()


def test_pkcs12_becomes_pem():
    assert read(SITE.pkcs12()).pem() == SITE.bundle
    assert read(SITE.pkcs12(b"secret"), b"secret").pem() == SITE.bundle


def test_a_key_with_a_passphrase_is_opened():
    locked = SITE.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret"))
    assert read(SITE.pem + locked.decode(), b"secret").pem() == SITE.bundle
    assert "Password was not given" in read(SITE.pem + locked.decode()).problem


@pytest.mark.parametrize("payload", [
    pytest.param(b"", id="empty"),
    pytest.param(b"\x30\x82garbage", id="neither PEM nor PKCS12"),
    pytest.param(SITE.pkcs12(b"secret"), id="PKCS12 with a passphrase"),
    pytest.param(b"-----BEGIN NOTHING-----\n-----END NOTHING-----\n", id="PEM of something else"),
    pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="broken PEM"),
])
def test_what_cannot_be_read_has_a_problem(payload):
    assert read(payload).problem


@pytest.mark.parametrize(("text", "flaw"), [
    pytest.param(SITE.key_pem, "there is no certificate in it", id="key alone"),
    pytest.param(SITE.pem, "there is no private key in it", id="certificate alone"),
    pytest.param(SITE.pem + OTHER.key_pem, "its private key belongs to another certificate", id="another's key"),
    pytest.param(LATE.bundle, f"it ran out on {NOW - timedelta(days=1):%Y-%m-%d}", id="too late"),
    pytest.param(
        SITE.bundle + FALSE_MIDDLE.pem, "its chain is broken: a certificate was not signed by the one after it",
        id="somebody else of the issuer's name"),
])
def test_what_is_of_no_use_to_a_server_has_a_flaw(text, flaw):
    assert read(text).flaw == flaw


def test_blocks_are_picked_by_what_they_are():
    text = SITE.bundle + ROOT.revocations(OTHER)
    assert pem.only(text, "CERTIFICATE", "KEY") == SITE.bundle
    assert pem.only(text, "X509 CRL").startswith("-----BEGIN X509 CRL-----")
    assert pem.only(text, "CERTIFICATE") == SITE.pem


def test_it_is_known_when_the_first_certificate_runs_out():
    assert read(SITE.bundle + LATE.pem).expires_at == LATE.certificate.not_valid_after_utc.replace(tzinfo=None)
