# SPDX-License-Identifier: Apache-2.0
"""Goes through everything that is sealed: which key opens what, and the exchange of the key, a small bite at a time."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from msgspec import Struct
from sqlalchemy import Column, Connection, Table, and_, func, select, tuple_, update

from statera.store.engine import Store
from statera.store.tables import authorities, sealed_secrets, secrets

SEALED: tuple[Table, ...] = (secrets, sealed_secrets, authorities)
"""Every table with a column `sealed`; a test finds one that is missing here."""

ROWS_AT_ONCE = 100


class Progress(Struct, frozen=True):
    """So many rows of *table* were looked at since the last; *changed* were sealed anew, *lost* nobody can open."""

    table: str
    seen: int
    changed: int = 0
    lost: int = 0


def count(connection: Connection) -> int:
    """How many sealed rows there are."""
    return sum(connection.execute(
        select(func.count()).select_from(table).where(table.c.sealed.is_not(None))).scalar_one() for table in SEALED)


def reseal(store: Store, keys: Sequence[bytes]) -> Iterator[Progress]:
    """Seal with the first of *keys* what another of them sealed, in small transactions; repeating goes on.

    A row that somebody writes meanwhile is left to that.
    """
    first, ring = Fernet(keys[0]), MultiFernet([Fernet(key) for key in keys])
    for table, rows in _bites(store):
        old = [row for row in rows if not opens(first, row.sealed)]
        lost = [row for row in old if not opens(ring, row.sealed)]
        for_new = [row for row in old if row not in lost]
        if for_new:
            with store.write() as connection:
                for row in for_new:
                    _exchange(connection, table, row, ring.rotate(row.sealed.encode()).decode())
        yield Progress(table.name, len(rows), len(for_new), len(lost))


def opened_by(store: Store, keys: Sequence[bytes]) -> Counter[int | None]:
    """How many rows each of *keys* opens, by its place; None for rows that none does."""
    places = list(enumerate(Fernet(key) for key in keys))
    return Counter(
        next((place for place, key in places if opens(key, row.sealed)), None)
        for _, rows in _bites(store) for row in rows)


def _bites(store: Store) -> Iterator[tuple[Table, Sequence[Any]]]:
    """All sealed rows, some at a time, in the order of their keys."""
    for table in SEALED:
        after: tuple[str, ...] | None = None
        while rows := _some(store, table, after):
            yield table, rows
            after = tuple(rows[-1])[:-1]


def _some(store: Store, table: Table, after: tuple[str, ...] | None) -> Sequence[Any]:
    key = _key(table)
    statement = select(*key, table.c.sealed).where(table.c.sealed.is_not(None)).order_by(*key).limit(ROWS_AT_ONCE)
    if after is not None:
        statement = statement.where(tuple_(*key) > after)
    with store.read() as connection:
        return connection.execute(statement).all()


def _exchange(connection: Connection, table: Table, row: Any, sealed: str) -> None:
    mine = [column == value for column, value in zip(_key(table), row, strict=False)]
    connection.execute(update(table).where(and_(*mine), table.c.sealed == row.sealed).values(sealed=sealed))


def _key(table: Table) -> list[Column[Any]]:
    return list(table.primary_key)


def opens(key: Fernet | MultiFernet, sealed: str) -> bool:
    """Whether this key sealed it."""
    try:
        key.decrypt(sealed.encode())
    except InvalidToken:
        return False
    return True
