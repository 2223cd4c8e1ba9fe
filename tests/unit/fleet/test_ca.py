# SPDX-License-Identifier: Apache-2.0
"""What an authority signs, and what it takes for an authority."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ExtendedKeyUsage
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from statera.agent.identity import Identity
from statera.fleet.ca import NODE, BadRequestToSign, key_pem, make_root, pem, read_signer


def test_a_node_gets_its_name_from_us_and_is_no_server(tmp_path):
    authority = make_root()
    identity = Identity(tmp_path / "agent")
    identity.prepare()
    certificate = authority.sign(identity.csr(), "node-7", 1)
    certificate.verify_directly_issued_by(authority.certificate)
    assert [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["node-7"]
    assert list(certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize("csr", [
    pytest.param("", id="nothing"),
    pytest.param("no PEM", id="something else"),
    pytest.param("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", id="broken"),
])
def test_nonsense_is_not_signed(csr):
    with pytest.raises(BadRequestToSign):
        make_root().sign(csr, "n", 1)


def test_a_short_life_is_not_over_when_it_begins():
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    certificate = make_root().issue(key, "n", NODE, 5 / 86400)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 4 <= life.total_seconds() <= 7


def test_an_authority_is_read_back_with_its_passphrase():
    made = make_root()
    sealed = made.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"open"))
    assert read_signer(pem(made.certificate).encode(), sealed, b"open").id == made.id


def of_another_key(made):
    return pem(made.certificate), key_pem(make_root().key)


def of_a_leaf(made):
    key = ec.generate_private_key(ec.SECP256R1())
    return pem(made.issue(key.public_key(), "n", NODE, 1)), key_pem(key)


def of_rsa(made):
    return pem(made.certificate), key_pem(rsa.generate_private_key(65537, 2048))


@pytest.mark.parametrize(("files", "why"), [
    pytest.param(of_another_key, "not the certificate's", id="another key"),
    pytest.param(of_rsa, "not the certificate's", id="a key of another kind"),
    pytest.param(of_a_leaf, "not an authority's", id="a certificate that may not sign"),
    pytest.param(lambda _made: ("", ""), "PEM", id="nothing"),
])
def test_what_is_no_authority_says_why(files, why):
    certificate, key = files(make_root())
    with pytest.raises(ValueError, match=why):
        read_signer(certificate.encode(), key.encode())
