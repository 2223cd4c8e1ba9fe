# SPDX-License-Identifier: Apache-2.0
"""Secrets at rest: sealed with the master key, those that tenants uploaded and those that load balancers use."""

import logging
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from msgspec import Struct
from sqlalchemy import Connection, RowMapping, delete, insert, select, tuple_, update

from statera.errors import GiveUp, SetupError
from statera.model import pem
from statera.model.pem import Material
from statera.model.secrets import Secret
from statera.store import wishes
from statera.store.engine import Store
from statera.store.tables import listeners, load_balancers, pools, sealed_secrets, secrets

LOG = logging.getLogger(__name__)


class Sealer:
    """*keys*: the first seals, any of them opens, so that a new one can be put in front of the old.

    With *source*, the file that they are from, a change of that file is followed.
    """

    def __init__(self, *keys: bytes, source: Path | None = None) -> None:
        self._keys = MultiFernet([Fernet(key) for key in keys])
        self._source = source
        self._stamp = _stamp(source) if source else None

    def seal(self, secret: bytes) -> str:
        return self._newest().encrypt(secret).decode()

    def open(self, sealed: str) -> bytes:
        """Raise `GiveUp` for what another key sealed."""
        try:
            return self._newest().decrypt(sealed.encode())
        except InvalidToken:
            raise GiveUp("SECRET_SEALED", "a secret was sealed with another master key than this host's: put the "
                         "same [certificates] master_key_file on every host") from None

    def _newest(self) -> MultiFernet:
        """The keys as the file has them now; one that cannot be read now changes nothing."""
        if self._source is None:
            return self._keys
        try:
            if (stamp := _stamp(self._source)) != self._stamp:
                self._keys, self._stamp = MultiFernet([Fernet(key) for key in read_keys(self._source)]), stamp
        except (OSError, ValueError) as error:
            LOG.error("the master key %s cannot be read, the keys from before are used: %s", self._source, error)
        return self._keys


def ensure_sealer(path: Path) -> Sealer:
    """A sealer with the keys of the file, one a line; a file that is not there is made, for its owner alone.

    Of several processes that start at once one makes it. Raise `SetupError` for a file that cannot be used.
    """
    try:
        if not path.exists():
            _make_key_file(path)
        return Sealer(*read_keys(path), source=path)
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot use the master key {path}: {error}") from error


def read_keys(path: Path) -> list[bytes]:
    """The keys of the file, the one that seals first."""
    return path.read_bytes().split()


