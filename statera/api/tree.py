# SPDX-License-Identifier: Apache-2.0
"""A whole tree in one request: what it may say, how it is written, how it is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from statera.api import rules
from statera.api.acts import Act
from statera.api.fields import OPTIONAL, Field, with_defaults
from statera.api.handlers import add, add_all
from statera.api.kinds import Kind
from statera.api.resources import healthmonitors, l7policies, l7rules, listeners, members, pools
from statera.api.rules import l7
from statera.api.types import Enum, Int, ListOf, Nested
from statera.errors import Conflict, Invalid

Values = Mapping[str, Any]
Object = dict[str, Any]


def _nested(fields: Sequence[Field], *more: Field, without: Sequence[str] = ()) -> tuple[Field, ...]:
    """The fields of a child inside its parent: *more* replace those of their names."""
    left_out = {*without, "project_id", *(field.name for field in more)}
    return tuple(field for field in fields if field.name not in left_out and field.type) + more


RULE = _nested(l7rules.FIELDS)
MEMBER = _nested(members.FIELDS)
MONITOR = _nested(healthmonitors.FIELDS, without=["pool_id"])
POOL = _nested(
    pools.FIELDS,
    Field(name="protocol", type=Enum(rules.POOL_PROTOCOLS), post=OPTIONAL),
    Field(name="lb_algorithm", type=Enum(rules.ALGORITHMS), post=OPTIONAL),
    Field(name="healthmonitor", type=Nested(MONITOR), source=None),
    Field(name="members", type=ListOf(Nested(MEMBER)), post=[], null=[], source=None),
    without=["loadbalancer_id", "listener_id"],
)
POLICY = _nested(
    l7policies.FIELDS,
    Field(name="redirect_pool", type=Nested(POOL), source=None),
    Field(name="rules", type=ListOf(Nested(RULE)), post=[], null=[], source=None),
    without=["listener_id", "redirect_pool_id"],
)
LISTENER = _nested(
    listeners.FIELDS,
    Field(name="default_pool", type=Nested(POOL), source=None),
    Field(name="l7policies", type=ListOf(Nested(POLICY)), post=[], null=[], source=None),
    Field(name="hsts_max_age", type=Int(), post=None),
    without=["loadbalancer_id"],
)

REFERENCE = {"name", "admin_state_up", "tls_enabled"}
"""An object that says nothing beyond these refers to a pool that is defined elsewhere in the request."""

FULL = "when creating a fully populated loadbalancer."


def collect(sent_pools: Sequence[Object], sent_listeners: Sequence[Object]) -> list[Object]:
    """Every pool that the tree defines, wherever; raise for names that are missing, double or dangling."""
    users = [user for listener in sent_listeners for user in _users(listener)]
    if not all(user.get("name") for user in users):
        raise Invalid(f"Pools must be named {FULL}")
    definitions = [*sent_pools, *(user for user in users if not user.keys() <= REFERENCE)]
    names = [pool.get("name") for pool in definitions]
    if len(set(names)) < len(names):
        raise Invalid(f"Pool names must be unique {FULL}")
    for user in users:
        if user["name"] not in names:
            raise Invalid(f"Pool '{user['name']}' was referenced but no full definition was found.")
    for pool in definitions:
        for needed in ("protocol", "lb_algorithm"):
            if not pool.get(needed):
                raise Invalid(f"Pool definition for '{pool.get('name')}' missing required attribute: {needed}")
    return definitions


def _users(listener: Object) -> list[Object]:
    policies = listener.get("l7policies") or []
    wanted = [listener.get("default_pool"), *(policy.get("redirect_pool") for policy in policies)]
    return [pool for pool in wanted if pool]


def grow(act: Act, sent_pools: Sequence[Object], sent_listeners: Sequence[Object]) -> None:
    """Write all children of a new load balancer."""
    definitions = collect(sent_pools, sent_listeners)
    act.quota("pool", more=len(definitions))
    act.quota("health_monitor", more=sum(1 for pool in definitions if pool.get("healthmonitor")))
    act.quota("member", more=sum(len(pool.get("members") or []) for pool in definitions))
    pool_ids = {pool.get("name"): _pool(act, pool) for pool in definitions}
    act.quota("listener", more=len(sent_listeners))
    protocols = {pool.get("name"): pool["protocol"] for pool in definitions}
    earlier: list[Object] = []
    for sent in sent_listeners:
        earlier.append(_listener(act, sent, pool_ids, protocols, earlier))


def _pool(act: Act, sent: Object) -> str:
    pool = pools.judged(act, with_defaults(POOL, sent, act.settings))
    act.require_served("pool", pool)
    id = add(act, pools.KIND, pool)
    if sent.get("healthmonitor"):
        _monitor(act, sent["healthmonitor"], id, pool["protocol"])
    _members(act, sent.get("members") or [], id)
    return id


def _monitor(act: Act, sent: Object, pool_id: str, pool_protocol: str) -> None:
    values = with_defaults(MONITOR, sent, act.settings)
    rules.check(rules.MONITOR_TYPE, healthmonitors.case_of(act, values, values, pool_protocol))
    monitor = healthmonitors.judged(act, values, pool_protocol)
    act.require_served("healthmonitor", monitor)
    add(act, healthmonitors.KIND, monitor, pool_id=pool_id)


def _members(act: Act, sent: Sequence[Object], pool_id: str) -> None:
    wanted = [with_defaults(MEMBER, each, act.settings) for each in sent]
    for each in wanted:
        rules.reserved(each["address"], act.settings.networking.reserved_ips)
    vnic_types = [members.judged(act, each) for each in wanted]
    members.require_all_distinct(wanted)
    add_all(act, members.KIND, wanted, [{"pool_id": pool_id, "vnic_type": vnic_type} for vnic_type in vnic_types])


def _listener(
    act: Act, sent: Object, pool_ids: Mapping[str | None, str], protocols: Mapping[str | None, str],
    earlier: Sequence[Object],
) -> Object:
    values = with_defaults(LISTENER, sent, act.settings)
    rules.check(rules.LISTENER_NULLS, listeners.case_of(act, values, values))
    default = values["default_pool"]
    if default or values["default_pool_id"] or values["l7policies"]:
        rules.childless(values["protocol"])
    if default:
        rules.match(values["protocol"], protocols[default["name"]])
        values["default_pool_id"] = pool_ids[default["name"]]
    elif values["default_pool_id"]:
        listeners.match_pool(act, values["protocol"], values["default_pool_id"])
    listener = listeners.judged(act, values, earlier)
    act.require_served("listener", listener)
    id = add(act, listeners.KIND, listener)
    for policy in values["l7policies"]:
        _policy(act, policy, id, listener["protocol"], pool_ids)
    return listener


def _policy(
    act: Act, sent: Object, listener_id: str, protocol: str, pool_ids: Mapping[str | None, str]
) -> None:
    values = with_defaults(POLICY, sent, act.settings)
    pool = values["redirect_pool"]
    policy = l7.redirect({**values, "redirect_pool_id": pool_ids[pool["name"]] if pool else None}, fresh=True)
    wanted = [with_defaults(RULE, each, act.settings) for each in values["rules"]]
    for each in wanted:
        l7.check_rule(each)
    act.require_served("l7policy", {**policy, "protocol": protocol})
    id = l7policies.write(act, policy, listener_id)
    if len(wanted) > l7.MOST_RULES:
        raise Conflict(f"Too many rules on L7 policy {id}")
    add_all(act, l7rules.KIND, wanted, [{"l7policy_id": id}] * len(wanted))


# The full form.


def full(connection: Connection, kind: Kind, lb_id: str) -> Object:
    """The load balancer with all its children as whole objects, each before what it says of itself."""

    row = kind.one(connection, lb_id)
    assert row is not None, "read in the transaction that wrote it"
    if not row["listeners"] and not row["pools"]:
        return _whole(row, listeners={}, pools={})

    def of(child: Kind) -> dict[str, Object]:
        return {row["id"]: row for row in child.all(connection, child.table.c.load_balancer_id == lb_id)}

    leaf, member, monitor = of(l7rules.KIND), of(members.KIND), of(healthmonitors.KIND)
    policy = {id: _whole(each, rules=leaf) for id, each in of(l7policies.KIND).items()}
    listener = {
        id: _whole(each, without=["loadbalancers"], l7policies=policy) for id, each in of(listeners.KIND).items()
    }
    pool = {id: _whole_pool(each, member, monitor) for id, each in of(pools.KIND).items()}
    return _whole(row, listeners=listener, pools=pool)


def _whole_pool(pool: Object, member: Mapping[str, Object], monitor: Mapping[str, Object]) -> Object:
    found = monitor.get(pool.pop("healthmonitor_id", ""))
    shown = None if found is None else {name: value for name, value in found.items() if name != "pools"}
    whole = _whole(pool, without=["loadbalancers"], members=member)
    return {"members": whole.pop("members"), "healthmonitor": shown, **whole}


def _whole(row: Object, *, without: Sequence[str] = (), **children: Mapping[str, Object]) -> Object:
    """The object with its references to *children* replaced by these, in front."""
    first = {name: [objects[reference["id"]] for reference in row[name]] for name, objects in children.items()}
    return {**first, **{name: value for name, value in row.items() if name not in first and name not in without}}
