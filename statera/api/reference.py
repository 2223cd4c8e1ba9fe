# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document as a person reads it: sections of operations and tables of attributes."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

Document = Mapping[str, Any]


class Call(Struct, frozen=True):
    """One verb of one path; *query* are its parameters, *answers* its status codes."""

    verb: str
    path: str
    summary: str
    rule: str
    query: tuple[tuple[str, str], ...]
    answers: tuple[str, ...]


class Attribute(Struct, frozen=True):
    """One row of a kind's table: *create* and *change* say what POST and PUT make of it."""

    name: str
    type: str
    create: str
    change: str
    shown: str
    meaning: str


class Section(Struct, frozen=True):
    title: str
    calls: tuple[Call, ...]
    attributes: tuple[Attribute, ...]


def sections(document: Document) -> list[Section]:
    """All kinds in the document's order."""
    return [Section(tag["name"], tuple(_calls(document, tag["name"])), tuple(_attributes(document, tag["name"])))
            for tag in document["tags"]]


def _operations(document: Document, title: str) -> Iterator[tuple[str, str, Document]]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if title in operation["tags"]:
                yield verb.upper(), path, operation


def _calls(document: Document, title: str) -> Iterator[Call]:
    for verb, path, operation in _operations(document, title):
        query = tuple((each["name"], each["description"]) for each in operation["parameters"] if each["in"] == "query")
        rule = operation["description"].split("`")[1]
        yield Call(verb, path, operation["summary"], rule, query, tuple(operation["responses"]))


def _attributes(document: Document, title: str) -> Iterator[Attribute]:
    """The rows of the kind that the section's POST or single GET is about."""
    schemas = document["components"]["schemas"]
    kind = _kind(document, title)
    if kind is None:
        return
    names = (f"{kind}_create", f"{kind}_update", kind)
    create, change, shown = (schemas.get(name, {"properties": {}}) for name in names)
    for name in dict.fromkeys([*shown["properties"], *create["properties"]]):
        schema = create["properties"].get(name) or change["properties"].get(name) or shown["properties"][name]
        yield Attribute(
            name, type_text(schema), _create_text(create, name), "yes" if name in change["properties"] else "",
            "yes" if name in shown["properties"] else "", schema["description"],
        )


def _kind(document: Document, title: str) -> str | None:
    """The name of the section's schema: the last root that one of its answers has and that is a kind's."""
    roots = (root for _, _, operation in _operations(document, title) for root in _roots(operation))
    return next((root for root in roots if root in document["components"]["schemas"]), None)


def _roots(operation: Document) -> Iterator[str]:
    for answer in operation["responses"].values():
        yield from answer.get("content", {}).get("application/json", {}).get("schema", {}).get("properties", ())


def _create_text(create: Document, name: str) -> str:
    if name not in create["properties"]:
        return ""
    if name in create.get("required", ()):
        return "required"
    default = create["properties"][name].get("default")
    return "optional" if default is None or default in ("", [], {}) else f"={str(default).lower()}"


def type_text(schema: Document) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1].replace("_", " ")
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"] if value is not None)
    if "type" not in schema:
        return next(type_text(each) for each in schema["anyOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return WORDS[kinds[0]](schema)


def _string(schema: Document) -> str:
    if "anyOf" in schema:
        return "IP address"
    if schema.get("format") in ("uuid", "uri"):
        return {"uuid": "UUID", "uri": "URL"}[schema["format"]]
    return f"text of at most {schema['maxLength']}" if "maxLength" in schema else "text"


def _integer(schema: Document) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return "integer"
    return f"integer from {low}" if high is None else f"integer {low} to {high}"


def _object(schema: Document) -> str:
    return "object" if "properties" not in schema else "object of " + ", ".join(schema["properties"])


WORDS = {
    "string": _string,
    "integer": _integer,
    "number": lambda _schema: "number",
    "boolean": lambda _schema: "boolean",
    "array": lambda schema: f"list of {type_text(schema['items'])}",
    "object": _object,
}
