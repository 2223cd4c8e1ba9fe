# SPDX-License-Identifier: Apache-2.0
"""What a certificate authority does: it signs. Who may call itself a node, and who a health manager.

A node's private key never comes here.
"""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from statera.errors import StateraError

CA_DAYS = 20 * 365.0
BACKDATED = timedelta(hours=1)
"""How far a certificate's life begins in the past, for hosts whose clocks are behind."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NODE, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class BadRequestToSign(StateraError):
    """The certificate signing request is unusable; the message says why."""


class Signer(Struct, frozen=True):
    """An authority's certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def id(self) -> str:
        """SHA-256 of the certificate, hexadecimal."""
        return fingerprint(self.certificate)

    def sign(self, csr_pem: str, node_id: str, days: float) -> x509.Certificate:
        """A node's certificate for the key that signed *csr_pem*; whatever name the request holds is ignored.

        Raise `BadRequestToSign`.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            sound = csr.is_signature_valid
        except (ValueError, InvalidSignature) as error:
            raise BadRequestToSign(f"not a certificate signing request: {error}") from error
        key = csr.public_key()
        if not sound or not isinstance(key, ec.EllipticCurvePublicKey):
            raise BadRequestToSign("the request must be signed by an elliptic-curve key")
        return self.issue(key, node_id, NODE, days)

    def issue(
        self, key: ec.EllipticCurvePublicKey, name: str, usage: x509.ObjectIdentifier, days: float
    ) -> x509.Certificate:
        """A certificate for *key*, good for *usage* alone: a node cannot pass for a health manager."""
        return (
            _draft(name, key, days)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(_signed_by(self.key), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def make_root() -> Signer:
    """An authority of our own."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(_root(key), key)


def read_signer(certificate: bytes, key: bytes, passphrase: bytes | None = None) -> Signer:
    """The authority of these PEM texts; of several certificates the first is its own.

    Raise `ValueError` that says what is wrong with them.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate)
        opened = serialization.load_pem_private_key(key, passphrase)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(opened, Key):
        raise ValueError("the key is neither an elliptic-curve nor an RSA key")
    if opened.public_key() != found.public_key():
        raise ValueError("the key is not the certificate's")
    if not _may_sign(found):
        raise ValueError("the certificate is not an authority's")
    return Signer(found, opened)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _root(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )
    draft = _draft("Statera", key.public_key(), CA_DAYS)
    return (
        draft.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Statera")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _draft(name: str, key: ec.EllipticCurvePublicKey, days: float) -> x509.CertificateBuilder:
    life, now = timedelta(days=days), datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - min(BACKDATED, life / 10))
        .not_valid_after(now + life)
    )


def _signed_by(key: Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def needs_renewal(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether less than a third of its life is left."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now > certificate.not_valid_after_utc - life / 3


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def write_private(path: Path, text: str) -> None:
    """Replace *path* at once by a file that only its owner reads."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # born 0600
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(draft, path)
