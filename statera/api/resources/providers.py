# SPDX-License-Identifier: Apache-2.0
"""Providers and what their flavors and zones may say."""

from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any

import falcon

from statera.api import capabilities, requests
from statera.api.acts import Service
from statera.api.capabilities import Provider
from statera.api.handlers import respond
from statera.api.identity import identify
from statera.api.kinds import select_fields


def routes(service: Service) -> list[tuple[str, object]]:
    return [
        ("/providers", Providers(service)),
        ("/providers/{provider}", Nothing()),
        ("/providers/{provider}/flavor_capabilities", Capabilities(
            service, "flavor_capabilities", "provider-flavor", methodcaller("flavors"))),
        ("/providers/{provider}/availability_zone_capabilities", Capabilities(
            service, "availability_zone_capabilities", "provider-availability-zone", methodcaller("zones"))),
    ]


class Nothing:
    """There is nothing to do with one provider: every verb is refused."""


class Providers:
    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        identity, settings = identify(request.env), self.service.settings.api_settings
        self.service.policy.require(identity, "provider:get_all", project_id=identity.project_id)
        wanted = requests.fields_of(requests.query_of(request), settings)
        respond(response, {"providers": [
            select_fields({"name": name, "description": text}, wanted)
            for name, text in settings.enabled_provider_drivers.items()
        ]})


class Capabilities:
    def __init__(
        self, service: Service, key: str, policy: str, read: Callable[[Provider], Mapping[str, str]]
    ) -> None:
        self.service, self.key, self.policy, self.read = service, key, policy, read

    def on_get(self, request: falcon.Request, response: falcon.Response, *, provider: str) -> None:
        identity, settings = identify(request.env), self.service.settings.api_settings
        self.service.policy.require(identity, f"{self.policy}:get_all", project_id=identity.project_id)
        known = self.read(capabilities.enabled(provider, settings.enabled_provider_drivers, self.service.drivers))
        query = requests.query_of(request)
        filters = {name: value for name, value in query if name in ("name", "description")}
        rows: list[dict[str, Any]] = [{"name": name, "description": text} for name, text in known.items()]
        wanted = requests.fields_of(query, settings)
        respond(response, {self.key: [
            select_fields(row, wanted) for row in rows if filters.items() <= row.items()
        ]})