def write_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Replace the file at once by one with these keys, of the same owner and for that owner alone."""
    draft, former = path.with_name(f".{path.name}.{os.getpid()}"), path.stat()
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        os.fchown(file.fileno(), former.st_uid, former.st_gid)
        file.write(b"".join(key + b"\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _stamp(path: Path) -> tuple[int, ...]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_ino, facts.st_size


def _make_key_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(Fernet.generate_key() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        return  # somebody was faster; theirs counts
    finally:
        draft.unlink()


class SecretBook(Struct, frozen=True):
    """What tenants uploaded: the `local` secret store."""

    store: Store
    sealer: Sealer

    def add(self, secret: Secret, payload: bytes) -> None:
        with self.store.write() as connection:
            values = {name: getattr(secret, name) for name in Secret.__struct_fields__}
            connection.execute(insert(secrets).values(sealed=self.sealer.seal(payload), **values))

    def find(self, id: str) -> Secret | None:
        return next(self._found(id), None)

    def list(self, project_id: str) -> list[Secret]:
        """Those of the project, in the order in which they came."""
        statement = select(secrets).where(secrets.c.project_id == project_id)
        with self.store.read() as connection:
            rows = connection.execute(statement.order_by(secrets.c.created_at, secrets.c.id)).mappings().all()
        return [_secret(row) for row in rows]

    def payload(self, id: str) -> bytes | None:
        with self.store.read() as connection:
            sealed = connection.execute(select(secrets.c.sealed).where(secrets.c.id == id)).scalar_one_or_none()
        return None if sealed is None else self.sealer.open(sealed)

    def replace(self, id: str, payload: bytes) -> None:
        """Have it hold something else from now on; load balancers that use it take it up soon."""
        with self.store.write() as connection:
            connection.execute(update(secrets).where(secrets.c.id == id).values(sealed=self.sealer.seal(payload)))

    def remove(self, id: str) -> None:
        """One that is not there is success; load balancers that use it keep what they have."""
        with self.store.write() as connection:
            connection.execute(delete(secrets).where(secrets.c.id == id))

    def _found(self, id: str) -> Iterator[Secret]:
        with self.store.read() as connection:
            yield from map(_secret, connection.execute(select(secrets).where(secrets.c.id == id)).mappings())


def _secret(row: RowMapping) -> Secret:
    return Secret(**{name: row[name] for name in Secret.__struct_fields__})


# What load balancers use, beside the wish that names it: nothing else ever asks the secret store.

column = sealed_secrets.c


class Kept(Struct, frozen=True):
    """*expires_at* is when the first of its certificates runs out."""

    sealed: str
    digest: str
    expires_at: datetime | None


def sealed(material: Material, sealer: Sealer) -> Kept:
    text = material.pem()
    return Kept(sealer.seal(text.encode()), pem.digest(text), material.expires_at)


def keep(connection: Connection, load_balancer_id: str, ref: str, kept: Kept) -> None:
    """Have the load balancer use this content of the reference from now on."""
    mine = (column.load_balancer_id == load_balancer_id, column.ref == ref)
    connection.execute(delete(sealed_secrets).where(*mine))
    connection.execute(insert(sealed_secrets).values(
        load_balancer_id=load_balancer_id, ref=ref, sealed=kept.sealed, digest=kept.digest, expires_at=kept.expires_at))


def of_load_balancer(connection: Connection, load_balancer_id: str) -> dict[str, str]:
    """The sealed content of each reference."""
    statement = select(column.ref, column.sealed).where(column.load_balancer_id == load_balancer_id)
    return {row.ref: row.sealed for row in connection.execute(statement)}


def forget_unused(connection: Connection, load_balancer_id: str) -> None:
    """Remove what no listener and no pool of the load balancer names any more."""
    mine = column.load_balancer_id == load_balancer_id
    known = set(connection.execute(select(column.ref).where(mine)).scalars())
    if known and (unused := known - _named(connection, load_balancer_id)):
        connection.execute(delete(sealed_secrets).where(mine, column.ref.in_(unused)))


def _named(connection: Connection, load_balancer_id: str) -> set[str]:
    refs: set[str] = set()
    for table in (listeners, pools):
        columns = [each for each in table.c if "container_ref" in each.name]
        here = (table.c.load_balancer_id == load_balancer_id, ~table.c.deleting)
        for value in (value for row in connection.execute(select(*columns).where(*here)) for value in row if value):
            refs.update(value if isinstance(value, list) else [value])
    return refs


class Used(Struct, frozen=True):
    """A reference that a load balancer uses, and what it held when it was last looked at."""

    load_balancer_id: str
    ref: str
    project_id: str
    sealed: str
    digest: str

    @property
    def place(self) -> tuple[str, str]:
        return self.load_balancer_id, self.ref


def in_use(connection: Connection, after: tuple[str, str], *, limit: int) -> list[Used]:
    """At most *limit* references that load balancers use, in the order of their places, from behind *after*."""
    lb, place = load_balancers.c, (column.load_balancer_id, column.ref)
    statement = (
        select(*place, lb.project_id, column.sealed, column.digest)
        .join(load_balancers, lb.id == column.load_balancer_id)
        .where(tuple_(*place) > after, lb.deleted_at.is_(None), ~lb.deleting))
    return [Used(*row) for row in connection.execute(statement.order_by(*place).limit(limit))]


def renew(connection: Connection, used: Used, kept: Kept) -> bool:
    """Have the load balancer run with the new content; False when somebody was faster, or it is going."""
    lb = wishes.hold(connection, used.load_balancer_id)
    known = select(column.digest).where(column.load_balancer_id == used.load_balancer_id, column.ref == used.ref)
    if lb is None or lb["deleting"] or connection.execute(known).scalar_one_or_none() != used.digest:
        return False
    keep(connection, used.load_balancer_id, used.ref, kept)
    wishes.touch(connection, used.load_balancer_id)
    return True
