# SPDX-License-Identifier: Apache-2.0
"""An authority for the tests: certificates as good or as bad as they are wanted."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

NOW = datetime.now(UTC)


class Certificate:
    """A certificate with its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def bundle(self) -> str:
        return self.pem + self.key_pem

    def pkcs12(self, passphrase: bytes | None = None) -> bytes:
        how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return pkcs12.serialize_key_and_certificates(b"", self.key, self.certificate, None, how)


class Authority(Certificate):
    """Signs certificates, also those of authorities below it."""

    def __init__(self, name: str = "authority", *, above: "Authority | None" = None) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        by = (above.certificate.subject, above.key) if above else None
        super().__init__(_signed(name, key, by, is_authority=True), key)

    def certificate_for(self, name: str, *, days: int = 30, ip: str | None = None) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        return Certificate(_signed(name, key, (self.certificate.subject, self.key), days=days, ip=ip), key)

    def revocations(self, *revoked: Certificate) -> str:
        """Its revocation list with these certificates."""
        built = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        built = built.last_update(NOW - timedelta(hours=1)).next_update(NOW + timedelta(days=1))
        for each in revoked:
            built = built.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
                .revocation_date(NOW - timedelta(minutes=5)).build())
        return built.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _signed(
    name: str, key: ec.EllipticCurvePrivateKey, by: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None, *,
    is_authority: bool = False, days: int = 30, ip: str | None = None,
) -> x509.Certificate:
    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] if name else [])
    issuer, signing_key = by or (own, key)
    names: list[x509.GeneralName] = [x509.DNSName(name)] if name and not is_authority else []
    names += [x509.IPAddress(IPv4Address(ip))] if ip else []
    built = (
        x509.CertificateBuilder().subject_name(own).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=60)).not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return built.sign(signing_key, hashes.SHA256())
