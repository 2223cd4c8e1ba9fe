# SPDX-License-Identifier: Apache-2.0
"""Statera's own certificate authority: who may call itself a node, and who a health manager.

`<state>/pki` holds `ca.key`, `ca.pem`, `roots.pem` (every root that is trusted: more than one while roots
are being exchanged) and `server.pem` (the health manager's key and chain). Health managers on several
hosts share one authority by sharing that folder. A node's private key never comes here.
"""

import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from statera.errors import SetupError, StateraError

CA_DAYS = 20 * 365.0
SERVER_DAYS = 90.0
BACKDATED = timedelta(hours=1)
"""How far a certificate's life begins in the past, for hosts whose clocks are behind."""

NODE, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
FILES = ("ca.key", "ca.pem", "roots.pem", "server.pem")


class BadRequestToSign(StateraError):
    """The certificate signing request is unusable; the message says why."""


class Authority:
    """The authority in *folder*; made by `ensure_ca`."""

    def __init__(self, folder: Path) -> None:
        try:
            self.key = _load_key((folder / "ca.key").read_bytes())
            self.certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        except (OSError, ValueError) as error:
            raise SetupError(f"cannot use the certificate authority in {folder}: {error}") from error
        self.roots_file = folder / "roots.pem"
        self.server_file = folder / "server.pem"

    @property
    def roots(self) -> str:
        """All roots that nodes are to trust, PEM."""
        return self.roots_file.read_text()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root, hexadecimal: what a joining node is told to expect."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

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


def ensure_ca(state: Path, host: str) -> Authority:
    """The authority of this installation, made at the first call; repeating is safe, also at the same time.

    The health manager's own certificate is renewed when less than a third of its life is left.
    """
    folder = state / "pki"
    if not (folder / "ca.pem").exists():
        _make(folder)
    authority = Authority(folder)
    if _needs_renewal(authority.server_file):
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = authority.issue(key.public_key(), host, SERVER, SERVER_DAYS)
        write_private(authority.server_file, key_pem(key) + pem(leaf) + pem(authority.certificate))
    return authority


def _make(folder: Path) -> None:
    """All of the folder appears at once or not at all; of two makers one wins and both go on with it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="pki-", dir=folder.parent))
    try:
        key = ec.generate_private_key(ec.SECP256R1())
        root = _root(key)
        write_private(draft / "ca.key", key_pem(key))
        (draft / "ca.pem").write_text(pem(root))
        (draft / "roots.pem").write_text(pem(root))
        draft.rename(folder)
    except OSError:
        if not (folder / "ca.pem").exists():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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


def _signed_by(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _needs_renewal(server_file: Path) -> bool:
    if not server_file.exists():
        return True
    leaf = x509.load_pem_x509_certificate(server_file.read_bytes())
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return datetime.now(UTC) > leaf.not_valid_after_utc - life / 3


def _load_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not an elliptic-curve key")
    return key


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def write_private(path: Path, text: str) -> None:
    """Replace *path* at once by a file that only its owner reads."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # born 0600
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(draft, path)
