# SPDX-License-Identifier: Apache-2.0
"""Quotas: how much of each kind a project may have."""

from collections.abc import Mapping
from typing import Any

import falcon
from sqlalchemy import Connection

from statera.api import requests
from statera.api.acts import Service
from statera.api.fields import ABSENT, Field
from statera.api.handlers import answer_page, project_scope, read_put, respond, respond_nothing
from statera.api.identity import identify
from statera.api.kinds import Kind
from statera.api.types import Int
from statera.config import Quotas as Defaults
from statera.errors import NotFound
from statera.store import tables, wishes

LIMIT = Int(-1, 2_000_000_000)
SPELLINGS = (
    ("loadbalancer", "load_balancer"), ("load_balancer", "load_balancer"), ("listener", "listener"),
    ("member", "member"), ("pool", "pool"), ("healthmonitor", "health_monitor"),
    ("health_monitor", "health_monitor"), ("l7policy", "l7policy"), ("l7rule", "l7rule"),
)
"""Each attribute with its column; where two name one column, the first wins."""

KIND = Kind(
    name="quota", plural="quotas", title="Quotas", argument="quotas", policy="quota", table=tables.quotas,
    key="project_id", order=("project_id",), joined=False,
    fields=(Field(name="project_id"),
            *(Field(name=name, type=LIMIT, post=ABSENT, source=column) for name, column in SPELLINGS)),
)


def routes(service: Service) -> list[tuple[str, object]]:
    return [("/quotas", All(service)), ("/quotas/{id}", One(service)), ("/quotas/{id}/default", Default(service))]


def effective(project_id: str, row: Mapping[str, Any] | None, defaults: Defaults) -> dict[str, Any]:
    """What counts for the project: its own limits, else the configured ones."""
    limits = {}
    for name, column in SPELLINGS:
        own = row[name] if row else None
        limits[name] = getattr(defaults, f"default_{column}_quota") if own is None else own
    return {"project_id": project_id, **limits, "tenant_id": project_id}


class All:
    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        identity, query = identify(request.env), requests.query_of(request)
        where = project_scope(self.service, identity, KIND, dict(query).get("project_id"))
        kept = tuple(pair for pair in query if pair[0] not in ("project_id", "fields"))
        respond(response, answer_page(self.service, request, KIND, query=kept, where=where))


class One:
    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        self.service.policy.require(identify(request.env), "quota:get_one", project_id=id)
        with self.service.store.read() as connection:
            respond(response, {"quota": self._effective(connection, id)})

    def on_put(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        sent = read_put(requests.body_of(request, KIND.argument), KIND)
        self.service.policy.require(identify(request.env), "quota:put", project_id=id)
        limits = {column: sent[name] for name, column in reversed(SPELLINGS) if name in sent}
        with self.service.writing() as connection:
            wishes.set_quota(connection, id, limits)
            respond(response, {"quota": self._effective(connection, id)}, status=202)

    def on_delete(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        self.service.policy.require(identify(request.env), "quota:delete", project_id=id)
        with self.service.writing() as connection:
            if KIND.one(connection, id) is None:
                raise NotFound("Quotas", id)
            wishes.set_quota(connection, id, {column: None for _, column in SPELLINGS})
        respond_nothing(response, status=202)

    def _effective(self, connection: Connection, project_id: str) -> dict[str, Any]:
        return effective(project_id, KIND.one(connection, project_id), self.service.settings.quotas)


class Default:
    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        self.service.policy.require(identify(request.env), "quota:get_defaults", project_id=id)
        respond(response, {"quota": effective(id, None, self.service.settings.quotas)})
