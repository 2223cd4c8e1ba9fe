# SPDX-License-Identifier: Apache-2.0
"""Load balancers."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import falcon
import msgspec
from sqlalchemy import Connection

from statera.api import choice, delegate, tree, vip
from statera.api.acts import Act, Materials, Service
from statera.api.choice import Choice
from statera.api.fields import REQUIRED, Field, columns_of, tags, text, with_defaults
from statera.api.handlers import Child, Collection, Place, Values, read_post, resolved, respond_encoded
from statera.api.idempotency import Once, once
from statera.api.identity import Identity, identify
from statera.api.kinds import Kind
from statera.api.requests import is_true, refuse_query
from statera.api.types import Bool, Ip, ListOf, Nested, Text, Uuid
from statera.drivers.protocols import Vip, VipAddress, VipRequest
from statera.errors import Invalid
from statera.model.fleet import ROLES
from statera.model.status import Provisioning
from statera.store import tables, wishes
from statera.store.lists import Row, children, tags_of

ADDITIONAL_VIP = (
    Field(name="subnet_id", type=Uuid(), post=REQUIRED),
    Field(name="ip_address", type=Ip()),
    Field(name="port_id", type=Uuid()),
)

FIELDS = (
    Field(name="id"),
    text("name"),
    text("description"),
    Field(name="provisioning_status"),
    Field(name="operating_status"),
    Field(name="admin_state_up", type=Bool(), post=True, null=False),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="created_at"),
    Field(name="updated_at"),
    Field(name="vip_address", type=Ip(), put=False),
    Field(name="vip_port_id", type=Uuid(), put=False),
    Field(name="vip_subnet_id", type=Uuid(), put=False),
    Field(name="vip_network_id", type=Uuid(), put=False),
    Field(name="vip_sg_ids", type=ListOf(Uuid()), post=[], null=[], filtered=False),
    Field(name="additional_vips", type=ListOf(Nested(ADDITIONAL_VIP)), post=[], null=[], put=False, filtered=False),
    Field(name="listeners", type=ListOf(Nested(tree.LISTENER)), post=[], null=[], put=False, filtered=False,
          source=children(tables.listeners, "load_balancer_id")),
    Field(name="pools", type=ListOf(Nested(tree.POOL)), post=[], null=[], put=False, filtered=False,
          source=children(tables.pools, "load_balancer_id")),
    Field(name="provider", type=Text(64), put=False),
    Field(name="flavor_id", type=Uuid(), put=False),
    Field(name="vip_qos_policy_id", type=Uuid()),
    tags(tags_of),
    Field(name="availability_zone", type=Text(255), put=False),
    Field(name="vip_vnic_type"),
)

KIND = Kind(
    name="loadbalancer", plural="loadbalancers", title="Load Balancer", argument="load_balancer",
    policy="loadbalancer", table=tables.load_balancers, fields=FIELDS,
    aliases={"topology": "topology", "enabled": "admin_state_up", "ip_address": "vip_address"},
)
NO_PROJECT = ("Missing project ID in request where one is required. An administrator should check the keystone "
              "settings in the Octavia configuration.")


class LoadBalancers(Collection):
    """The collection; a POST creates a VIP and a whole tree."""

    def on_post(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        service, identity = self.service, identify(request.env)
        refuse_query(request)
        sent = read_post(request, KIND)
        values = with_defaults(FIELDS, sent, service.settings)
        values["project_id"] = values["project_id"] or identity.project_id
        _require_access(service, identity, values["project_id"], sent)

        def create(once: Once) -> bytes:
            place = _find_vip(service, identity, values)
            chosen = _choose(service, values, sent)
            networks = chosen.zone.get("valid_vip_networks", ())
            vip.require_permitted(place.network_id, service.settings.networking, networks)
            _require_groups_fit(chosen.vip_vnic_type, values["vip_sg_ids"])
            tree.collect(values["pools"], values["listeners"])
            return _create(service, identity, values, place, chosen, once=once)

        respond_encoded(response, once(service, request, identity, sent).answer(create), status=201)


def _choose(service: Service, values: Values, sent: Values) -> Choice:
    """Provider, flavor and zone; a project that may have no more load balancers learns of it here already."""
    with service.store.read() as connection:
        chosen = choice.choose(connection, sent, service.settings, drivers=service.drivers)
        service.check_quota(connection, values["project_id"], "load_balancer", hold=False)
    return chosen


def _require_access(service: Service, identity: Identity, project_id: str | None, sent: Values) -> None:
    if not project_id:
        raise Invalid(NO_PROJECT)
    for action in ("post", "post:vip_sg_ids") if "vip_sg_ids" in sent else ("post",):
        service.policy.require(identity, f"loadbalancer:{action}", project_id=project_id)


def _find_vip(service: Service, identity: Identity, values: Values) -> vip.VipPlace:
    """Everything that only the network knows."""
    networking = service.settings.networking
    needed = 1 + len(ROLES[service.settings.controller_worker.loadbalancer_topology])
    place = vip.resolve(service.network, identity.caller, values, settings=networking, needed=needed)
    vip.additional(service.network, identity.caller, place, values["additional_vips"])
    vip.require_groups(service.network, identity.caller, values["vip_sg_ids"])
    return place


def _require_groups_fit(vnic_type: str, group_ids: Sequence[str]) -> None:
    if vnic_type == "direct" and group_ids:
        raise Invalid("VIP Security Groups are not allowed with VNIC direct type")


def _create(
    service: Service, identity: Identity, values: dict[str, Any], place: vip.VipPlace, chosen: Choice, *, once: Once
) -> bytes:
    """Allocate the VIP and write all rows."""
    id, secrets = str(uuid4()), service.materials(identity, values)
    request = VipRequest(
        load_balancer_id=id, project_id=values["project_id"], network_id=place.network_id, port_id=place.port_id,
        addresses=(
            VipAddress(subnet_id=place.subnet_id, ip_address=place.ip_address),
            *(VipAddress(subnet_id=each["subnet_id"], ip_address=each.get("ip_address"))
              for each in values["additional_vips"]),
        ),
    )
    vip_port = delegate.vip(service, chosen.provider, request, qos_policy_id=place.qos_policy_id,
                            group_ids=values["vip_sg_ids"])
    with vip_port as allocated, service.writing() as connection:
        service.check_quota(connection, values["project_id"], "load_balancer")
        wishes.add_load_balancer(
            connection, {**_columns(id, values, place, chosen, allocated), "request_id": identity.request_id})
        answer = msgspec.json.encode({KIND.name: _grow(service, identity, connection, id, values, secrets)})
        once.keep(connection, answer)
        return answer


def _columns(
    id: str, values: dict[str, Any], place: vip.VipPlace, chosen: Choice, allocated: Vip
) -> dict[str, Any]:
    """The row of a new load balancer; addresses are shown as they were typed."""
    typed = [place.ip_address, *(each.get("ip_address") for each in values["additional_vips"])]
    shown = [(subnet_id, word or ip) for (subnet_id, ip), word in zip(allocated.addresses, typed, strict=True)]
    ports = allocated.additional_port_ids or [allocated.port_id] * len(shown[1:])
    return {
        **columns_of(FIELDS, values),
        "id": id, "provider": chosen.provider, "topology": chosen.topology, "vip_vnic_type": chosen.vip_vnic_type,
        "vip_subnet_id": shown[0][0], "vip_address": shown[0][1], "vip_port_id": allocated.port_id,
        "vip_network_id": allocated.network_id, "vip_qos_policy_id": place.qos_policy_id,
        "additional_vips": [
            {"subnet_id": subnet_id, "ip_address": ip, "port_id": port_id}
            for (subnet_id, ip), port_id in zip(shown[1:], ports, strict=True)
        ],
    }


def _grow(
    service: Service, identity: Identity, connection: Connection, id: str, values: Values, secrets: Materials
) -> dict[str, Any]:
    """Write all that hangs on the new row; the load balancer in its full form."""
    wishes.add_tags(connection, {id: values["tags"]})
    row = wishes.hold(connection, id)
    assert row is not None, "just written"
    act = Act(service, identity, connection, row, "Load Balancer post", version=1, secrets=secrets)
    act.tell()
    tree.grow(act, values["pools"], values["listeners"])
    if secrets:
        act.keep_secrets(values)
    delegate.created(act, tables.load_balancers, id)
    return tree.full(connection, KIND, id)


def look_outside(service: Service, identity: Identity, place: Place, sent: Values) -> None:
    if "vip_sg_ids" in sent:
        service.policy.require(identity, "loadbalancer:put:vip_sg_ids", project_id=place.project_id)
    if sent.get("vip_qos_policy_id") not in (None, place.values["vip_qos_policy_id"]):
        vip.require_qos(service.network, identity.caller, sent["vip_qos_policy_id"])
    vip.require_groups(service.network, identity.caller, sent.get("vip_sg_ids") or ())


def change(act: Act, row: Row, sent: dict[str, Any]) -> None:
    changes = resolved(KIND, sent, act)
    _require_groups_fit(row["vip_vnic_type"], {**row, **changes}["vip_sg_ids"])
    act.require_lb_state(Provisioning.ACTIVE)
    act.version(infra=bool(changes.keys() & {"admin_state_up", "vip_qos_policy_id", "vip_sg_ids"}))
    wishes.change_load_balancer(act.connection, act.lb_id, **columns_of(FIELDS, changes))
    if "tags" in changes:
        wishes.set_tags(act.connection, {act.lb_id: changes["tags"]})


def remove(act: Act, row: Row, query: Mapping[str, str]) -> None:
    has_children = any(act.rows(table) for table in (tables.listeners, tables.pools))
    if has_children and not is_true(query.get("cascade", "")):
        raise Invalid(f"Cannot delete Load Balancer {row['id']} - it has children")
    act.require_lb_state(Provisioning.ACTIVE, Provisioning.ERROR)
    act.version(infra=True)
    wishes.change_load_balancer(act.connection, act.lb_id, deleting=True)


def fail_over(act: Act) -> None:
    """Replace every amphora."""
    act.require_lb_state(Provisioning.ACTIVE, Provisioning.ERROR)
    wishes.change_load_balancer(act.connection, act.lb_id, failover_version=act.version(infra=True))


def _no_place(_connection: Connection, _values: Values) -> Place:
    raise AssertionError("a load balancer is placed by its own POST")


CHILD = Child(
    kind=KIND, place=_no_place, create=lambda _act, _values: "", change=change, remove=remove,
    outside_put=look_outside, delete_query=("cascade",), missing_object='Missing argument: "load_balancer"',
)
