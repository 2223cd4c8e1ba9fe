# SPDX-License-Identifier: Apache-2.0
"""The part of Neutron's v2.0 API that Octavia's clients need, as routes of a Falcon app.

Networks, subnets and ports can be listed, shown, created, renamed and deleted. The bridge that carries a
network is its `provider:physical_network`: an administrator may name one that exists, others are made.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec

import falcon
import msgspec
from msgspec import Struct

from statera.api.standalone.networks import Desk, Shown, Who
from statera.errors import ApiError, BadField, BadRequest, Forbidden, NotFound
from statera.store.networks import NetworkBook

PAGING = frozenset({"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"})
WRITERS = frozenset({"admin", "member", "load-balancer_member"})
"""Roles that may make, change and delete what is their project's; everybody else only looks."""

P = ParamSpec("P")
Responder = Callable[Concatenate[Any, falcon.Request, falcon.Response, P], None]


class Kind(Struct, frozen=True, kw_only=True):
    """A kind of object: its word, and who does what."""

    name: str
    rows: Callable[[Desk, Who], list[Shown]]
    create: Callable[[Desk, Shown, Who], str]
    delete: Callable[[Desk, str], None]

    @property
    def plural(self) -> str:
        return f"{self.name}s"


KINDS = (
    Kind(name="network", rows=Desk.networks, create=Desk.create_network, delete=Desk.delete_network),
    Kind(name="subnet", rows=Desk.subnets, create=Desk.create_subnet, delete=Desk.delete_subnet),
    Kind(name="port", rows=Desk.ports, create=Desk.create_port, delete=Desk.delete_port),
)


def mount(book: NetworkBook, prefix: str = "/network") -> Callable[[falcon.App[Any, Any]], None]:
    """Adds the routes below *prefix* to an app, whose middleware has to authenticate the callers."""
    desk = Desk(book)

    def add(app: falcon.App[Any, Any]) -> None:
        for path in ("", "/", "/v2.0", "/v2.0/"):
            app.add_route(f"{prefix}{path}", Versions())
        app.add_route(f"{prefix}/v2.0/extensions", Extensions())
        for path, plural in NOTHING_OF.items():
            app.add_route(f"{prefix}/v2.0/{path}", Nothing(plural))
        for kind in KINDS:
            app.add_route(f"{prefix}/v2.0/{kind.plural}", Collection(desk, kind))
            app.add_route(f"{prefix}/v2.0/{kind.plural}/{{id}}", Item(desk, kind))

    return add


def faults(responder: Responder[P]) -> Responder[P]:
    """Answer an `ApiError` in Neutron's way."""

    def answer(resource: Any, req: falcon.Request, resp: falcon.Response, /, *args: P.args, **kw: P.kwargs) -> None:
        try:
            responder(resource, req, resp, *args, **kw)
        except ApiError as error:
            resp.status = error.status
            resp.media = {"NeutronError": {"type": type(error).__name__, "message": str(error), "detail": ""}}

    return answer


class Versions:
    """GET: the version document, from which clients find v2.0."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        root = req.uri.partition("?")[0].rstrip("/").removesuffix("/v2.0")
        links = [{"rel": "self", "href": f"{root}/v2.0/"}]
        resp.media = {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}


NOTHING_OF = {"floatingips": "floatingips", "routers": "routers", "security-groups": "security_groups"}
"""Path and word of what these networks do not have, but clients look for: Ansible asks for a VIP's floating IPs."""


class Nothing:
    """A collection that is always empty."""

    def __init__(self, plural: str) -> None:
        self._plural = plural

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.media = {self._plural: []}


