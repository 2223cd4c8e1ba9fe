# SPDX-License-Identifier: Apache-2.0
"""Read objects as the API shows them: one page, or one object, in a number of statements that never grows."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Float,
    Integer,
    Numeric,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    null,
    or_,
    select,
    union,
)

from statera.store import status, tables

Relation = Callable[[Connection, Sequence[str]], Mapping[str, Any]]
"""From the ids of a page to what belongs to each; an id that is missing has nothing."""

Row = dict[str, Any]


class View(Struct, frozen=True, kw_only=True, dict=True):
    """How one kind of object is read.

    *columns* are shown, by name in the order of answers; a name of *relations* takes its place there too.
    *keys* may be filtered and sorted by. *joined* says that the columns expect `load_balancers`.
    """

    table: Table
    columns: Mapping[str, ColumnElement[Any] | None]
    relations: Mapping[str, Relation]
    keys: Mapping[str, ColumnElement[Any]]
    where: tuple[ColumnElement[bool], ...] = ()
    order: tuple[str, ...] = ("created_at", "id")
    key: str = "id"
    joined: bool = True
    tagged: bool = True

    @cached_property
    def selection(self) -> Select[Any]:
        """All objects; their keys come first."""
        shown = [
            (null() if expression is None else expression).label(name) for name, expression in self.columns.items()]
        statement = select(self.table.c[self.key].label("row_key"), *shown).where(*self.where)
        if not self.joined:
            return statement
        lb = tables.load_balancers
        if self.table is lb:
            return statement.where(lb.c.deleted_at.is_(None))
        return statement.join(lb, lb.c.id == self.table.c.load_balancer_id).where(lb.c.deleted_at.is_(None))

    @cached_property
    def one(self) -> Select[Any]:
        """The object whose key is the parameter `key`; made once, because making it costs more than running it."""
        return self.selection.where(self.table.c[self.key] == bindparam("key"))


    def only(self, *names: str) -> "View":
        """The same objects with these attributes alone."""
        return replace(
            self, columns={name: self.columns[name] for name in names},
            relations={name: read for name, read in self.relations.items() if name in names})


class TagFilter(Struct, frozen=True, kw_only=True):
    """Each an AND of its own; `None` does not filter."""

    every: tuple[str, ...] | None = None
    some: tuple[str, ...] | None = None
    not_every: tuple[str, ...] | None = None
    none: tuple[str, ...] | None = None


class Page(Struct, frozen=True, kw_only=True):
    """Which objects, in which order: *sort* are (key, descending), *limit* None is all of them."""

    filters: tuple[tuple[str, str], ...] = ()
    tags: TagFilter = TagFilter()
    sort: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False


class UnknownMarker(LookupError):
    """No object bears the id after which the page is to start."""


def read_page(
    connection: Connection, view: View, page: Page, *, where: Sequence[ColumnElement[bool]] = ()
) -> list[Row]:
    """One page of the objects that fulfil *where* too. Raises `UnknownMarker`."""
    keys = [(view.keys[name], descending) for name, descending in _sort_keys(view, page)]
    conditions = [_equals(view.keys[name], value) for name, value in page.filters]
    conditions += status.implied(view.table, page.filters)
    if view.tagged:
        conditions += _tag_conditions(view.table, page.tags)
    if page.marker is not None:
        conditions.append(_beyond(keys, _marker(connection, view, keys, page.marker), before=page.reverse))
    statement = view.selection.where(*where, *conditions).limit(page.limit)
    for expression, descending in keys:
        statement = statement.order_by(*_order(expression, descending=descending))
    return _read(connection, view, statement)


def read_all(connection: Connection, view: View, *where: ColumnElement[bool]) -> list[Row]:
    """All objects that fulfil *where*, in the default order."""
    return read_page(connection, view, Page(), where=where)


def read_one(connection: Connection, view: View, key: str) -> Row | None:
    """The object with that key, None if there is none."""
    rows = _read(connection, view, view.one, key=key)
    return rows[0] if rows else None


def _read(connection: Connection, view: View, statement: Select[Any], **given: str) -> list[Row]:
    names = ("row_key", *view.columns)
    rows = [dict(zip(names, row, strict=True)) for row in connection.execute(statement, given).all()]
    keys = [row.pop("row_key") for row in rows]
    for name, relation in view.relations.items():
        related = _gathered(connection, relation, keys)
        for key, row in zip(keys, rows, strict=True):
            row[name] = related.get(key, [])
    return rows


CHUNK = 10_000
"""Most ids in one IN list; databases bound the number of parameters (SQLite: 32,766)."""


def _gathered(connection: Connection, relation: Relation, found: Sequence[str]) -> Mapping[str, Any]:
    gathered: dict[str, Any] = {}
    for start in range(0, len(found), CHUNK):
        gathered |= relation(connection, found[start:start + CHUNK])
    return gathered


# Sorting and pages.


def _sort_keys(view: View, page: Page) -> Iterator[tuple[str, bool]]:
    yield from page.sort
    yield from ((name, False) for name in view.order if name not in dict(page.sort))


def _nullable(expression: ColumnElement[Any]) -> bool:
    return not isinstance(expression, Column) or bool(expression.nullable)


def _order(expression: ColumnElement[Any], *, descending: bool) -> list[ColumnElement[Any]]:
    """Nulls come first going up, on every database."""
    parts = [case((expression.is_(None), 0), else_=1), expression] if _nullable(expression) else [expression]
    return [part.desc() if descending else part.asc() for part in parts]


def _marker(
    connection: Connection, view: View, keys: Sequence[tuple[ColumnElement[Any], bool]], marker: str
) -> Sequence[Any]:
    expressions = [expression.label(f"key_{index}") for index, (expression, _) in enumerate(keys)]
    statement = view.selection.with_only_columns(*expressions, maintain_column_froms=True)
    row = connection.execute(statement.where(view.table.c[view.key] == marker)).one_or_none()
    if row is None:
        raise UnknownMarker(marker)
    return row


def _beyond(
    keys: Sequence[tuple[ColumnElement[Any], bool]], values: Sequence[Any], *, before: bool
) -> ColumnElement[bool]:
    """Rows after the marker's *values* in the order of *keys*; those before it when *before*."""
    ways: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (expression, descending), value in zip(keys, values, strict=True):
        ways.append(and_(*equal, _further(expression, value, down=descending != before)))
        equal.append(expression.is_(None) if value is None else expression == value)
    return or_(*ways)


