# SPDX-License-Identifier: Apache-2.0
"""Reads what secret stores hold, PEM or PKCS12, says what is wrong with it and writes it down in one form."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)
from msgspec import Struct

BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class Material(Struct, frozen=True):
    """The contents of one secret, the certificate that the key belongs to first.

    *problem* says why it could not be read, *flaw* why it is of no use to a TLS server.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    key: PrivateKeyTypes | None = None
    revocations: tuple[x509.CertificateRevocationList, ...] = ()
    is_pkcs12: bool = False
    problem: str = ""
    flaw: str = ""

    def pem(self) -> str:
        """Certificates, then the key, then revocation lists, without an empty line."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) if self.key else b""
        certificates = b"".join(each.public_bytes(Encoding.PEM) for each in self.certificates)
        revocations = b"".join(each.public_bytes(Encoding.PEM) for each in self.revocations)
        return (certificates + key + revocations).decode()

    @property
    def expires_at(self) -> datetime | None:
        """When the first of its certificates runs out; UTC without a zone, as in the store."""
        ends = [certificate.not_valid_after_utc for certificate in self.certificates]
        return min(ends).replace(tzinfo=None) if ends else None


def read(payload: bytes, passphrase: bytes | None = None, *, now: datetime) -> Material:
    """What *payload* holds; never raises, for `problem` says it. *now* has a zone."""
    is_pem = b"-----BEGIN" in payload
    try:
        material = _from_pem(payload, passphrase) if is_pem else _from_pkcs12(payload, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return Material(is_pkcs12=not is_pem, problem=str(error))
    return Material(material.certificates, material.key, material.revocations, not is_pem, flaw=_flaw(material, now))


def renewal_fault(old: Material, new: Material) -> str:
    """Why *new* must not take the place of *old*, which is in use; empty when it may."""
    if new.problem:
        return f"it cannot be read: {new.problem}"
    if old.key:
        return new.flaw
    if old.certificates and not new.certificates:
        return "there is no certificate in it"
    return "there is no revocation list in it" if old.revocations and not new.revocations else ""


def only(pem: str, *labels: str) -> str:
    """The blocks of *pem* that have one of the labels; `KEY` is any private key."""
    found = (match for match in BLOCK.finditer(pem.encode()) if _label(match) in labels)
    return "".join(f"{match[0].decode()}\n" for match in found)


def digest(pem: str) -> str:
    return hashlib.sha256(pem.encode()).hexdigest()


def _label(block: re.Match[bytes]) -> str:
    label = block[1].decode()
    return "KEY" if label.endswith("PRIVATE KEY") else label


def _from_pem(payload: bytes, passphrase: bytes | None) -> Material:
    found: dict[str, list[bytes]] = {"CERTIFICATE": [], "KEY": [], "X509 CRL": []}
    for match in BLOCK.finditer(payload):
        found.get(_label(match), []).append(match[0])
    keys = [load_pem_private_key(block, passphrase if b"ENCRYPTED" in block else None) for block in found["KEY"]]
    certificates = [x509.load_pem_x509_certificate(block) for block in found["CERTIFICATE"]]
    revocations = [x509.load_pem_x509_crl(block) for block in found["X509 CRL"]]
    if not (keys or certificates or revocations):
        raise ValueError("It holds neither a certificate nor a key nor a revocation list.")
    key = keys[0] if keys else None
    return Material(tuple(_in_order(certificates, key)), key, tuple(revocations))


def _from_pkcs12(payload: bytes, passphrase: bytes | None) -> Material:
    bundle = pkcs12.load_pkcs12(payload, passphrase)
    held = [*([bundle.cert] if bundle.cert else []), *bundle.additional_certs]
    return Material(tuple(_in_order([each.certificate for each in held], bundle.key)), bundle.key)


def _in_order(certificates: Sequence[x509.Certificate], key: PrivateKeyTypes | None) -> Iterator[x509.Certificate]:
    """The one of the key, then each issuer that is there, then the rest; each once."""
    rest = list(dict.fromkeys(certificates))
    following = next((each for each in rest if key and _belongs(key, each)), rest[0] if rest else None)
    while following:
        rest.remove(following)
        yield following
        issuer = following.issuer
        following = next((each for each in rest if each.subject == issuer), None)
    yield from rest


def _belongs(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    return _raw(key.public_key()) == _raw(certificate.public_key())


def _raw(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _flaw(material: Material, now: datetime) -> str:
    if not material.certificates:
        return "there is no certificate in it"
    own = material.certificates[0]
    if material.key is None:
        return "there is no private key in it"
    if not _belongs(material.key, own):
        return "its private key belongs to another certificate"
    if own.not_valid_after_utc < now.astimezone(UTC):
        return f"it ran out on {own.not_valid_after_utc:%Y-%m-%d}"
    return next(_breaks(material.certificates), "")


def _breaks(chain: Sequence[x509.Certificate]) -> Iterator[str]:
    """Where the next certificate bears the issuer's name but has not signed."""
    for certificate, issuer in pairwise(chain):
        if certificate.issuer == issuer.subject:
            try:
                certificate.verify_directly_issued_by(issuer)
            except (InvalidSignature, ValueError, TypeError):
                yield "its chain is broken: a certificate was not signed by the one after it"
