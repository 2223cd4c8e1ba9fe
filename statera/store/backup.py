# SPDX-License-Identifier: Apache-2.0
"""A backup is one file: gzip, a line of JSON for each row, all of one moment, the same for every kind of database.

The first line says what it is, the last how many rows there were, so that half a file is noticed.
"""

import gzip
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from secrets import token_bytes
from typing import Any, BinaryIO

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Struct
from sqlalchemy import Column, Connection, DateTime, Table, func, select

from statera import __version__
from statera.errors import SetupError
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.migrations import REVISIONS
from statera.store.tables import budgets, idempotency_keys, managers, metadata, node_tokens, restores

FORMAT = 1
LEFT_OUT = frozenset({managers, node_tokens, idempotency_keys, budgets, restores})
"""What must not come back: signs of life, tokens that may be used up, answers about what is not there any more."""

ROWS_AT_ONCE = 500
SCRYPT = {"length": 32, "n": 2**15, "r": 8, "p": 1}


class Keys(Struct, frozen=True):
    """The master keys, sealed with a passphrase; *salt* is base64."""

    salt: str
    sealed: str


class Header(Struct, frozen=True, kw_only=True):
    """The first line; *revision* is the schema's."""

    statera_backup: int
    release: str
    revision: str
    made_at: datetime
    rows: int
    keys: Keys | None = None


class Heading(Struct, frozen=True):
    """Rows of *table* follow, each a list of the values of *columns*."""

    table: str
    columns: tuple[str, ...]


class End(Struct, frozen=True):
    end: int


Rows = Iterator[tuple[Table, list[dict[str, Any]]]]


def tables() -> Iterator[Table]:
    """What a backup holds, each after those that it refers to."""
    return (table for table in metadata.sorted_tables if table not in LEFT_OUT)


def columns(table: Table) -> list[Column[Any]]:
    """What is kept of a row: not what the database makes itself."""
    made = table.autoincrement_column
    return [column for column in table.columns if column.computed is None and not (
        column is made and column.autoincrement is True)]


def write(store: Store, file: BinaryIO, *, keys: Keys | None = None) -> Iterator[tuple[int, int]]:
    """Write a backup of this moment, and tell how many rows of how many are written. Services run on meanwhile."""
    with store.snapshot() as connection, gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
        total = count(connection)
        header = Header(statera_backup=FORMAT, release=__version__, revision=REVISIONS[-1], made_at=utc_now(),
                        rows=total, keys=keys)
        packed.write(_line(header))
        done = 0
        for table in tables():
            packed.write(_line(Heading(_plain(table.name), tuple(_plain(column.name) for column in columns(table)))))
            for rows in _read(connection, table):
                packed.write(b"".join(_line(row) for row in rows))
                done += len(rows)
                yield done, total
        packed.write(_line(End(done)))


def count(connection: Connection) -> int:
    """How many rows a backup of now would hold."""
    return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables())


def _read(connection: Connection, table: Table) -> Iterator[list[list[Any]]]:
    statement = select(*columns(table)).order_by(*table.primary_key)
    result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(statement)
    for rows in result.partitions():
        yield [list(row) for row in rows]


def _plain(name: str) -> str:
    """SQLAlchemy's names are more than text."""
    return "".join((name,))


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


# And back.


def read_header(path: Path) -> Header:
    """What the file says of itself, once it is found to be whole. Raise `SetupError`."""
    try:
        with gzip.open(path) as packed:
            header = msgspec.json.decode(packed.readline(), type=Header)
            last, found = b"", 0
            for line in packed:
                last, found = line, found + line.startswith(b"[")
        ended = msgspec.json.decode(last, type=End)
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise SetupError(f"{path} is not a whole backup of Statera: {error}") from error
    if not ended.end == header.rows == found:
        raise SetupError(f"{path} holds {found} rows instead of {header.rows}")
    if header.statera_backup > FORMAT or header.revision not in REVISIONS:
        raise SetupError(f"{path} is of the newer release {header.release}: install that here as well")
    return header


def read_rows(path: Path) -> Rows:
    """The rows of a whole file, some at a time. Columns that are gone since are left out."""
    with gzip.open(path) as packed:
        packed.readline()
        heading, waiting = Heading("", ()), list[dict[str, Any]]()
        for line in packed:
            if line.startswith(b"["):
                waiting.append(dict(zip(heading.columns, msgspec.json.decode(line), strict=True)))
            if waiting and (len(waiting) == ROWS_AT_ONCE or not line.startswith(b"[")):
                yield _revived(heading.table, waiting)
                waiting = []
            if line.startswith(b'{"table"'):
                heading = msgspec.json.decode(line, type=Heading)


def _revived(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, list[dict[str, Any]]]:
    """The rows as the database takes them."""
    table = metadata.tables[name]
    known = {column.name: column for column in columns(table)}
    return table, [{name: _value(known[name], value) for name, value in row.items() if name in known} for row in rows]


def _value(column: Column[Any], value: Any) -> Any:
    return datetime.fromisoformat(value) if value is not None and isinstance(column.type, DateTime) else value


# The master keys, for who asks for them.


def seal_keys(keys: Sequence[bytes], passphrase: bytes) -> Keys:
    """The keys as they may lie in a backup."""
    salt = token_bytes(16)
    return Keys(b64encode(salt).decode(), _fernet(passphrase, salt).encrypt(b"\n".join(keys)).decode())


def open_keys(keys: Keys, passphrase: bytes) -> list[bytes]:
    """Raise `SetupError` for another passphrase."""
    try:
        return _fernet(passphrase, msgspec.json.decode(f'"{keys.salt}"', type=bytes)).decrypt(
            keys.sealed.encode()).split()
    except InvalidToken as error:
        raise SetupError("the passphrase does not open the master keys in the backup") from error


def _fernet(passphrase: bytes, salt: bytes) -> Fernet:
    return Fernet(urlsafe_b64encode(Scrypt(salt=salt, **SCRYPT).derive(passphrase)))
