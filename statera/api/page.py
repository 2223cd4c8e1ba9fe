# SPDX-License-Identifier: Apache-2.0
"""`/openapi.json` for programs and `/docs` for people: made once each, readable without a token."""

import functools
from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import falcon
import msgspec

from statera.api import openapi, reference
from statera.api.reference import Attribute, Call, Section

PATHS = ("/openapi.json", "/docs")
"""Public, and with content types of their own."""


class Written:
    """GET of something that never changes while the process runs; it is written when first asked for."""

    def __init__(self, write: Callable[[], bytes], content_type: str) -> None:
        self._write, self._content_type = functools.cache(write), content_type

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.content_type = self._content_type
        response.set_header("Cache-Control", "max-age=3600")
        response.data = self._write()


def routes(described: Sequence[tuple[str, object]]) -> list[tuple[str, Written]]:
    """The two paths, about the routes that are *described*."""

    def program() -> bytes:
        return msgspec.json.encode(openapi.document(described))

    def person() -> bytes:
        return html(openapi.document(described)).encode()

    return [
        ("/openapi.json", Written(program, falcon.MEDIA_JSON)),
        ("/docs", Written(person, "text/html; charset=utf-8")),
    ]


def html(document: dict[str, Any]) -> str:
    """One page that needs nothing from elsewhere."""
    info, found = document["info"], reference.sections(document)
    links = "".join(f'<a href="#{_anchor(each.title)}">{escape(each.title)}</a>' for each in found)
    style = files("statera.api").joinpath("page.css").read_text()
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head><body>'
        f'<nav><b>{escape(info["title"])} {escape(info["version"])}</b>{links}'
        f'<a href="openapi.json">openapi.json</a></nav><main><p>{escape(info["description"])}</p>'
        f'{"".join(_section(each) for each in found)}</main></body></html>'
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _section(section: Section) -> str:
    calls = "".join(_call(call) for call in section.calls)
    table = _table(("attribute", "type", "POST", "PUT", "shown", "meaning"), map(_cells, section.attributes))
    return f'<h2 id="{_anchor(section.title)}">{escape(section.title)}</h2>{calls}{table if section.attributes else ""}'


def _call(call: Call) -> str:
    query = _table(("query parameter", "meaning"), call.query) if call.query else ""
    return (
        f"<details><summary><code class={call.verb}>{call.verb}</code> <code>{escape(call.path)}</code> "
        f"{escape(call.summary)}</summary><p>Rule <code>{escape(call.rule)}</code>. "
        f"Answers {', '.join(call.answers)}.</p>{query}</details>"
    )


def _cells(attribute: Attribute) -> tuple[str, ...]:
    return attribute.name, attribute.type, attribute.create, attribute.change, attribute.shown, attribute.meaning


def _table(heads: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
