# SPDX-License-Identifier: Apache-2.0
"""Amphorae, for administrators."""

from collections.abc import Callable, Sequence
from typing import Any

import falcon
from sqlalchemy import Connection, case, func, literal, null, select

from statera.api import requests
from statera.api.acts import Service
from statera.api.fields import Field
from statera.api.handlers import answer_page, found, respond, respond_nothing
from statera.api.identity import identify
from statera.api.kinds import Kind, select_fields
from statera.errors import ImmutableObject, NotFound
from statera.model.fleet import Role
from statera.store import statistics, wishes
from statera.store.tables import amphorae, load_balancers, nodes

STATUS = case(
    (amphorae.c.leaving, "PENDING_DELETE"), (amphorae.c.applied_version > 0, "ALLOCATED"),
    (amphorae.c.node_id.is_not(None), "BOOTING"), else_="PENDING_CREATE",
)
PRIORITY = case((amphorae.c.role == Role.MASTER, 100), (amphorae.c.role == Role.BACKUP, 90), else_=null())
CERTIFICATE = (
    select(nodes.c.certificate_expires_at).where(nodes.c.id == amphorae.c.node_id).correlate(amphorae)
    .scalar_subquery()
)


def _of_vip_port(name: str) -> Callable[[Sequence[dict[str, Any]]], Any]:
    """The amphora's first port is the one on the VIP network."""
    return lambda ports: ports[0][name] if ports else None


FIELDS = (
    Field(name="id"),
    Field(name="loadbalancer_id", source="load_balancer_id"),
    Field(name="compute_id"),
    Field(name="lb_network_ip"),
    Field(name="vrrp_ip", source="ports", show=_of_vip_port("ip_address"), filtered=False),
    Field(name="ha_ip", source=load_balancers.c.vip_address),
    Field(name="vrrp_port_id", source="ports", show=_of_vip_port("port_id"), filtered=False),
    Field(name="ha_port_id", source=load_balancers.c.vip_port_id),
    Field(name="cert_expiration", source=func.coalesce(amphorae.c.cert_expiration, CERTIFICATE)),
    Field(name="cert_busy", source=literal(False)),
    Field(name="role"),
    Field(name="status", source=STATUS),
    Field(name="vrrp_interface", source=literal("eth1")),
    Field(name="vrrp_id", source=literal(1)),
    Field(name="vrrp_priority", source=PRIORITY),
    Field(name="cached_zone"),
    Field(name="created_at"),
    Field(name="updated_at"),
    Field(name="image_id"),
    Field(name="compute_flavor"),
)

KIND = Kind(
    name="amphora", plural="amphorae", title="Amphora", argument="amphora", policy="amphora", table=amphorae,
    fields=FIELDS, where=(amphorae.c.deleted_at.is_(None),), owned=False,
    aliases={"project_id": load_balancers.c.project_id, "load_balancer_id": "load_balancer_id"},
)


def routes(service: Service) -> list[tuple[str, object]]:
    return [
        ("/amphorae", All(service)), ("/amphorae/{id}", One(service)), ("/amphorae/{id}/stats", Statistics(service)),
        ("/amphorae/{id}/failover", Failover(service)), ("/amphorae/{id}/config", Configure(service)),
    ]


class Desk:
    def __init__(self, service: Service) -> None:
        self.service = service

    def admit(self, request: falcon.Request, action: str, *, project_id: str | None = None) -> None:
        identity = identify(request.env)
        owner = project_id or identity.project_id
        self.service.policy.require(identity, f"amphora:{action}", project_id=owner)

    def load_balancer_of(self, id: str) -> dict[str, Any]:
        with self.service.store.read() as connection:
            row = shown(connection, id)
            return found(connection, load_balancers, row["loadbalancer_id"], title="Load Balancer")


def shown(connection: Connection, id: str) -> dict[str, Any]:
    row = KIND.one(connection, id)
    if row is None:
        raise NotFound("Amphora", id)
    return row


class All(Desk):
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self.admit(request, "get_all")
        respond(response, answer_page(self.service, request, KIND, query=requests.query_of(request)))


class One(Desk):
    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        wanted = requests.fields_of(requests.query_of(request), self.service.settings.api_settings)
        with self.service.store.read() as connection:
            row = shown(connection, id)
        self.admit(request, "get_one")
        respond(response, {"amphora": select_fields(row, wanted)})

    def on_delete(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        """Amphorae replace themselves: none is ever in the only state, ERROR, that lets it be deleted."""
        requests.refuse_query(request)
        self.admit(request, "delete")
        with self.service.store.read() as connection:
            shown(connection, id)
        raise ImmutableObject("amphora", id)


class Statistics(Desk):
    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        self.admit(request, "get_stats")
        with self.service.store.read() as connection:
            rows = statistics.rows(connection, id)
        if not rows:
            raise NotFound("Amphora stats for", id)
        respond(response, {"amphora_stats": rows})


class Failover(Desk):
    def on_put(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.expect_nothing(request)
        lb = self.load_balancer_of(id)
        self.admit(request, "put_failover", project_id=lb["project_id"])
        with self.service.act(identify(request.env), lb["id"], doing=f"Amphora {id} failover") as act:
            act.require_lb()
            act.version(infra=True)
            wishes.replace_amphora(act.connection, id)
        respond_nothing(response, status=202)


class Configure(Desk):
    """Nodes always hold the newest configuration; all there is to do is to look whether that is so."""

    def on_put(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.expect_nothing(request)
        lb = self.load_balancer_of(id)
        self.admit(request, "put_config", project_id=lb["project_id"])
        with self.service.writing() as connection:
            wishes.nudge(connection, lb["id"])
        respond_nothing(response, status=202)


