# SPDX-License-Identifier: Apache-2.0
"""Whether certificates, authorities and revocation lists that are named can be had and are good."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtensionOID, NameOID

from statera.api.rules.cases import Case, Rule
from statera.errors import ApiError, BadRequest, Invalid

REFERENCES = ("_container_ref", "_container_refs")
"""How the names of fields end that refer to secrets."""


def references(values: Any) -> Iterator[str]:
    """Every reference to a secret, wherever in a body."""
    if isinstance(values, (list, tuple)):
        for each in values:
            yield from references(each)
    elif isinstance(values, dict):
        for name, value in values.items():
            if name.endswith(REFERENCES):
                yield from [value] if isinstance(value, str) and value else value or ()
            else:
                yield from references(value)


def good_certificates(*fields: str) -> Rule:
    """The certificates that are sent can be had, be read, and say for whom they are."""
    def judge(case: Case) -> ApiError | None:
        refs = [ref for field in fields for ref in _listed(case.sent.get(field))]
        missing = [ref for ref in refs if case.secrets.get(ref) is None]
        if missing:
            return _not_retrieved(missing)
        return next(filter(None, (_bad_certificate(case.secrets[ref] or b"", ref) for ref in refs)), None)

    return judge


def good_authority(ca: str, crl: str) -> Rule:
    """The authority and its revocation list in effect are good, where the request names either."""
    def judge(case: Case) -> ApiError | None:
        if not case.names(ca, crl) or not case.after.get(ca):
            return None
        refs = [case.after[field] for field in (ca, crl) if case.after.get(field)]
        missing = [ref for ref in refs if case.secrets.get(ref) is None]
        return _not_retrieved(missing) if missing else _bad_authority([case.secrets[ref] or b"" for ref in refs])

    return judge


def _listed(value: Any) -> Sequence[str]:
    return value if isinstance(value, list) else [value] if value else []


def _not_retrieved(refs: Sequence[str]) -> ApiError:
    return BadRequest(f"Could not retrieve certificate: {refs}")


def _bad_certificate(payload: bytes, ref: str) -> ApiError | None:
    try:
        certificate = x509.load_pem_x509_certificate(payload) if b"-----BEGIN" in payload else _from_bundle(payload)
    except ValueError as error:
        if b"-----BEGIN" in payload:
            return _not_retrieved([ref])
        return BadRequest(
            "The PKCS12 bundle is unreadable. Please check the PKCS12 bundle validity. In addition, make sure it does "
            f"not require a pass phrase. Error: {error}")
    if certificate is None or not _names(certificate):
        return BadRequest("No CN or DNSName(s) found in certificate. The certificate is invalid.")
    return None


def _from_bundle(payload: bytes) -> x509.Certificate | None:
    certificate = pkcs12.load_pkcs12(payload, None).cert
    return certificate.certificate if certificate else None


def _names(certificate: x509.Certificate) -> list[str]:
    common = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        other = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return common
    assert isinstance(other, x509.SubjectAlternativeName)
    return [*common, *other.get_values_for_type(x509.DNSName)]


def _bad_authority(payloads: Sequence[bytes]) -> ApiError | None:
    """*payloads* are the authority's certificate and, maybe, its revocation list."""
    try:
        authority = x509.load_pem_x509_certificate(payloads[0])
    except ValueError as error:
        return Invalid("The client authentication CA certificate is invalid. It must be a valid x509 PEM format "
                       f"certificate. Error: {error}")
    for payload in payloads[1:]:
        try:
            revocations = x509.load_pem_x509_crl(payload)
        except ValueError as error:
            return Invalid("The client authentication certificate revocation list is invalid. It must be a valid x509 "
                           f"PEM format certificate revocation list. Error: {error}")
        if not revocations.is_signature_valid(cast(CertificateIssuerPublicKeyTypes, authority.public_key())):
            return Invalid("The CRL specified is not valid for client certificate authority reference supplied.")
    return None
