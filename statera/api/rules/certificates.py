# SPDX-License-Identifier: Apache-2.0
"""Whether certificates, authorities and revocation lists that are named can be had and are good."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import ExtensionOID, NameOID

from statera.api.rules.cases import Case, Rule
from statera.errors import ApiError, BadRequest, Invalid
from statera.model.pem import Material

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
    """The certificates that are sent can be had and be read, say for whom they are, and come with their keys."""
    def judge(case: Case) -> ApiError | None:
        refs = [ref for field in fields for ref in _listed(case.sent.get(field))]
        found = {ref: case.secrets.get(ref) for ref in refs}
        missing = [ref for ref, material in found.items() if material is None]
        if missing:
            return _not_retrieved(missing)
        faults = (_bad_certificate(material, ref) for ref, material in found.items() if material)
        return next(filter(None, faults), None)

    return judge


def good_authority(ca: str, crl: str) -> Rule:
    """The authority and its revocation list in effect are good, where the request names either."""
    def judge(case: Case) -> ApiError | None:
        if not case.names(ca, crl) or not case.after.get(ca):
            return None
        refs = [case.after[field] for field in (ca, crl) if case.after.get(field)]
        found = [case.secrets.get(ref) for ref in refs]
        missing = [ref for ref, material in zip(refs, found, strict=True) if material is None]
        return _not_retrieved(missing) if missing else _bad_authority([material for material in found if material])

    return judge


def _listed(value: Any) -> Sequence[str]:
    return value if isinstance(value, list) else [value] if value else []


def _not_retrieved(refs: Sequence[str]) -> ApiError:
    return BadRequest(f"Could not retrieve certificate: {refs}")


def _bad_certificate(material: Material, ref: str) -> ApiError | None:
    if material.problem and material.is_pkcs12:
        return BadRequest(
            "The PKCS12 bundle is unreadable. Please check the PKCS12 bundle validity. In addition, make sure it does "
            f"not require a pass phrase. Error: {material.problem}")
    if material.problem:
        return BadRequest(f"Could not retrieve certificate: {[ref]}. It cannot be read: {material.problem}")
    if not material.certificates or not _names(material.certificates[0]):
        return BadRequest("No CN or DNSName(s) found in certificate. The certificate is invalid.")
    return Invalid(f"The certificate {ref} cannot be used: {material.flaw}.") if material.flaw else None


def _names(certificate: x509.Certificate) -> list[str]:
    common = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        other = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return common
    assert isinstance(other, x509.SubjectAlternativeName)
    return [*common, *other.get_values_for_type(x509.DNSName)]


def _bad_authority(found: Sequence[Material]) -> ApiError | None:
    """*found* are the authority's certificate and, maybe, its revocation list."""
    authority, *lists = found
    if not authority.certificates:
        return Invalid("The client authentication CA certificate is invalid. It must be a valid x509 PEM format "
                       f"certificate. Error: {authority.problem or 'there is no certificate in it'}")
    for each in lists:
        if not each.revocations:
            return Invalid("The client authentication certificate revocation list is invalid. It must be a valid x509 "
                           f"PEM format certificate revocation list. Error: {each.problem or 'there is none in it'}")
        if not any(_has_signed(certificate, each.revocations[0]) for certificate in authority.certificates):
            return Invalid("The CRL specified is not valid for client certificate authority reference supplied.")
    return None


def _has_signed(authority: x509.Certificate, revocations: x509.CertificateRevocationList) -> bool:
    return revocations.is_signature_valid(cast(CertificateIssuerPublicKeyTypes, authority.public_key()))
