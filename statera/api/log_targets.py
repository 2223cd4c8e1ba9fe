# SPDX-License-Identifier: Apache-2.0
"""Where a tenant wants the lines about connections sent, and what amphorae may use: two looks beside the resource."""

from typing import Any

import falcon
from sqlalchemy import Connection

from statera.api import requests
from statera.api.acts import Service
from statera.api.fields import REFUSE, REQUIRED, Field, posted, refuse_nulls
from statera.api.handlers import found, place_of, respond, respond_nothing
from statera.api.identity import identify
from statera.api.types import Text
from statera.errors import BadField, ProviderUnsupported
from statera.model.logs import target_of
from statera.model.providers import is_ours
from statera.model.status import Provisioning
from statera.store import limits, wishes
from statera.store.lists import Row
from statera.store.tables import load_balancers

FIELDS = (Field(name="url", type=Text(255), post=REQUIRED, null=REFUSE),)


class LogTarget:
    """GET, PUT and DELETE /loadbalancers/{id}/log_target; a change reaches the amphorae like any other wish."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        respond(response, {"log_target": {"url": self._row(request, id, "get")["log_target"]}})

    def on_put(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        sent = posted(FIELDS, requests.inner(requests.body_of(request, "log_target"), "log_target", "log_target"),
                      argument="log_target.log_target")
        refuse_nulls(FIELDS, sent)
        row = self._row(request, id, "put")
        url = checked(sent["url"])
        if not is_ours(row["provider"]):
            raise ProviderUnsupported(row["provider"], "log_target")
        self._want(request, row, url)
        respond(response, {"log_target": {"url": url}}, status=202)

    def on_delete(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        self._want(request, self._row(request, id, "delete"), None)
        respond_nothing(response, status=204)

    def _row(self, request: falcon.Request, id: str, verb: str) -> Row:
        with self.service.store.read() as connection:
            row = found(connection, load_balancers, id, title="Load Balancer")
        action = f"loadbalancer:{verb}_log_target"
        self.service.policy.require(identify(request.env), action, project_id=row["project_id"])
        return row

    def _want(self, request: falcon.Request, row: Row, url: str | None) -> None:
        doing = "Load Balancer log target put" if url else "Load Balancer log target delete"
        with self.service.act(identify(request.env), place_of(row).lb_id, doing=doing) as act:
            act.require_lb_state(Provisioning.ACTIVE, Provisioning.ERROR)
            if act.load_balancer["log_target"] != url:
                wishes.change_load_balancer(act.connection, act.lb_id, log_target=url)
                act.version()


def checked(url: str) -> str:
    """The target in its one form. Raise `BadField` that says what it should be."""
    try:
        return str(target_of(url))
    except ValueError as error:
        raise BadField("url", url, f"Value {error}") from None


def limits_of(connection: Connection, id: str) -> dict[str, Any]:
    """What the flavor says and what came of it on the nodes, with what is the matter just now."""
    row = found(connection, load_balancers, id, title="Load Balancer")
    flavor = limits.of_flavor(connection, row["flavor_id"])
    return {"limits": {
        **{name: getattr(flavor, name) for name in limits.FIELDS},
        "amphorae": limits.effective(connection, id)}}