def _further(expression: ColumnElement[Any], value: Any, *, down: bool) -> ColumnElement[bool]:
    if value is None:
        return false() if down else expression.is_not(None)
    if down:
        return or_(expression < value, expression.is_(None)) if _nullable(expression) else expression < value
    above: ColumnElement[bool] = expression > value
    return above


# Filters.

TRUE_WORDS = frozenset({"true", "1", "t", "yes", "y", "on"})
LARGEST_NUMBER = 2**63 - 1


def _whole(text: str) -> int:
    """A number that a database can compare with. Raise `ValueError`."""
    number = int(text)
    if abs(number) > LARGEST_NUMBER:
        raise ValueError(text)
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


PARSERS: Sequence[tuple[type, Callable[[str], Any]]] = (
    (Boolean, lambda text: text.lower() in TRUE_WORDS), (Integer, _whole), (Float, _finite), (Numeric, _finite),
    (DateTime, datetime.fromisoformat), (String, str),
)


def _equals(expression: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """Equality with a value given as text; one of another type matches nothing."""
    parse = next(parse for kind, parse in PARSERS if isinstance(expression.type, kind))
    try:
        equal: ColumnElement[bool] = expression == parse(value)
    except ValueError:
        return false()
    return equal


def _tag_conditions(table: Table, wanted: TagFilter) -> list[ColumnElement[bool]]:
    tag = tables.tags.c

    def has(*names: str) -> ColumnElement[bool]:
        return exists().where(tag.resource_id == table.c.id, tag.tag.in_(names))

    def has_all(names: Sequence[str]) -> ColumnElement[bool]:
        return and_(*(has(name) for name in names))

    conditions = []
    if wanted.every is not None:
        conditions.append(has_all(wanted.every))
    if wanted.some is not None:
        conditions.append(has(*wanted.some))
    if wanted.not_every is not None:
        conditions.append(~has_all(wanted.not_every))
    if wanted.none is not None:
        conditions.append(~has(*wanted.none))
    return conditions


# Relations: what belongs to each object of a page.


def children(table: Table, owner: str) -> Relation:
    """`[{"id": …}]` of the rows of *table* by their column *owner*, oldest first (policies by position)."""
    order = table.c.position if "position" in table.c else table.c.created_at

    def read(connection: Connection, found: Sequence[str]) -> Mapping[str, Any]:
        statement = select(table.c[owner], table.c.id).where(table.c[owner].in_(found)).order_by(order, table.c.id)
        return _grouped(connection, statement)

    return read


def tags_of(connection: Connection, found: Sequence[str]) -> Mapping[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    tag = tables.tags.c
    for owner, name in connection.execute(select(tag.resource_id, tag.tag).where(tag.resource_id.in_(found))).all():
        grouped[owner].append(name)
    return grouped


def pool_listeners(connection: Connection, found: Sequence[str]) -> Mapping[str, Any]:
    """The listeners that use each pool: as default pool, or by an enabled policy with rules."""
    return _grouped(connection, listeners_of_pools(found))


def listeners_of_pools(pool_ids: Sequence[str]) -> Any:
    """(pool id, listener id), each pair once."""
    listener, policy, rule = tables.listeners.c, tables.l7policies.c, tables.l7rules.c
    redirecting = (
        policy.redirect_pool_id.in_(pool_ids), policy.admin_state_up, exists().where(rule.l7policy_id == policy.id),
    )
    return union(
        select(listener.default_pool_id.label("pool_id"), listener.id.label("listener_id"))
        .where(listener.default_pool_id.in_(pool_ids)),
        select(policy.redirect_pool_id, policy.listener_id).where(*redirecting),
    )


def _grouped(connection: Connection, statement: Any) -> Mapping[str, list[dict[str, str]]]:
    grouped: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for owner, id in connection.execute(statement).all():
        grouped[owner].append({"id": id})
    return grouped


def healthmonitor_id() -> ColumnElement[str]:
    """The pool's monitor; one that is being deleted only while no other took its place."""
    monitor = tables.health_monitors.c
    return (
        select(monitor.id).where(monitor.pool_id == tables.pools.c.id)
        .order_by(monitor.deleting, monitor.created_at.desc()).limit(1)
        .correlate(tables.pools).scalar_subquery()
    )


def shown_position() -> ColumnElement[int]:
    """1..n within the listener, without the gaps that removed policies leave."""
    policy, other = tables.l7policies.c, tables.l7policies.alias("other")
    return (
        select(func.count()).select_from(other)
        .where(other.c.listener_id == policy.listener_id, other.c.position <= policy.position)
        .correlate(tables.l7policies).scalar_subquery()
    )
