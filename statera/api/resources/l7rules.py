# SPDX-License-Identifier: Apache-2.0
"""L7 rules of a policy."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from statera.api.acts import Act
from statera.api.fields import REQUIRED, Field, tags
from statera.api.handlers import Child, Parent, Place, Values, add, alter, resolved
from statera.api.kinds import Kind
from statera.api.resources.l7policies import touch_listener
from statera.api.rules import l7
from statera.api.types import Bool, Enum, Text
from statera.errors import Conflict
from statera.store import tables, wishes
from statera.store.lists import Row, tags_of

ONE_LINE = r"^[^\r\n]*$"

FIELDS = (
    Field(name="id"),
    Field(name="type", type=Enum(l7.RULE_TYPES), post=REQUIRED),
    Field(name="compare_type", type=Enum(l7.COMPARE_TYPES), post=REQUIRED),
    Field(name="key", type=Text(255, pattern=ONE_LINE), post=None),
    Field(name="value", type=Text(255, pattern=ONE_LINE), post=REQUIRED),
    Field(name="invert", type=Bool(), post=False, null=False),
    Field(name="provisioning_status"),
    Field(name="operating_status"),
    Field(name="created_at"),
    Field(name="updated_at"),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="admin_state_up", type=Bool(), post=True, null=False),
    tags(tags_of),
)

POLICY = Parent("L7Policy", tables.l7policies, "l7policy_id")
KIND = Kind(
    name="rule", plural="rules", title="L7 Rule", argument="rule_", put_argument="l7rule_", policy="l7rule",
    table=tables.l7rules, fields=FIELDS, aliases={"l7policy_id": "l7policy_id", "enabled": "admin_state_up"},
)


def place(connection: Connection, values: Values) -> Place:
    policy = POLICY.find(connection, values)
    return Place(policy["load_balancer_id"], policy["project_id"], {"l7policy_id": policy["id"]})


def create(act: Act, values: dict[str, Any]) -> str:
    policy_id = values["l7policy_id"]
    l7.check_rule(values)
    count = select(func.count()).where(tables.l7rules.c.l7policy_id == policy_id)
    if act.connection.execute(count).scalar_one() >= l7.MOST_RULES:
        raise Conflict(f"Too many rules on L7 policy {policy_id}")
    act.quota("l7rule")
    require_states(act, policy_id)
    id = add(act, KIND, values, l7policy_id=policy_id)
    touch_policy(act, policy_id)
    return id


def change(act: Act, row: Row, sent: dict[str, Any]) -> None:
    changes = resolved(KIND, sent, act)
    after = {**row, **changes}
    if after["type"] in l7.KEYLESS:
        changes["key"] = None
    l7.check_rule(after)
    require_states(act, row["l7policy_id"])
    alter(act, KIND, row["id"], changes)
    touch_policy(act, row["l7policy_id"])


def remove(act: Act, row: Row, _query: Mapping[str, str]) -> None:
    require_states(act, row["l7policy_id"])
    wishes.remove_rows(act.connection, tables.l7rules, [row["id"]], version=act.version())
    touch_policy(act, row["l7policy_id"])


def require_states(act: Act, policy_id: str) -> None:
    act.require_parent("L7Policy", tables.l7policies, policy_id)
    act.require_lb()


def touch_policy(act: Act, policy_id: str) -> None:
    """The policy and its listener become pending."""
    policy = act.reload(tables.l7policies, policy_id, title="L7 Policy")
    wishes.change_rows(act.connection, tables.l7policies, [policy_id], version=act.version())
    touch_listener(act, policy["listener_id"])


CHILD = Child(
    kind=KIND, place=place, create=create, change=change, remove=remove, parent=POLICY, one_parent=False
)
