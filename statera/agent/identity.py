# SPDX-License-Identifier: Apache-2.0
"""Who this node is: a key that never leaves it, a certificate, and the roots that it trusts."""

import os
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from statera.errors import SetupError
from statera.wire import Certificate, Joined

RENEW_AFTER = 2 / 3
"""The share of a certificate's life after which a new one is asked for."""


class Identity:
    """The files `node.key`, `node.pem` and `roots.pem` in *folder*; `prepare` or `statera up` makes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key, self._certificate, self._roots = (
            folder / name for name in ("node.key", "node.pem", "roots.pem"))

    @property
    def exists(self) -> bool:
        return all(path.exists() for path in (self._key, self._certificate, self._roots))

    @property
    def node_id(self) -> str:
        names = self._load().subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value)

    @property
    def expires_at(self) -> datetime:
        return self._load().not_valid_after_utc

    @property
    def trusts(self) -> tuple[str, ...]:
        """The authorities that this node trusts, by their certificates' SHA-256."""
        roots = x509.load_pem_x509_certificates(self._roots.read_bytes())
        return tuple(root.fingerprint(hashes.SHA256()).hex() for root in roots)

    def learn(self, roots: str) -> bool:
        """Trust these authorities (PEM, that of who signs first) from now on; whether they are others than before."""
        if self._roots.read_text() == roots:
            return False
        self._write(self._roots, roots)
        return True

    def renewal_seconds(self, now: datetime) -> float:
        """How long the certificate can still be used before a new one is due; 0 when it is due.

        It is due at once when the authority that signs now has not signed it.
        """
        certificate = self._load()
        if not self._is_of_who_signs(certificate):
            return 0.0
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        due = certificate.not_valid_before_utc + life * RENEW_AFTER
        return max(0.0, (due - now).total_seconds())

    def prepare(self) -> None:
        """Make the key if there is none; repeating is safe."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._key.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            encryption = serialization.NoEncryption()
            self._write(self._key, key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode())

    def csr(self) -> str:
        """A certificate signing request for the key, PEM. It names nobody: who signs decides on the name."""
        key = serialization.load_pem_private_key(self._key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SetupError(f"{self._key} is not an elliptic-curve key; remove it and join again")
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def keep(self, given: Joined | Certificate) -> None:
        """Use this certificate and trust these roots from the next connection on."""
        self._write(self._roots, given.roots)
        self._write(self._certificate, given.certificate)

    def tls_context(self) -> ssl.SSLContext:
        """For connections to health managers. Raise `SetupError` when the identity is missing or outlived.

        The server's name is not compared: our own authority signs nothing but health managers for use as
        a server, and those may move. The roots and that purpose are verified.
        """
        if not self.exists:
            raise SetupError(f"this host is no node yet ({self._folder} is empty); run statera-agent join")
        if self.expires_at < datetime.now(UTC):
            raise SetupError(f"this node's certificate ended on {self.expires_at}; run statera-agent join again")
        context = trusting(self._roots.read_text())
        context.load_cert_chain(self._certificate, self._key)
        return context

    def _is_of_who_signs(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(self._roots.read_bytes()))
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def _load(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._certificate.read_bytes())

    def _write(self, path: Path, text: str) -> None:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=self._folder)  # born 0600
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)


def trusting(roots: str) -> ssl.SSLContext:
    """A client's context that trusts *roots* (PEM) for servers, whatever their name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(cadata=roots)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority of the operator's may be no root
    return context


def matching(roots: str, fingerprint: str) -> str:
    """Those of *roots* whose SHA-256 is *fingerprint*. Raise `SetupError` when none is."""
    wanted = fingerprint.replace(":", "").lower()
    certificates = x509.load_pem_x509_certificates(roots.encode())
    found = [root for root in certificates if root.fingerprint(hashes.SHA256()).hex() == wanted]
    if not found:
        raise SetupError("the health manager's root does not have that fingerprint; check address and fingerprint")
    return "".join(root.public_bytes(serialization.Encoding.PEM).decode() for root in found)
