# SPDX-License-Identifier: Apache-2.0
"""The authority: made once, kept private, and no certificate is good for more than its purpose."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ExtendedKeyUsage
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from statera.agent.identity import Identity
from statera.errors import SetupError
from statera.fleet.ca import NODE, Authority, BadRequestToSign, ensure_ca


def test_two_that_start_at_once_share_one_authority(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        made = {authority.fingerprint for authority in threads.map(lambda _: ensure_ca(tmp_path, "hm"), range(8))}
    assert made == {Authority(tmp_path / "pki").fingerprint}
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]


def test_keys_are_for_their_owner_alone(tmp_path):
    ensure_ca(tmp_path, "hm")
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    for name in ("ca.key", "server.pem"):
        assert stat.S_IMODE((tmp_path / "pki" / name).stat().st_mode) == 0o600


def test_an_authority_that_stands_is_kept(tmp_path):
    before = ensure_ca(tmp_path, "hm")
    leaf = before.server_file.read_bytes()
    assert ensure_ca(tmp_path, "hm").fingerprint == before.fingerprint
    assert before.server_file.read_bytes() == leaf


def test_a_node_gets_its_name_from_us_and_is_no_server(tmp_path):
    authority = ensure_ca(tmp_path, "hm")
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
def test_nonsense_is_not_signed(tmp_path, csr):
    with pytest.raises(BadRequestToSign):
        ensure_ca(tmp_path, "hm").sign(csr, "n", 1)


def test_a_broken_folder_says_what_is_wrong(tmp_path):
    ensure_ca(tmp_path, "hm")
    (tmp_path / "pki" / "ca.key").write_text("")
    with pytest.raises(SetupError, match="certificate authority in"):
        ensure_ca(tmp_path, "hm")


def test_a_short_life_is_not_over_when_it_begins(tmp_path):
    authority = ensure_ca(tmp_path, "hm")
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    certificate = authority.issue(key, "n", NODE, 5 / 86400)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 4 <= life.total_seconds() <= 7
