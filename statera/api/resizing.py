# SPDX-License-Identifier: Apache-2.0
"""PUT /loadbalancers/{id}/flavor: another flavor for a load balancer that serves. VIP, listeners and traffic stay.

A new topology, limits and machines follow from the flavor as they would for a new load balancer.
"""

import falcon
import msgspec
from sqlalchemy import Connection, or_, select

from statera.api import requests
from statera.api.acts import Service
from statera.api.fields import REQUIRED, Field, posted
from statera.api.handlers import found, place_of, respond_nothing
from statera.api.identity import identify
from statera.api.types import Uuid
from statera.config import Settings
from statera.errors import BadRequest, DisabledOption, Invalid
from statera.model.status import Provisioning
from statera.store import events, wishes
from statera.store.events import Event
from statera.store.lists import Row
from statera.store.tables import flavor_profiles, flavors, load_balancers

FIELDS = (Field(name="flavor_id", type=Uuid(), post=REQUIRED),)


class Resize:
    """For those who may change the load balancer."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def on_put(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        service, identity = self.service, identify(request.env)
        sent = posted(FIELDS, requests.inner(requests.body_of(request, "flavor"), "flavor", "flavor"),
                      argument="flavor.flavor")
        with service.store.read() as connection:
            row = found(connection, load_balancers, id, title="Load Balancer")
        service.policy.require(identity, "loadbalancer:put", project_id=row["project_id"])
        with service.act(identity, place_of(row).lb_id, doing="Load Balancer resize") as act:
            act.require_lb_state(Provisioning.ACTIVE, Provisioning.ERROR)
            topology = topology_of(act.connection, act.load_balancer, sent["flavor_id"], act.settings)
            wishes.change_load_balancer(act.connection, act.lb_id, flavor_id=sent["flavor_id"], topology=topology)
            act.version(infra=True)
        respond_nothing(response, status=202)


def resize(connection: Connection, load_balancer_id: str, flavor: str, settings: Settings) -> None:
    """The same for operators, who may name the *flavor* by its name. Raise `ApiError`."""
    row = found(connection, load_balancers, load_balancer_id, title="Load Balancer")
    flavor_id = connection.execute(
        select(flavors.c.id).where(or_(flavors.c.id == flavor, flavors.c.name == flavor))).scalar_one_or_none()
    topology = topology_of(connection, row, flavor_id or flavor, settings)
    wishes.change_load_balancer(connection, load_balancer_id, flavor_id=flavor_id, topology=topology)
    wishes.touch(connection, load_balancer_id, infra=True)
    events.record(connection, Event(
        load_balancer_id=load_balancer_id, reason="accepted", message=f"resize to {flavor}"))


def topology_of(connection: Connection, load_balancer: Row, flavor_id: str, settings: Settings) -> str:
    """What the flavor makes of the load balancer. Raise `Invalid`, `DisabledOption` or `BadRequest` for a bad one."""
    profile = connection.execute(
        select(flavors.c.enabled, flavor_profiles.c.provider_name, flavor_profiles.c.flavor_data)
        .join(flavor_profiles, flavor_profiles.c.id == flavors.c.flavor_profile_id)
        .where(flavors.c.id == flavor_id)).one_or_none()
    if profile is None:
        raise Invalid("Invalid flavor_id.")
    if not profile.enabled:
        raise DisabledOption("flavor", flavor_id)
    if profile.provider_name != load_balancer["provider"]:
        raise BadRequest(f"Flavor '{flavor_id}' is not compatible with provider '{load_balancer['provider']}'")
    said = msgspec.json.decode(profile.flavor_data, type=dict[str, object]).get("loadbalancer_topology")
    return str(said or settings.controller_worker.loadbalancer_topology)
