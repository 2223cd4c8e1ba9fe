# SPDX-License-Identifier: Apache-2.0
"""Members of a pool, one by one and in batches."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import falcon
from sqlalchemy import ColumnElement, Connection, select

from statera.api import delegate, requests, rules
from statera.api.acts import Act, Service
from statera.api.fields import DEFAULT, REFUSE, REQUIRED, Field, posted, refuse_nulls, tags, text, with_defaults
from statera.api.handlers import (
    Child,
    Collection,
    Parent,
    Place,
    Values,
    add,
    add_all,
    alter,
    alter_all,
    place_of,
    resolved,
    respond_nothing,
)
from statera.api.identity import Identity, identify
from statera.api.kinds import Kind
from statera.api.resources import pools
from statera.api.resources.healthmonitors import require_states
from statera.api.types import Bool, Int, Ip, Text, Uuid
from statera.errors import BadRequest, Conflict, Invalid, InvalidSubresource
from statera.store import tables, wishes
from statera.store.lists import Row, tags_of

FIELDS = (
    Field(name="id"),
    text("name"),
    Field(name="operating_status"),
    Field(name="provisioning_status"),
    Field(name="admin_state_up", type=Bool(), post=True, null=False),
    Field(name="address", type=Ip(), post=REQUIRED, put=False, null=REFUSE),
    Field(name="protocol_port", type=Int(1, 65535), post=REQUIRED, put=False, null=REFUSE),
    Field(name="weight", type=Int(0, 256), post=1, null=DEFAULT),
    Field(name="backup", type=Bool(), post=False, null=DEFAULT),
    Field(name="subnet_id", type=Uuid(), post=None, put=False),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="created_at"),
    Field(name="updated_at"),
    Field(name="monitor_address", type=Ip(), post=None),
    Field(name="monitor_port", type=Int(1, 65535), post=None),
    tags(tags_of),
    Field(name="vnic_type"),
    Field(name="request_sriov", type=Bool(), post=False, put=False, null=DEFAULT, source=None, shown=False),
)
RESET = ("weight", "backup", "admin_state_up", "monitor_address", "monitor_port")
"""What a batch sets back to its default when it is left out."""

POOL = Parent("Pool", tables.pools, "pool_id")
KIND = Kind(
    name="member", plural="members", title="Member", argument="member_", policy="member", table=tables.members,
    fields=FIELDS,
    aliases={"pool_id": "pool_id", "ip_address": "address", "enabled": "admin_state_up"},
)


def place(connection: Connection, values: Values) -> Place:
    pool = POOL.find(connection, values)
    return Place(pool["load_balancer_id"], pool["project_id"], {"pool_id": pool["id"]})


def look_outside(service: Service, identity: Identity, _place: Place, values: Values) -> None:
    """No reserved address, no unknown subnet."""
    rules.reserved(values["address"], service.settings.networking.reserved_ips)
    require_subnet(service, identity, values["subnet_id"])


def require_subnet(service: Service, identity: Identity, subnet_id: str | None) -> None:
    if subnet_id and service.network.subnet(subnet_id, identity.caller) is None:
        raise InvalidSubresource("Subnet", subnet_id)


def create(act: Act, values: dict[str, Any]) -> str:
    act.quota("member")
    vnic_type = judged(act, values)
    require_states(act, values["pool_id"])
    for other in act.rows(tables.members, *same_place(values)):
        require_distinct(values, other)
    infra = reaches_further(act, [values])
    act.version(infra=infra)
    require_one_family(act, values["pool_id"], [values])
    pools.touch(act, values["pool_id"])
    return add(act, KIND, values, pool_id=values["pool_id"], vnic_type=vnic_type,
               reported_status=first_status(act, values["pool_id"]))


def judged(act: Act, values: Values) -> str:
    """The member's vnic_type, if its load balancer's flavor allows it and the provider serves it."""
    act.require_served("member", values)
    if not values["request_sriov"]:
        return "normal"
    if not act.flavor().get("allow_member_sriov"):
        raise BadRequest("The load balancer flavor does not allow SR-IOV member ports.")
    return "direct"


def require_one_family(act: Act, pool_id: str, members: Sequence[Values]) -> None:
    """Packets go to members of the VIPs' own IP versions only. Raise `ProviderUnsupported`."""
    pool = act.reload(tables.pools, pool_id, title="Pool")
    lb = act.load_balancer
    vips = [lb["vip_address"], *(vip["ip_address"] for vip in lb["additional_vips"])]
    versions = {ip_address(vip).version for vip in vips}
    if pool["protocol"] in rules.PACKETS and wishes.users_of_pool(act.connection, pool_id):
        for member in members:
            mixed = ip_address(member["address"]).version not in versions
            act.require_served("member", {**member, "mixed_protocol": pool["protocol"] if mixed else None})


def same_place(values: Values) -> Sequence[ColumnElement[bool]]:
    """Where members of the pool are that a database takes for the same: of thousands, none or one."""
    member = tables.members.c
    address, port = identity_of(values)
    return member.pool_id == values["pool_id"], member.address == address, member.protocol_port == port


def identity_of(member: Values) -> tuple[str, int]:
    return member["address"], member["protocol_port"]


def require_distinct(new: Values, other: Values) -> None:
    if identity_of(new) == identity_of(other):
        address, port = identity_of(new)
        raise Conflict(f"Another member on this pool is already using ip {address} on protocol_port {port}")


def require_all_distinct(new: list[dict[str, Any]]) -> None:
    seen: dict[tuple[str, int], Values] = {}
    for each in new:
        if identity_of(each) in seen:
            require_distinct(each, seen[identity_of(each)])
        seen[identity_of(each)] = each


