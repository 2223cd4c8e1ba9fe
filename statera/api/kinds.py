# SPDX-License-Identifier: Apache-2.0
"""A kind of resource: its words and its field table, and how the table becomes a view and an answer."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Table

from statera.api.fields import Field
from statera.store import lists, status
from statera.store.lists import Relation, Row, View

VERSIONED: Mapping[str, Callable[[Table], ColumnElement[Any]]] = {
    "provisioning_status": status.provisioning_status,
    "operating_status": status.operating_status,
    "updated_at": status.updated_at,
}
"""What is derived for every object of a tree."""


class Kind(Struct, frozen=True, kw_only=True, dict=True):
    """*name* is the root key of one, *plural* of many and the collection's path, *title* the word of faults.

    *argument* names the body in faults, *policy* the rules. *aliases* are further words for filters and
    sorting.
    """

    name: str
    plural: str
    title: str
    argument: str
    policy: str
    table: Table
    fields: tuple[Field, ...]
    put_argument: str = ""
    links: str = ""
    aliases: Mapping[str, Any] = {}
    key: str = "id"
    order: tuple[str, ...] = ("created_at", "id")
    where: tuple[ColumnElement[bool], ...] = ()
    joined: bool = True
    owned: bool = True

    @cached_property
    def view(self) -> View:
        columns = {field.name: _expression(self.table, field) for field in self.fields if field.shown}
        filtered = {field.name: columns[field.name] for field in self.fields if field.shown and field.filtered}
        keys = {name: expression for name, expression in filtered.items() if expression is not None}
        named = {
            name: self.table.c[source] if isinstance(source, str) else source for name, source in self.aliases.items()
        }
        return View(
            table=self.table, columns=columns, keys=keys | named, key=self.key, order=self.order,
            relations={
                field.name: relation for field in self.fields if field.shown and (relation := _relation(field))
            },
            where=self.where, joined=self.joined, tagged=any(field.name == "tags" for field in self.fields),
        )

    @cached_property
    def _shown(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.shown and (field.show or field.hide_null))

    @property
    def links_key(self) -> str:
        return self.links or f"{self.plural}_links"

    def answer(self, row: Row) -> Row:
        """The object as it is shown."""
        for field in self._shown:
            if field.hide_null and row[field.name] is None:
                del row[field.name]
            elif field.show is not None:
                row[field.name] = field.show(row[field.name])
        if self.owned:
            row["tenant_id"] = row["project_id"]
        return row

    def one(self, connection: Connection, key: str) -> Row | None:
        row = lists.read_one(connection, self.view, key)
        return None if row is None else self.answer(row)

    def all(self, connection: Connection, *where: ColumnElement[bool]) -> list[Row]:
        return [self.answer(row) for row in lists.read_all(connection, self.view, *where)]


def _relation(field: Field) -> Relation | None:
    source = field.source
    return None if source is None or isinstance(source, (str, ColumnElement)) else source


def _expression(table: Table, field: Field) -> ColumnElement[Any] | None:
    """What is selected for the field; None for relations, which are read apart."""
    source = field.source
    if isinstance(source, ColumnElement):
        return source
    if source == "" and field.name in VERSIONED and "wanted_version" in table.c:
        return VERSIONED[field.name](table)
    return table.c[source or field.name] if isinstance(source, str) else None


def select_fields(row: Row, wanted: Sequence[str] | None) -> Row:
    """Only the *wanted* attributes; the alias `tenant_id` cannot be asked for."""
    if wanted is None:
        return row
    return {name: row[name] for name in row if name in wanted and name != "tenant_id"}

