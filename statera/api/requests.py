# SPDX-License-Identifier: Apache-2.0
"""What a request says: its JSON body and its query, with the faults of ill-formed ones."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

import falcon
import msgspec

from statera.api import faults
from statera.config import ApiSettings
from statera.errors import BadRequest, UnsupportedMediaType
from statera.store.lists import TRUE_WORDS, Page, TagFilter

FORM = "application/x-www-form-urlencoded"


def body_of(request: falcon.Request, argument: str) -> dict[str, Any]:
    """The JSON object that was sent."""
    raw = request.bounded_stream.read()
    media_type = (request.content_type or "").split(";")[0].strip().lower()
    if not raw:
        raise faults.missing(argument)
    if media_type == FORM:
        raise faults.unknown_argument("body")
    if media_type != falcon.MEDIA_JSON:
        raise UnsupportedMediaType(media_type)
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("Request is not in valid JSON format") from None
    if not isinstance(document, dict):
        raise BadRequest("Request must be a JSON dict")
    return document


def inner(document: Mapping[str, Any], root: str, argument: str, *, shape: type = dict) -> Any:
    """What stands under the one root key: an object, or what *shape* says."""
    unknown = [key for key in document if key != root]
    if unknown:
        raise BadRequest(f"Unknown attribute{'s'[:len(unknown) - 1]} for argument {argument}: {', '.join(unknown)}")
    if document.get(root) is None:
        raise faults.missing(argument)
    if not isinstance(document[root], shape):
        raise BadRequest(f"Invalid input for field/attribute {root}. Value: '{document[root]}'. Not an object.")
    return document[root]


def expect_nothing(request: falcon.Request) -> None:
    """For requests that do something without saying more: no body, or an empty object."""
    raw = request.bounded_stream.read().strip()
    if raw not in (b"", b"{}"):
        raise BadRequest(f"Unknown argument: \"{raw[:40].decode(errors='replace')}\"")


NUL = "\0"
Query = tuple[tuple[str, str], ...]


def query_of(request: falcon.Request) -> Query:
    """The pairs of the query. Raise for a character that no database takes."""
    pairs = tuple(parse_qsl(request.query_string, keep_blank_values=True))
    if any(NUL in word for pair in pairs for word in pair):
        raise BadRequest("The query holds a NUL character.")
    return pairs


def refuse_query(request: falcon.Request, *, but: Collection[str] = ()) -> dict[str, str]:
    """The query keys of a request that knows only those of *but*."""
    query = dict(query_of(request))
    for name in query:
        if name not in but:
            raise faults.unknown_argument(name)
    return query


def is_true(word: str) -> bool:
    """Lenient truth of a query value."""
    return word.strip().lower() in TRUE_WORDS


PAGING = frozenset({"limit", "marker", "page_reverse"})
SORTING = frozenset({"sort", "sort_key", "sort_dir"})
TAGS = {"tags": "every", "tags-any": "some", "not-tags": "not_every", "not-tags-any": "none"}
RESERVED = PAGING | SORTING | TAGS.keys() | {"fields"}


def fields_of(query: Query, settings: ApiSettings) -> list[str] | None:
    """The attributes that are asked for, None for all. Repeated, never joined by commas."""
    wanted = [value for name, value in query if name == "fields"]
    return wanted if wanted and settings.allow_field_selection else None


def page_of(query: Query, settings: ApiSettings, *, keys: Collection[str]) -> Page:
    """Which page is asked for. Raise the faults of bad limits, sort keys, directions and filters."""
    once = dict(query)
    paging = once if settings.allow_pagination else {}
    return Page(
        filters=_filters(query, keys) if settings.allow_filtering else (),
        tags=_tags(query) if settings.allow_filtering else TagFilter(),
        sort=_sort(once, keys) if settings.allow_sorting else (),
        limit=_limit(paging.get("limit"), settings),
        marker=paging.get("marker"),
        reverse=paging.get("page_reverse") == "True",
    )


def _filters(query: Query, keys: Collection[str]) -> tuple[tuple[str, str], ...]:
    filters = [(name, value) for name, value in query if name not in RESERVED]
    if len(dict(filters)) < len(filters) or any(name not in keys for name, _ in filters):
        raise BadRequest("One or more arguments are either duplicate or invalid")
    return tuple(filters)


def _tags(query: Query) -> TagFilter:
    given: dict[str, tuple[str, ...]] = {}
    for name, value in query:
        if name in TAGS:
            given[TAGS[name]] = given.get(TAGS[name], ()) + tuple(value.split(","))
    return TagFilter(**given)


def _sort(once: Mapping[str, str], keys: Collection[str]) -> tuple[tuple[str, bool], ...]:
    sort = []
    for key, direction in _sort_words(once):
        if direction.lower() not in ("asc", "desc"):
            raise faults.Plain(f"Supplied sort direction '{direction}' is not valid.")
        if key not in keys:
            raise BadRequest(f"Supplied sort key '{key}' is not valid.")
        sort.append((key, direction.lower() == "desc"))
    return tuple(sort)


def _sort_words(once: Mapping[str, str]) -> list[tuple[str, str]]:
    if once.get("sort"):
        pairs = [word.strip().split(":") for word in once["sort"].split(",")]
        for pair in pairs:
            if len(pair) > 2:
                raise faults.Plain(f"Supplied sort key '{':'.join(pair)}' is not valid.")
        return [(pair[0], pair[1] if len(pair) == 2 else "asc") for pair in pairs]
    names = [word.strip() for word in once.get("sort_key", "").split(",") if word.strip()]
    directions = [word.strip() for word in once.get("sort_dir", "").split(",") if word.strip()]
    return list(zip(names, directions + ["asc"] * len(names), strict=False))


LARGEST_LIMIT = 2**31 - 1


def largest_page(settings: ApiSettings) -> int | None:
    word = settings.pagination_max_limit
    return None if word.lower() == "infinite" or int(word) <= 0 else int(word)


def _limit(given: str | None, settings: ApiSettings) -> int | None:
    largest = largest_page(settings)
    if not settings.allow_pagination:
        return None
    if given is None:
        return largest
    if given == "infinite":
        return None
    try:
        limit = int(given)
    except ValueError:
        raise faults.Plain(f"Supplied pagination limit '{given}' is not valid.") from None
    if limit <= 0:
        return None
    return min(limit, LARGEST_LIMIT if largest is None else largest)