def first_status(act: Act, pool_id: str) -> str:
    monitored = act.rows(tables.health_monitors, tables.health_monitors.c.pool_id == pool_id)
    return "OFFLINE" if monitored else "NO_MONITOR"


def reaches_further(act: Act, members: Sequence[Values]) -> bool:
    """Whether members are in subnets that the amphorae may not be plugged into yet."""
    wanted = {member["subnet_id"] for member in members} - {None, act.load_balancer["vip_subnet_id"]}
    if not wanted:
        return False
    member = tables.members.c
    known = select(member.subnet_id).where(member.load_balancer_id == act.lb_id, ~member.deleting).distinct()
    return bool(wanted - set(act.connection.execute(known).scalars()))


def change(act: Act, row: Row, sent: dict[str, Any]) -> None:
    require_states(act, row["pool_id"])
    alter(act, KIND, row["id"], resolved(KIND, sent, act))
    pools.touch(act, row["pool_id"])


def remove(act: Act, row: Row, _query: Mapping[str, str]) -> None:
    require_states(act, row["pool_id"])
    version = act.version(infra=row["subnet_id"] not in (None, act.load_balancer["vip_subnet_id"]))
    wishes.remove_rows(act.connection, tables.members, [row["id"]], version=version)
    pools.touch(act, row["pool_id"])


CHILD = Child(
    kind=KIND, place=place, create=create, change=change, remove=remove, parent=POOL, outside_post=look_outside
)


class Members(Collection):
    """The collection, with a PUT that sets all members at once."""

    def on_put(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        service, identity = self.service, identify(request.env)
        query = requests.refuse_query(request, but=("additive_only",))
        additive = requests.is_true(query.get("additive_only", ""))
        wanted = read_batch(request)
        with service.store.read() as connection:
            pool = POOL.find(connection, path)
        for action in ("post", "put") if additive else ("post", "put", "delete"):
            service.policy.require(identity, f"member:{action}", project_id=pool["project_id"])
        with service.store.read() as connection:
            stored = _stored(connection, pool["id"])
        look_at_new(service, identity, [each for each in wanted if identity_of(each) not in stored])
        with service.act(identity, place_of(pool).lb_id, doing=f"Pool {pool['id']} members put") as act:
            require_states(act, pool["id"])
            replace(act, pool["id"], wanted, additive=additive)
            delegate.replaced_members(act, pool["id"])
        respond_nothing(response, status=202)


def read_batch(request: falcon.Request) -> list[dict[str, Any]]:
    body = requests.inner(requests.body_of(request, "members_"), "members", "members_", shape=list)
    if not all(isinstance(each, dict) for each in body):
        raise BadRequest(f"Invalid input for field/attribute members. Value: '{body}'. Value not a valid list: {body}")
    wanted = [posted(FIELDS, each, argument="members_.members") for each in body]
    for each in wanted:
        refuse_nulls(FIELDS, each)
    return wanted


def look_at_new(service: Service, identity: Identity, new: list[dict[str, Any]]) -> None:
    for each in new:
        rules.reserved(each["address"], service.settings.networking.reserved_ips)
    for subnet_id in dict.fromkeys(each.get("subnet_id") for each in new):
        require_subnet(service, identity, subnet_id)


def _stored(connection: Connection, pool_id: str) -> dict[tuple[str, int], Row]:
    member = tables.members
    rows = connection.execute(select(member).where(member.c.pool_id == pool_id, ~member.c.deleting)).mappings()
    return {(row["address"], row["protocol_port"]): dict(row) for row in rows}


def replace(act: Act, pool_id: str, wanted: list[dict[str, Any]], *, additive: bool) -> None:
    """Make the pool's members what is *wanted*; nothing becomes pending where nothing is to do."""
    stored = _stored(act.connection, pool_id)
    new = [with_defaults(FIELDS, each, act.settings) for each in wanted if identity_of(each) not in stored]
    same = [(stored[identity_of(each)], each) for each in wanted if identity_of(each) in stored]
    kept = {identity_of(each) for each in wanted}
    gone = [] if additive else [row for key, row in stored.items() if key not in kept]
    if len({row["id"] for row, _ in same}) < len(same):
        raise Invalid("Member must be updated only once in the same request.")
    require_all_distinct(new)
    act.quota("member", more=len(new) - len(gone))
    vnic_types = [judged(act, each) for each in new]
    require_one_family(act, pool_id, new)
    if not new and not same and not gone:
        return
    outside = any(row["subnet_id"] not in (None, act.load_balancer["vip_subnet_id"]) for row in gone)
    placed = [*new, *(each for _, each in same if "subnet_id" in each)]
    version = act.version(infra=outside or reaches_further(act, placed))
    status = first_status(act, pool_id)
    more = [{"pool_id": pool_id, "vnic_type": each, "reported_status": status} for each in vnic_types]
    add_all(act, KIND, new, more)
    alter_all(act, KIND, {row["id"]: reset(act, each) for row, each in same})
    wishes.remove_rows(act.connection, tables.members, [row["id"] for row in gone], version=version)
    pools.touch(act, pool_id)


def reset(act: Act, sent: Values) -> dict[str, Any]:
    """What a batch writes to a member that exists: omitted fields of `RESET` go back to their defaults."""
    full = with_defaults(FIELDS, sent, act.settings)
    names = {*RESET, *(name for name in ("name", "tags", "subnet_id") if sent.get(name) is not None)}
    return {name: full[name] for name in names}
