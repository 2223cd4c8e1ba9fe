# SPDX-License-Identifier: Apache-2.0
"""L7 policies: where they redirect and in which order they are asked."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from statera.api import rules
from statera.api.acts import Act
from statera.api.fields import KEEP, REQUIRED, Field, tags, text
from statera.api.handlers import Child, Place, Values, add, alter, found, place_of, resolved
from statera.api.kinds import Kind
from statera.api.rules import l7
from statera.api.types import Bool, Enum, Int, Text, Url, Uuid
from statera.errors import NotFound
from statera.store import tables, wishes
from statera.store.lists import Row, children, shown_position, tags_of

FIELDS = (
    Field(name="id"),
    text("name"),
    text("description"),
    Field(name="provisioning_status"),
    Field(name="operating_status"),
    Field(name="admin_state_up", type=Bool(), post=True, null=False),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="action", type=Enum(l7.ACTIONS), post=REQUIRED),
    Field(name="listener_id", type=Uuid(), post=REQUIRED, put=False),
    Field(name="redirect_pool_id", type=Uuid(), post=None),
    Field(name="redirect_url", type=Url(), post=None),
    Field(name="redirect_prefix", type=Url(), post=None),
    Field(name="position", type=Int(1, 2_147_483_647), post=None, null_put=KEEP, source=shown_position()),
    Field(name="rules", source=children(tables.l7rules, "l7policy_id"), filtered=False),
    Field(name="created_at"),
    Field(name="updated_at"),
    tags(tags_of),
    Field(name="redirect_http_code", type=Enum((301, 302, 303, 307, 308)), post=None),
)

KIND = Kind(
    name="l7policy", plural="l7policies", title="L7 Policy", argument="l7policy_", policy="l7policy",
    table=tables.l7policies, fields=FIELDS,
    aliases={"listener_id": "listener_id", "enabled": "admin_state_up"},
)


def place(connection: Connection, values: Values) -> Place:
    return place_of(found(connection, tables.listeners, values["listener_id"], title="Listener"))


def create(act: Act, values: dict[str, Any]) -> str:
    listener = act.reload(tables.listeners, values["listener_id"], title="Listener")
    rules.childless(listener["protocol"])
    if values["redirect_pool_id"]:
        _match(act, listener, values["redirect_pool_id"])
    act.quota("l7policy")
    policy = l7.redirect(values, fresh=True)
    act.require_lb()
    act.require_kept("Listener", listener)
    _require_own(act, policy)
    act.require_served("l7policy", {**policy, "protocol": listener["protocol"]})
    return write(act, policy, listener["id"])


LAST = 2_147_483_647


def write(act: Act, policy: dict[str, Any], listener_id: str) -> str:
    """Add the policy at its position; its listener becomes pending."""
    id = add(act, KIND, policy, listener_id=listener_id, position=LAST)
    move(act, listener_id, id, position=policy["position"])
    touch_listener(act, listener_id)
    return id


def move(act: Act, listener_id: str, id: str, *, position: int | None) -> None:
    """Put a policy of the listener at *position*, None: last; the others make room."""
    policy = tables.l7policies.c
    statement = select(policy.id, policy.position).where(policy.listener_id == listener_id)
    stored = {row.id: row.position for row in act.connection.execute(statement.order_by(policy.position, policy.id))}
    order = enumerate(l7.inserted(list(stored), id, position), 1)
    wishes.renumber(act.connection, {other: place for place, other in order if stored[other] != place})


def touch_listener(act: Act, listener_id: str) -> None:
    wishes.change_rows(act.connection, tables.listeners, [listener_id], version=act.version())


def _match(act: Act, listener: Values, pool_id: str) -> None:
    pool = found(act.connection, tables.pools, pool_id, title="Pool")
    rules.match(listener["protocol"], pool["protocol"])


def _require_own(act: Act, policy: Values) -> None:
    """The redirect pool must be of the same load balancer, and stay."""
    pool_id = policy.get("redirect_pool_id")
    if pool_id:
        pool = found(act.connection, tables.pools, pool_id, title="Pool")
        if pool["load_balancer_id"] != act.lb_id or pool["deleting"]:
            raise NotFound("Pool", pool_id)


def change(act: Act, row: Row, sent: dict[str, Any]) -> None:
    changes = l7.redirect(resolved(KIND, sent, act), fresh=False)
    if changes.get("redirect_pool_id"):
        listener = act.reload(tables.listeners, row["listener_id"], title="Listener")
        _match(act, listener, changes["redirect_pool_id"])
        _require_own(act, changes)
    act.require_lb()
    alter(act, KIND, row["id"], changes)
    if "position" in changes:
        move(act, row["listener_id"], row["id"], position=changes["position"])
    touch_listener(act, row["listener_id"])


def remove(act: Act, row: Row, _query: Mapping[str, str]) -> None:
    act.require_lb()
    wishes.remove_rows(act.connection, tables.l7policies, [row["id"]], version=act.version())
    touch_listener(act, row["listener_id"])


CHILD = Child(kind=KIND, place=place, create=create, change=change, remove=remove)
