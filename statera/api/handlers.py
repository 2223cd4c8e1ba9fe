# SPDX-License-Identifier: Apache-2.0
"""The one way from a request to an answer that all kinds of a load balancer's tree share."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import uuid4

import falcon
import msgspec
from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Connection, Select, Table, bindparam, select

from statera.api import capabilities, delegate, faults, requests
from statera.api.acts import Act, Service
from statera.api.fields import changed, columns_of, posted, with_defaults, with_nulls
from statera.api.idempotency import Once, once
from statera.api.identity import Identity, identify
from statera.api.kinds import Kind, select_fields
from statera.api.rules.certificates import REFERENCES, references
from statera.config import ApiSettings
from statera.errors import BadRequest, Forbidden, ImmutableObject, NotFound
from statera.store import lists, tables, wishes
from statera.store.lists import Row

Values = Mapping[str, Any]


class Place(Struct, frozen=True):
    """Where an object is or goes: its load balancer, who owns that.

    *values* are what it holds now, or what the path adds to a new one.
    """

    lb_id: str
    project_id: str
    values: Values = {}


class Parent(Struct, frozen=True):
    """The object that a sub-collection's path goes through; *column* refers to it."""

    title: str
    table: Table
    column: str

    def find(self, connection: Connection, path: Mapping[str, str]) -> Row:
        row = find(connection, self.table, path["id"])
        if row is None:
            raise faults.UnknownParent(self.title, path["id"])
        return row


def _nothing(_service: Service, _identity: Identity, _place: Place, _values: Values) -> None:
    """Kinds whose requests need no look at the network."""


class Child(Struct, frozen=True, kw_only=True):
    """What is special about one kind.

    *place* finds the load balancer of a POST, *outside_post* and *outside_put* look at what only the network
    knows. *create* gets the whole object, *change* what was sent and the same with nulls resolved; both run
    under the load balancer's lock, check rules and states in their order, and write.
    """

    kind: Kind
    create: Callable[[Act, dict[str, Any]], str]
    change: Callable[[Act, Row, dict[str, Any]], None]
    remove: Callable[[Act, Row, Mapping[str, str]], None]
    place: Callable[[Connection, Values], Place]
    parent: Parent | None = None
    one_parent: bool = True
    outside_post: Callable[[Service, Identity, Place, Values], None] = _nothing
    outside_put: Callable[[Service, Identity, Place, Values], None] = _nothing
    delete_query: tuple[str, ...] = ()
    missing_object: str = ""


def find(connection: Connection, table: Table, id: str | None) -> Row | None:
    """The row, None if there is none; deleted load balancers are none."""
    row = connection.execute(_by_id(table), {"id": id}).mappings().one_or_none()
    return None if row is None else dict(row)


@cache
def _by_id(table: Table) -> Select[Any]:
    statement = select(table).where(table.c.id == bindparam("id"))
    return statement.where(table.c.deleted_at.is_(None)) if table is tables.load_balancers else statement


def found(connection: Connection, table: Table, id: str | None, *, title: str) -> Row:
    """The row. Raise `NotFound`."""
    row = find(connection, table, id)
    if row is None:
        raise NotFound(title, id)
    return row


def place_of(row: Row) -> Place:
    return Place(row.get("load_balancer_id") or row["id"], row["project_id"])


def respond(response: falcon.Response, document: object, *, status: int = 200) -> None:
    respond_encoded(response, msgspec.json.encode(document), status=status)


def respond_encoded(response: falcon.Response, document: bytes, *, status: int) -> None:
    response.status = status
    response.content_type = falcon.MEDIA_JSON
    response.data = document


def respond_nothing(response: falcon.Response, *, status: int = 204) -> None:
    response.status = status
    response.set_header("Content-Length", "0")


