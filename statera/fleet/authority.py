# SPDX-License-Identifier: Apache-2.0
"""The authority as one process sees it: signs for nodes, certifies the process itself, follows what the store says."""

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from statera.config import Settings
from statera.errors import GiveUp, SetupError
from statera.fleet.ca import SERVER, Signer, key_pem, make_root, needs_renewal, pem, read_signer, write_private
from statera.model.authorities import Authority as Kept
from statera.store import authorities
from statera.store.engine import Store
from statera.store.secrets import Sealer

SERVER_DAYS = 90.0
TRIES = 5
"""How often a store is asked in which others add authorities at the same time."""

FORMER = ("ca.key", "ca.pem", "roots.pem")
"""Where an authority was before the store kept it, in `<state>/pki`."""


class View(Struct, frozen=True):
    """Who signs, and all that are trusted, who signs first."""

    signer: Signer
    trusted: tuple[Kept, ...]


class Authority:
    """Signs with the one authority that signs now; `refresh` notices another.

    The first of all processes makes one. What `[certificates]` names, or an earlier release left in the
    state folder, is taken into the store. Raise `SetupError` for what cannot be used. Calls block on the store.
    """

    def __init__(self, store: Store, sealer: Sealer, settings: Settings) -> None:
        self._store, self._sealer = store, sealer
        self._host = settings.host
        self._folder = settings.state / "pki"
        for signer in offered(settings):
            self._keep(signer, unless=partial(authorities.is_known, id=signer.id))
        for name in FORMER:
            (self._folder / name).unlink(missing_ok=True)
        with store.read() as connection:
            is_first = not authorities.trusted(connection)
        if is_first:
            self._keep(make_root(), unless=lambda connection: bool(authorities.trusted(connection)))
        self._view = self._look()

    @property
    def id(self) -> str:
        """Who signs: SHA-256 of its certificate, hexadecimal; a joining node is told to expect it."""
        return self._view.signer.id

    @property
    def ids(self) -> tuple[str, ...]:
        """All that are trusted, who signs first."""
        return tuple(each.id for each in self._view.trusted)

    @property
    def roots(self) -> str:
        """The certificates of all that are trusted, PEM, that of who signs first."""
        return "".join(each.certificate for each in self._view.trusted)

    @property
    def server_file(self) -> Path:
        """What a health manager on this host shows: its key, its certificate and the authority's."""
        return self._folder / "server.pem"

    def sign(self, csr_pem: str, node_id: str, days: float) -> x509.Certificate:
        """A node's certificate; see `Signer.sign`."""
        return self._view.signer.sign(csr_pem, node_id, days)

    def issue(
        self, key: ec.EllipticCurvePublicKey, name: str, usage: x509.ObjectIdentifier, days: float
    ) -> x509.Certificate:
        """A certificate for *key*; see `Signer.issue`."""
        return self._view.signer.issue(key, name, usage, days)

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether one of those that are trusted signed it."""
        return any(is_signed_by(certificate, root) for root in x509.load_pem_x509_certificates(self.roots.encode()))

    def refresh(self) -> bool:
        """Follow the store, and renew what this host shows when it is time; whether anything changed."""
        with self._store.read() as connection:
            ids = tuple(each.id for each in authorities.trusted(connection))
        is_news = ids != self.ids
        if is_news:
            self._view = self._look()
        return self.certify() or is_news

    def certify(self) -> bool:
        """Have a certificate to show that who signs now has signed; whether a new one was needed."""
        if self._shows_well():
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.issue(key.public_key(), self._host, SERVER, SERVER_DAYS)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.server_file, key_pem(key) + pem(leaf) + pem(self._view.signer.certificate))
        return True

    def add_another(self) -> None:
        """Make an authority that is to take over; `store.authorities.advance` says when it signs."""
        self._keep(make_root(), unless=lambda _connection: False)

    def tls(self) -> ssl.SSLContext:
        """For a server to which nodes show certificates; who joins has none yet."""
        self.certify()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.server_file)
        context.load_verify_locations(cadata=self.roots)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority of the operator's may be no root
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _shows_well(self) -> bool:
        if not self.server_file.exists():
            return False
        leaf = x509.load_pem_x509_certificate(self.server_file.read_bytes())
        return is_signed_by(leaf, self._view.signer.certificate) and not needs_renewal(leaf, datetime.now(UTC))

    def _keep(self, signer: Signer, *, unless: Callable[[Connection], bool]) -> None:
        for _ in range(TRIES):
            try:
                with self._store.write() as connection:
                    newest = authorities.newest(connection)
                    if not unless(connection):
                        authorities.add(
                            connection, signer.id, certificate=pem(signer.certificate),
                            sealed=self._sealer.seal(key_pem(signer.key).encode()), after=newest)
                return
            except IntegrityError:
                continue  # somebody added another one at the same time
        raise SetupError("cannot keep a certificate authority: others keep adding theirs; start again")

    def _look(self) -> View:
        with self._store.read() as connection:
            found = authorities.trusted(connection)
            sealed = authorities.sealed_key(connection, found[0].id)
        try:
            key = self._sealer.open(sealed or "")
            return View(read_signer(found[0].certificate.encode(), key), tuple(found))
        except (GiveUp, ValueError) as error:
            raise SetupError(f"cannot use the certificate authority in the database: {error}") from error


def offered(settings: Settings) -> Iterator[Signer]:
    """Authorities that are to be taken into the store: the operator's own, and what an earlier release made."""
    own, former = settings.certificates, settings.state / "pki"
    if own.ca_certificate:
        yield _read(Path(own.ca_certificate), Path(own.ca_private_key), own.ca_private_key_passphrase.encode() or None)
    if (former / "ca.key").exists():
        yield _read(former / "ca.pem", former / "ca.key")


def _read(certificate: Path, key: Path, passphrase: bytes | None = None) -> Signer:
    try:
        return read_signer(certificate.read_bytes(), key.read_bytes(), passphrase)
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot use the certificate authority {certificate} with {key}: {error}") from error


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
