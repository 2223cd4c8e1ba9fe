# SPDX-License-Identifier: Apache-2.0
"""A secret store in which every reference exists: for API tests."""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from statera.drivers.protocols import Caller

NAME = "noop.example.com"
DAYS = 365


class NoopSecrets:
    """Every reference holds the same bundle, made once: certificate, its key and a revocation list it has signed."""

    def fetch(self, ref: str, caller: Caller) -> bytes:
        return bundle()


@cache
def bundle() -> bytes:
    """PEM blocks that serve wherever a certificate, an authority or a revocation list is asked for."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    until = now + timedelta(days=DAYS)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    revoked = (
        x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(until)
        .sign(key, hashes.SHA256())
    )
    return b"".join((
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        revoked.public_bytes(serialization.Encoding.PEM),
    ))