class Collection:
    """GET and POST of many."""

    def __init__(self, service: Service, child: Child) -> None:
        self.service, self.child, self.kind = service, child, child.kind

    def on_get(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        identity, query = identify(request.env), requests.query_of(request)
        if self.child.parent:
            with self.service.store.read() as connection:
                parent = self.child.parent.find(connection, path)
            self.service.policy.require(identity, f"{self.kind.policy}:get_all", project_id=parent["project_id"])
            where = [self.kind.table.c[self.child.parent.column] == parent["id"]]
        else:
            project_id = dict(query).get("project_id")
            query = tuple(pair for pair in query if pair[0] != "project_id")
            where = project_scope(self.service, identity, self.kind, project_id)
        respond(response, answer_page(self.service, request, self.kind, query=query, where=where))

    def on_post(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        kind, child, service, identity = self.kind, self.child, self.service, identify(request.env)
        requests.refuse_query(request)
        values = with_defaults(kind.fields, read_post(request, kind), service.settings)
        with service.store.read() as connection:
            place = child.place(connection, {**values, **path})
        service.policy.require(identity, f"{kind.policy}:post", project_id=place.project_id)

        def create(once: Once) -> bytes:
            child.outside_post(service, identity, place, values)
            secrets = service.materials(identity, values)
            with service.act(identity, place.lb_id, doing=f"{kind.title} post", secrets=secrets) as act:
                capabilities.provider(act.load_balancer["provider"], service.drivers)
                id = child.create(act, {**values, **place.values})
                if secrets:
                    act.keep_secrets(values)
                delegate.created(act, kind.table, id)
                answer = msgspec.json.encode({kind.name: kind.one(act.connection, id)})
                once.keep(act.connection, answer)
            return answer

        respond_encoded(response, once(service, request, identity, values).answer(create), status=201)

    def on_put(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Refused, but what is wrong with the body is said first."""
        if request.content_length:
            read_put(requests.body_of(request, self.kind.argument), self.kind)
        raise faults.missing("id")

    def on_delete(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        raise faults.missing("id")


class Item:
    """GET, PUT and DELETE of one."""

    def __init__(self, service: Service, child: Child) -> None:
        self.service, self.child, self.kind = service, child, child.kind
        self._id = "child_id" if child.parent else "id"

    def on_get(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        identity, query, id = identify(request.env), requests.query_of(request), path[self._id]
        if self.child.parent:
            self._locate(identity, "get_one", path)
        with self.service.store.read() as connection:
            row = self.kind.one(connection, id)
        if row is None:
            raise NotFound(self.kind.title, id)
        self.service.policy.require(identity, f"{self.kind.policy}:get_one", project_id=row["project_id"])
        wanted = requests.fields_of(query, self.service.settings.api_settings)
        respond(response, {self.kind.name: select_fields(row, wanted)})

    def on_put(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        kind, child, identity, id = self.kind, self.child, identify(request.env), path[self._id]
        requests.refuse_query(request)
        document = requests.body_of(request, kind.argument)
        sent = None if child.missing_object and not document.get(kind.name) else read_put(document, kind)
        place = self._locate(identity, "put", path)
        if sent is None:
            sent = {} if document.get(kind.name) == {} else refuse_missing(child.missing_object)
        child.outside_put(self.service, identity, place, sent)
        named = {**place.values, **sent} if any(references(sent)) else {}
        secrets = self.service.materials(identity, named)
        with self.service.act(identity, place.lb_id, doing=f"{kind.title} {id} put", secrets=secrets) as act:
            row = self._under_lock(act, id)
            if row["deleting"] and "version" not in row:
                raise ImmutableObject(kind.title, id)
            with delegate.changing(act, kind.table, id, sent=sent):
                child.change(act, row, sent)
                if any(name.endswith(REFERENCES) for name in sent):
                    act.keep_secrets(sent)
            changed_row = kind.one(act.connection, id)
        respond(response, {kind.name: changed_row})

    def on_delete(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        identity, id = identify(request.env), path[self._id]
        query = requests.refuse_query(request, but=self.child.delete_query)
        place = self._locate(identity, "delete", path)
        with self.service.act(identity, place.lb_id, doing=f"{self.kind.title} {id} delete") as act:
            row = self._under_lock(act, id)
            if act.strict or not row["deleting"]:
                with delegate.removing(act, self.kind.table, id, cascade=requests.is_true(query.get("cascade", ""))):
                    self.child.remove(act, row, query)
        respond_nothing(response)

    def _locate(self, identity: Identity, action: str, path: Mapping[str, str]) -> Place:
        """Existence of the parent and of the object, then access, then that they belong together."""
        parent = self.child.parent
        with self.service.store.read() as connection:
            owner = parent.find(connection, path) if parent else None
            row = found(connection, self.kind.table, path[self._id], title=self.kind.title)
        self.service.policy.require(identity, f"{self.kind.policy}:{action}", project_id=row["project_id"])
        if parent and owner and self.child.one_parent and row[parent.column] != owner["id"]:
            raise NotFound(self.kind.title, row["id"])
        return structs.replace(place_of(row), values=row)

    def _under_lock(self, act: Act, id: str) -> Row:
        if self.kind.table is not tables.load_balancers:
            return act.reload(self.kind.table, id, title=self.kind.title)
        if act.load_balancer["deleted_at"] is not None:
            raise NotFound(self.kind.title, id)
        return act.load_balancer


def read_post(request: falcon.Request, kind: Kind) -> dict[str, Any]:
    body = requests.inner(requests.body_of(request, kind.argument), kind.name, kind.argument)
    return posted(kind.fields, body, argument=f"{kind.argument}.{kind.name}")


def read_put(document: dict[str, Any], kind: Kind) -> dict[str, Any]:
    argument = kind.put_argument or kind.argument
    return changed(kind.fields, requests.inner(document, kind.name, argument), argument=f"{argument}.{kind.name}")


def refuse_missing(text: str) -> dict[str, Any]:
    raise BadRequest(text)


def resolved(kind: Kind, sent: Values, act: Act) -> dict[str, Any]:
    """The changes of a PUT with what its nulls stand for."""
    return with_nulls(kind.fields, sent, act.settings)


def add(act: Act, kind: Kind, values: Values, **more: Any) -> str:
    """Write a new object of the tree, with columns that no field names; its id."""
    return add_all(act, kind, [values], [more])[0]


def add_all(act: Act, kind: Kind, objects: Sequence[Values], more: Sequence[Values]) -> list[str]:
    """Write new objects of one kind, in two statements whatever their number; their ids."""
    ids = [str(uuid4()) for _ in objects]
    owner = {"load_balancer_id": act.lb_id, "project_id": act.project_id}
    rows = [
        {**columns_of(kind.fields, values), **owner, "id": id, **own}
        for id, values, own in zip(ids, objects, more, strict=True)
    ]
    wishes.add_rows(act.connection, kind.table, rows, version=act.version())
    wishes.add_tags(act.connection, {id: values["tags"] for id, values in zip(ids, objects, strict=True)})
    return ids


def alter(act: Act, kind: Kind, id: str, changes: Values) -> None:
    """Write the changes of one object of the tree and make it pending."""
    alter_all(act, kind, {id: changes})


def alter_all(act: Act, kind: Kind, changes: Mapping[str, Values]) -> None:
    """The same for many objects of one kind, by id, in a few statements whatever their number."""
    columns = {id: columns_of(kind.fields, values) for id, values in changes.items()}
    wishes.change_each(act.connection, kind.table, columns, version=act.version())
    tags = {id: values["tags"] for id, values in changes.items() if "tags" in values}
    if tags:
        wishes.set_tags(act.connection, tags)


# Lists.


def project_scope(
    service: Service, identity: Identity, kind: Kind, project_id: str | None
) -> list[ColumnElement[bool]]:
    """Whose objects a list shows: everybody's to those who may see them, else those of one project."""
    if not service.policy.allows(identity, f"{kind.policy}:get_all-global", project_id=project_id):
        project_id = project_id or identity.project_id
        if project_id is None:
            raise Forbidden
        service.policy.require(identity, f"{kind.policy}:get_all", project_id=project_id)
    return [] if project_id is None else [kind.table.c.project_id == project_id]


def answer_page(
    service: Service, request: falcon.Request, kind: Kind, *,
    query: requests.Query, where: Sequence[ColumnElement[bool]] = (),
) -> dict[str, Any]:
    """One page of objects with links to its neighbours."""
    settings = service.settings.api_settings
    page = requests.page_of(query, settings, keys=kind.view.keys)
    with service.store.read() as connection:
        try:
            rows = lists.read_page(connection, kind.view, page, where=where)
        except lists.UnknownMarker:
            raise BadRequest(f"Supplied pagination marker '{page.marker}' is not valid.") from None
    ends = [str(row[kind.key]) for row in (rows[:1] + rows[-1:])]
    wanted = requests.fields_of(query, settings)
    answers = [select_fields(kind.answer(row), wanted) for row in rows]
    full = page.limit is not None and len(rows) >= page.limit
    links = _links(base_of(request, settings), page, query=dict(query), ends=ends, full=full)
    return {kind.plural: answers, kind.links_key: links if settings.allow_pagination else None}


def base_of(request: falcon.Request, settings: ApiSettings) -> str:
    """The URL of the request's path as the caller sees it."""
    path = str(request.env.get("PATH_INFO", ""))
    return settings.api_base_uri.rstrip("/") + path if settings.api_base_uri else str(request.prefix) + path


def _links(
    url: str, page: lists.Page, *, query: Mapping[str, str], ends: Sequence[str], full: bool
) -> list[dict[str, str]]:
    sort = next((f"&{name}={query[name]}" for name in ("sort", "sort_key") if name in query), "")
    start, links = f"{url}?limit={page.limit}{sort}&marker=", []
    if ends and page.marker is not None:
        links.append({"href": f"{start}{ends[0]}&page_reverse=True", "rel": "previous"})
    if ends and full:
        links.append({"href": f"{start}{ends[-1]}", "rel": "next"})
    return links
