# SPDX-License-Identifier: Apache-2.0
"""One row for each attribute of a resource: how it is asked for, stored and shown."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement

from statera.api.types import Tags, Text, parse_object
from statera.config import Settings
from statera.errors import InvalidOption
from statera.store.lists import Relation


class Word(Enum):
    """What a cell of a field table says when it holds no value."""

    REQUIRED = auto()
    ABSENT = auto()
    OPTIONAL = auto()
    DEFAULT = auto()
    KEEP = auto()
    REFUSE = auto()
    SAME = auto()


REQUIRED, ABSENT, OPTIONAL = Word.REQUIRED, Word.ABSENT, Word.OPTIONAL
"""In *post*: must be sent; is an unknown attribute; may be left out and then is not there at all."""
DEFAULT, KEEP, REFUSE, SAME = Word.DEFAULT, Word.KEEP, Word.REFUSE, Word.SAME
"""For null: take the POST default; as if not sent; 400; (*null_put*) as on POST."""

FromSettings = Callable[[Settings], Any]


class Field(Struct, frozen=True, kw_only=True):
    """An attribute, in the order of answers; rows that are never shown come last.

    *type* None makes it read-only. *post* is REQUIRED, ABSENT, OPTIONAL, a default, or a function of the
    settings. *null*, *null_put* say what an explicit null stands for. *source* is the column's name, an SQL
    expression, a `Relation` (read for a whole page at once) or None: not stored. *show* turns the stored
    value into the shown one. A field with *hide_null* is left out while it is null.
    """

    name: str
    type: Any = None
    post: Any = OPTIONAL
    put: bool = True
    null: Any = None
    null_put: Any = SAME
    source: str | ColumnElement[Any] | Relation | None = ""
    show: Callable[[Any], Any] | None = None
    shown: bool = True
    filtered: bool = True
    hide_null: bool = False

    @property
    def required(self) -> bool:
        return self.post is REQUIRED


class Change(Struct, frozen=True):
    """A field as PUT sees it: never required."""

    name: str
    type: Any
    required: bool = False


def posted(fields: Sequence[Field], body: Mapping[str, Any], *, argument: str) -> dict[str, Any]:
    """What a POST body says, null included."""
    return parse_object([field for field in fields if field.type and field.post is not ABSENT], body, argument)


def changed(fields: Sequence[Field], body: Mapping[str, Any], *, argument: str) -> dict[str, Any]:
    """What a PUT body says, null included."""
    changes = [Change(field.name, field.type) for field in fields if field.type and field.put]
    return parse_object(changes, body, argument)


def refuse_nulls(fields: Sequence[Field], sent: Mapping[str, Any]) -> None:
    """Raise for a null where none may be."""
    for field in fields:
        if field.null is REFUSE and sent.get(field.name, DEFAULT) is None:
            raise InvalidOption(None, field.name)


def with_defaults(fields: Sequence[Field], sent: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The whole object that a POST asks for."""
    values = {}
    for field in fields:
        if field.type is None or field.post is ABSENT:
            continue
        value = sent.get(field.name, DEFAULT)
        values[field.name] = _settled(field, field.null if value is None else value, settings)
    return {name: value for name, value in values.items() if value is not KEEP}


def with_nulls(fields: Sequence[Field], sent: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The changes that a PUT asks for, with what its nulls stand for."""
    values = {}
    for field in fields:
        if field.name in sent:
            null = field.null if field.null_put is SAME else field.null_put
            value = sent[field.name]
            values[field.name] = _settled(field, null if value is None else value, settings)
    return {name: value for name, value in values.items() if value is not KEEP}


def _settled(field: Field, value: Any, settings: Settings) -> Any:
    if value is REFUSE:
        raise InvalidOption(None, field.name)
    if value is not DEFAULT:
        return value
    if field.post in (REQUIRED, OPTIONAL):
        return None
    return field.post(settings) if callable(field.post) else field.post


def columns_of(fields: Sequence[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of *values* that is stored in the row itself, by column."""
    named = {field.name: field.source or field.name for field in fields if isinstance(field.source, str)}
    return {named[name]: value for name, value in values.items() if name in named}


def text(name: str, **more: Any) -> Field:
    """A `name` or `description`: at most 255 characters, never shown as null."""
    return Field(name=name, type=Text(255), post="", null="", **more)


def tags(tags_of: Relation) -> Field:
    return Field(name="tags", type=Tags(), post=[], null=[], null_put=KEEP, source=tags_of, filtered=False)


def ids(value: str | None) -> list[dict[str, str]]:
    """A reference as answers show it: a list of objects with nothing but an id."""
    return [] if value is None else [{"id": value}]
