# SPDX-License-Identifier: Apache-2.0
"""What the field tables say, as JSON Schema (2020-12)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Integer, String

from statera.api import tree, types
from statera.api.fields import ABSENT, DEFAULT, KEEP, OPTIONAL, REFUSE, Field, ids
from statera.api.kinds import Kind
from statera.api.meanings import meaning
from statera.model.status import Operating, Provisioning
from statera.store.lists import tags_of

Schema = dict[str, Any]

MOMENT: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$"}
"""UTC, without a zone."""
REFERENCES: Schema = {"type": "array", "items": {
    "type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}, "required": ["id"],
    "additionalProperties": False}}
ADDRESS: Schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}

STATUSES: Mapping[str, Schema] = {
    "provisioning_status": {"type": "string", "enum": [str(status) for status in Provisioning]},
    "operating_status": {"type": "string", "enum": [str(status) for status in Operating]},
}
IN_TREE = {"pool": tree.POOL, "listener": tree.LISTENER}
"""What may stand in a load balancer's POST, and is long enough to deserve a name of its own."""
ONE_OF = {"members": "member", "l7policies": "l7policy", "rules": "rule"}
"""Lists of whole objects, and the kind of one."""


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def of_type(type: Any, *, inside: str = "") -> Schema:
    """What a request may hold for a field of this type; null apart. *inside* is the field's own name."""
    match type:
        case types.Tags():
            return {"type": "array", "items": of_type(types.Text(255)), "uniqueItems": True}
        case types.Text():
            return _given(type="string", minLength=type.shortest or None, maxLength=type.longest, pattern=type.pattern)
        case types.Int():
            return _given(type="integer", minimum=type.smallest, maximum=type.largest)
        case types.Enum() | types.Number():
            return {"type": _json_type(type.values[0]), "enum": list(type.values)}
        case types.ListOf():
            return {"type": "array", "items": of_type(type.item, inside=inside)}
        case types.MapOf():
            return {"type": "object", "additionalProperties": of_type(type.item)}
        case types.Nested():
            named = next((name for name, parts in IN_TREE.items() if parts is type.parts), None)
            return ref(f"{named}_in_tree") if named else request(ONE_OF.get(inside, inside), type.parts)
    return dict(PLAIN[type.__class__])


PLAIN: Mapping[Any, Schema] = {
    types.Uuid: {"type": "string", "format": "uuid"},
    types.Bool: {"type": "boolean"},
    types.Ip: ADDRESS,
    types.Cidr: {"type": "string", "examples": ["192.0.2.0/24"]},
    types.Url: {"type": "string", "format": "uri", "pattern": "^https?://"},
    types.UrlPath: {"type": "string", "pattern": "^/"},
    types.Alpn: {"type": "string", "enum": ["h2", "http/1.1", "http/1.0"]},
}


def _given(**words: Any) -> Schema:
    return {word: value for word, value in words.items() if value is not None}


def _json_type(value: object) -> str:
    return {str: "string", int: "integer", float: "number"}[value.__class__]


def or_null(schema: Schema) -> Schema:
    """The schema, and null."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    nullable = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        nullable["enum"] = [*schema["enum"], None]
    if "anyOf" in schema:  # formats, which say nothing about null
        nullable["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return nullable


def _object(properties: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": dict(properties), **needed, "additionalProperties": False}


def request(kind: str, fields: Sequence[Field], *, changes: bool = False) -> Schema:
    """The body of a POST, or of a PUT when *changes*, below its root key."""
    asked = [field for field in fields if field.type and (field.put if changes else field.post is not ABSENT)]
    required = [] if changes else [field.name for field in asked if field.required]
    return _object({field.name: _asked(kind, field, changes=changes) for field in asked}, required)


def _asked(kind: str, field: Field, *, changes: bool) -> Schema:
    schema = of_type(field.type, inside=field.name)
    if field.null is not REFUSE:
        schema = or_null(schema)
    default = {} if changes or not _has_default(field) else {"default": field.post}
    return {**schema, **default, "description": meaning(kind, field.name)}


def _has_default(field: Field) -> bool:
    nothing = (None, DEFAULT, KEEP, OPTIONAL, ABSENT)
    return not (field.required or field.post in nothing or callable(field.post))


# Answers.

SQL_TYPES: Sequence[tuple[type, Schema]] = (
    (Boolean, {"type": "boolean"}), (Integer, {"type": "integer"}), (Float, {"type": "number"}),
    (DateTime, MOMENT), (JSON, {"type": "string"}), (String, {"type": "string"}),
)


def answer(kind: Kind) -> Schema:
    """One object as it is shown; which attributes may be left out depends on the request."""
    shown = {field.name: _shown(kind, field) for field in kind.fields if field.shown}
    if kind.owned:
        shown["tenant_id"] = {"type": "string", "description": meaning(kind.name, "tenant_id")}
    return _object(shown)


def always(kind: Kind) -> list[str]:
    """The attributes that a whole answer never lacks."""
    names = [field.name for field in kind.fields if field.shown and not field.hide_null]
    return [*names, "tenant_id"] if kind.owned else names


def _shown(kind: Kind, field: Field) -> Schema:
    return {**_shown_type(kind, field), "description": meaning(kind.name, field.name)}


def _shown_type(kind: Kind, field: Field) -> Schema:
    if field.name in STATUSES:
        return dict(STATUSES[field.name])
    if field.source is tags_of:
        return {"type": "array", "items": {"type": "string"}}
    if field.show is ids or field.name in kind.view.relations:
        return dict(REFERENCES)
    if field.show not in (None, sorted):
        return {"type": ["string", "null"]}
    schema = _with_nulls(of_type(field.type, inside=field.name)) if field.type else _of_column(kind, field)
    return or_null(schema) if _nullable(kind, field) else schema


def _of_column(kind: Kind, field: Field) -> Schema:
    kept = kind.view.columns[field.name]
    assert kept is not None, "relations are shown apart"
    return dict(next(schema for sql, schema in SQL_TYPES if isinstance(kept.type, sql)))


def _with_nulls(schema: Schema) -> Schema:
    """Objects inside answers have all their attributes; those that nobody set are null."""
    if "items" in schema:
        return {**schema, "items": _with_nulls(schema["items"])}
    return {**schema, "required": list(schema["properties"])} if "properties" in schema else schema


def _nullable(kind: Kind, field: Field) -> bool:
    kept = kind.view.columns[field.name]
    return field.null != "" and (not isinstance(kept, Column) or bool(kept.nullable))


def whole(kind: Kind, *, without: Sequence[str] = (), **children: Schema) -> Schema:
    """The object as the answer to a tree's POST shows it: its *children* are whole objects, in front."""
    shown = {**children, **answer(kind)["properties"], **children}
    return _object(
        {name: schema for name, schema in shown.items() if name not in without},
        [*(name for name in children if name not in without), *(
            name for name in always(kind) if name not in without and name not in children)],
    )
