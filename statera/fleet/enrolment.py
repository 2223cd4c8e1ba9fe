# SPDX-License-Identifier: Apache-2.0
"""How machines become nodes: by a one-time token, or, on the health manager's own host, at once."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy.exc import IntegrityError

from statera.errors import SetupError
from statera.fleet.authority import Authority
from statera.fleet.ca import NODE, key_pem, pem, write_private
from statera.fleet.ledger import Ledger
from statera.store import nodes
from statera.store.engine import Store
from statera.wire import Certificate, Join, Joined, Renew, encode

LOCAL_DAYS = 7.0


def join(store: Store, authority: Authority, request: Join, days: float) -> Joined:
    """Make a node of who sent *request*. Raise `Refused` or `BadRequestToSign`; then the token is still good."""
    try:
        with store.write() as connection:
            node_id = nodes.enrol(connection, nodes.token_hash(request.token), request.name)
            certificate = authority.sign(request.csr, node_id, days)
            nodes.certified(connection, node_id, _end(certificate), issuer=authority.id, trusts=authority.ids)
    except IntegrityError as error:
        raise nodes.Refused(f"another node took the name {request.name} just now") from error
    return Joined(node_id=node_id, certificate=pem(certificate), roots=authority.roots)


def renew(authority: Authority, ledger: Ledger, node_id: str, request: Renew, days: float) -> bytes:
    """The encoded answer to *request*. Raise `BadRequestToSign`."""
    certificate = authority.sign(request.csr, node_id, days)
    ledger.note(("", node_id, "certified"), partial(
        nodes.certified, node_id=node_id, expires_at=_end(certificate), issuer=authority.id, trusts=request.trusts))
    return encode(Certificate(certificate=pem(certificate), roots=authority.roots))


def enrol_local(store: Store, authority: Authority, state: Path, name: str) -> Path:
    """Make this host a node without a token; returns the folder of its identity.

    Repeating changes nothing while the identity is good: enrolled under *name*, signed by one of ours, not
    expired. Else a new certificate is made, for the same key and node where they exist.
    """
    folder = state / "agent"
    with store.write() as connection:
        node_id = nodes.ensure(connection, name)
        if _is_good(folder, authority, node_id):
            return folder
        key = _own_key(folder)
        certificate = authority.issue(key.public_key(), node_id, NODE, LOCAL_DAYS)
        nodes.certified(connection, node_id, _end(certificate), issuer=authority.id, trusts=authority.ids)
    write_private(folder / "roots.pem", authority.roots)
    write_private(folder / "node.pem", pem(certificate))
    return folder


def _own_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key in *folder*, made if there is none."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "node.key").exists():
        write_private(folder / "node.key", key_pem(ec.generate_private_key(ec.SECP256R1())))
    key = serialization.load_pem_private_key((folder / "node.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SetupError(f"{folder / 'node.key'} is not an elliptic-curve key; remove it and start again")
    return key


def _is_good(folder: Path, authority: Authority, node_id: str) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "node.pem").read_bytes())
        present = (folder / "node.key").exists() and (folder / "roots.pem").exists()
    except (OSError, ValueError):
        return False
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    is_ours = authority.issued(certificate) and names[0].value == node_id
    return present and is_ours and datetime.now(UTC) < certificate.not_valid_after_utc


def _end(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc.replace(tzinfo=None)
