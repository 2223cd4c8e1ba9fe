# SPDX-License-Identifier: Apache-2.0
"""Where a load balancer comes from and goes to: its events, and what a controller would do now."""

from collections.abc import Callable, Mapping
from typing import Any

import falcon
from msgspec import structs

from statera.api import requests
from statera.api.acts import Service
from statera.api.handlers import base_of, found, respond
from statera.api.identity import identify
from statera.errors import BadRequest
from statera.store import events, tables

Forecast = Callable[[str], Mapping[str, Any]]
"""From a load balancer's id to what a controller would do now (for each step a stable word and a sentence) and why."""


class Events:
    """GET /loadbalancers/{id}/events: newest first."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        settings, query = self.service.settings.api_settings, requests.query_of(request)
        requests.refuse_query(request, but=("limit", "marker"))
        page = requests.page_of(query, settings, keys=())
        require_lb(self.service, request, id, "loadbalancer:get_one")
        with self.service.store.read() as connection:
            found = events.newest(connection, id, limit=page.limit, before=_before(page.marker))
        links = []
        if found and len(found) == page.limit:
            href = f"{base_of(request, settings)}?limit={page.limit}&marker={found[-1].id}"
            links.append({"href": href, "rel": "next"})
        respond(response, {"events": [structs.asdict(event) for event in found], "events_links": links})


def _before(marker: str | None) -> int | None:
    if marker is None:
        return None
    if not marker.isascii() or not marker.isdigit() or len(marker) > 18:
        raise BadRequest(f"Supplied pagination marker '{marker}' is not valid.")
    return int(marker)


class Plan:
    """GET /loadbalancers/{id}/plan, for those who may fail a load balancer over."""

    def __init__(self, service: Service, forecast: Forecast) -> None:
        self.service, self.forecast = service, forecast

    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        require_lb(self.service, request, id, "loadbalancer:put_failover")
        respond(response, self.forecast(id))


def require_lb(service: Service, request: falcon.Request, id: str, action: str) -> None:
    """The load balancer exists and the caller may do *action* to it. Raise `NotFound`, `Forbidden`."""
    with service.store.read() as connection:
        row = found(connection, tables.load_balancers, id, title="Load Balancer")
    service.policy.require(identify(request.env), action, project_id=row["project_id"])
