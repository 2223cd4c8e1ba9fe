# SPDX-License-Identifier: Apache-2.0
"""Many load balancers from one: its rows are copied with new ids, the same way on either side's schema."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import MetaData, Table, insert, select
from sqlalchemy.engine import Connection, Engine, RowMapping

ROWS_AT_ONCE = 5_000


def copy_load_balancer(engine: Engine, table: str, id: str, *, copies: int) -> None:
    """Insert *copies* of the load balancer with all rows that belong to it; names get a number.

    A row belongs to it when one of its columns holds the id of a row that does.
    """
    schema = MetaData()
    with engine.begin() as connection:
        schema.reflect(connection)
        originals = belongings(connection, schema, table, id)
        for first in range(0, copies, 100):
            numbers = range(first, min(first + 100, copies))
            _insert(connection, originals, [renamed(originals, number) for number in numbers])


def belongings(
    connection: Connection, schema: MetaData, table: str, id: str
) -> list[tuple[Table, list[dict[str, Any]]]]:
    """All rows of one load balancer, tables in the order in which they can be filled."""
    ids, found = {id}, dict[str, list[dict[str, Any]]]()
    while True:
        before = len(ids)
        for each in schema.sorted_tables:
            found[each.name] = [dict(row) for row in _mine(connection, each, ids, is_root=each.name == table)]
            ids |= {row["id"] for row in found[each.name] if isinstance(row.get("id"), str)}
        if len(ids) == before:
            return [(each, found[each.name]) for each in schema.sorted_tables if found[each.name]]


def _mine(connection: Connection, table: Table, ids: set[str], *, is_root: bool) -> Iterator[RowMapping]:
    keys = ["id"] if is_root else [
        column.name for column in table.columns if column.name.endswith("_id") and not column.name.startswith("vip_")]
    for row in connection.execute(select(table)).mappings():
        if any(row[key] in ids for key in keys if row.get(key)):
            yield row


def renamed(originals: list[tuple[Table, list[dict[str, Any]]]], number: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of one copy."""
    new = {row["id"]: str(uuid4()) for _, rows in originals for row in rows if isinstance(row.get("id"), str)}
    return {
        table.name: [
            {name: _value(name, value, new, number) for name, value in row.items() if _is_written(table, name, value)}
            for row in rows
        ]
        for table, rows in originals
    }


def _value(name: str, value: Any, new: Mapping[str, str], number: int) -> Any:
    if name == "name" and value:
        return f"{value}-{number}"
    return new.get(value, value) if isinstance(value, str) else value


def _is_written(table: Table, name: str, value: Any) -> bool:
    """Generated columns and numbers that the database gives out itself are not."""
    return table.columns[name].computed is None and not (name == "id" and isinstance(value, int))


def _insert(
    connection: Connection, originals: list[tuple[Table, list[dict[str, Any]]]], copies: list[Mapping[str, Any]]
) -> None:
    for table, _ in originals:
        rows = [row for copy in copies for row in copy[table.name]]
        for first in range(0, len(rows), ROWS_AT_ONCE):
            connection.execute(insert(table), rows[first:first + ROWS_AT_ONCE])