class Extensions:
    """GET: none, which keeps clients from asking for more."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"extensions": []}


class Collection:
    """All objects of a kind that the caller sees."""

    def __init__(self, desk: Desk, kind: Kind) -> None:
        self.desk, self.kind = desk, kind

    @faults
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        rows = self.kind.rows(self.desk, caller(req))
        resp.media = {self.kind.plural: choose(rows, filters(req.params), req.params)}

    @faults
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        who = writer(req)
        id = self.kind.create(self.desk, body_of(req, self.kind), who)
        resp.status = HTTPStatus.CREATED
        resp.media = {self.kind.name: one(self.desk, self.kind, id, who)}


class Item:
    """One object."""

    def __init__(self, desk: Desk, kind: Kind) -> None:
        self.desk, self.kind = desk, kind

    @faults
    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        resp.media = {self.kind.name: one(self.desk, self.kind, id, caller(req))}

    @faults
    def on_put(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        own(self.desk, self.kind, id, writer(req))
        self.desk.rename(self.kind.plural, id, body_of(req, self.kind))
        self.on_get(req, resp, id)

    @faults
    def on_delete(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        own(self.desk, self.kind, id, writer(req))
        self.kind.delete(self.desk, id)
        resp.status = HTTPStatus.NO_CONTENT


def caller(req: falcon.Request) -> Who:
    """From the headers of whoever authenticated the request."""
    return Who(req.get_header("X-Project-Id"), "admin" in roles(req))


def writer(req: falcon.Request) -> Who:
    """The caller; raise `Forbidden` for one who may only look."""
    if WRITERS.isdisjoint(roles(req)):
        raise Forbidden()
    return caller(req)


def roles(req: falcon.Request) -> set[str]:
    return {role.strip() for role in (req.get_header("X-Roles") or "").split(",")}


def one(desk: Desk, kind: Kind, id: str, who: Who) -> Shown:
    for row in kind.rows(desk, who):
        if row["id"] == id:
            return row
    raise NotFound(kind.name.capitalize(), id)


def own(desk: Desk, kind: Kind, id: str, who: Who) -> None:
    """Raise unless the caller may change the object: seeing a shared one is not enough."""
    if not (who.is_admin or one(desk, kind, id, who)["project_id"] == who.project_id):
        raise Forbidden()


def body_of(req: falcon.Request, kind: Kind) -> Shown:
    """What the body says of the object; raise `BadRequest` when it is no such body."""
    try:
        body = msgspec.json.decode(req.bounded_stream.read(), type=dict[str, dict[str, Any]])
    except msgspec.DecodeError as error:
        raise BadRequest(f"Invalid body: {error}") from error
    if set(body) != {kind.name}:
        raise BadRequest(f"Unable to find '{kind.name}' in request body")
    return body[kind.name]


def filters(params: Mapping[str, str | list[str]]) -> dict[str, list[str]]:
    """Each named field with the values that count."""
    named = {field: value for field, value in params.items() if field not in PAGING}
    return {field: value if isinstance(value, list) else [value] for field, value in named.items()}


def choose(
    rows: Sequence[Shown], wanted: Mapping[str, list[str]], params: Mapping[str, str | list[str]]
) -> list[Shown]:
    """The rows that have the *wanted* values, after the marker and up to the limit, with the fields asked for."""
    for field in wanted:
        if any(field not in row for row in rows):
            raise BadField(field, ", ".join(wanted[field]), "There is no such filter.")
    found = [row for row in rows if all(_same(row[field], values) for field, values in wanted.items())]
    page = _page(found, params.get("marker"), params.get("limit"))
    fields = params.get("fields", [])
    names = [fields] if isinstance(fields, str) else fields
    return [{name: row[name] for name in names if name in row} for row in page] if names else page


def _same(value: Any, texts: Sequence[str]) -> bool:
    return str(value).lower() in {text.lower() for text in texts}


def _page(rows: list[Shown], marker: str | list[str] | None, limit: str | list[str] | None) -> list[Shown]:
    ids = [row["id"] for row in rows]
    if marker is not None and marker not in ids:
        raise BadField("marker", marker, "There is no such object.")
    if limit is not None and not str(limit).isdigit():
        raise BadField("limit", limit, "It must be a number.")
    start = ids.index(str(marker)) + 1 if marker else 0
    return rows[start:start + int(str(limit))] if limit else rows[start:]
