# SPDX-License-Identifier: Apache-2.0
"""Pools."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from statera.api import rules
from statera.api.acts import Act
from statera.api.fields import DEFAULT, REFUSE, REQUIRED, Field, ids, tags, text
from statera.api.handlers import Child, Place, Values, add, alter, found, place_of, resolved
from statera.api.kinds import Kind
from statera.api.resources import listeners
from statera.api.types import Alpn, Bool, Enum, Int, Ip, ListOf, Nested, Text, Uuid
from statera.config import Settings
from statera.errors import Conflict, Invalid, NotFound
from statera.store import tables, wishes
from statera.store.lists import Row, children, healthmonitor_id, pool_listeners, tags_of

PERSISTENCE_PARTS = (
    Field(name="type", type=Enum(("SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"))),
    Field(name="cookie_name", type=Text(255, pattern=r"^[^\s,;\\]+$")),
    Field(name="persistence_timeout", type=Int()),
    Field(name="persistence_granularity", type=Ip()),
)


def _persistence(sent: dict[str, Any]) -> dict[str, Any]:
    return {part.name: sent.get(part.name) for part in PERSISTENCE_PARTS}


TLS_DEFAULTS: Mapping[str, Callable[[Settings], Any]] = {
    "tls_ciphers": lambda settings: settings.api_settings.default_pool_ciphers or listeners.OWASP_SUITE_B,
    "tls_versions": lambda settings: list(settings.api_settings.default_pool_tls_versions),
    "alpn_protocols": lambda settings: list(settings.api_settings.default_pool_alpn_protocols),
}
"""What pools with tls_enabled get that name none."""

FIELDS = (
    Field(name="id"),
    text("name"),
    text("description"),
    Field(name="provisioning_status"),
    Field(name="operating_status"),
    Field(name="admin_state_up", type=Bool(), post=True, null=False),
    Field(name="protocol", type=Enum(rules.POOL_PROTOCOLS), post=REQUIRED,
          put=False, null=REFUSE),
    Field(name="lb_algorithm", type=Enum(rules.ALGORITHMS),
          post=REQUIRED, null=REFUSE),
    Field(name="session_persistence", type=Nested(PERSISTENCE_PARTS, _persistence), post=None, filtered=False),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="loadbalancers", source="load_balancer_id", show=ids, filtered=False),
    Field(name="listeners", source=pool_listeners, filtered=False),
    Field(name="created_at"),
    Field(name="updated_at"),
    Field(name="healthmonitor_id", source=healthmonitor_id(), hide_null=True),
    Field(name="members", source=children(tables.members, "pool_id"), filtered=False),
    tags(tags_of),
    Field(name="tls_container_ref", type=Text(255), post=None),
    Field(name="ca_tls_container_ref", type=Text(255), post=None),
    Field(name="crl_container_ref", type=Text(255), post=None),
    Field(name="tls_enabled", type=Bool(), post=False, null=DEFAULT),
    Field(name="tls_ciphers", type=Text(2048), post=None),
    Field(name="tls_versions", type=ListOf(Text(32)), post=None, filtered=False),
    Field(name="alpn_protocols", type=ListOf(Alpn()), post=None, filtered=False),
    Field(name="loadbalancer_id", type=Uuid(), put=False, source=None, shown=False),
    Field(name="listener_id", type=Uuid(), put=False, source=None, shown=False),
)

KIND = Kind(
    name="pool", plural="pools", title="Pool", argument="pool_", policy="pool", table=tables.pools, fields=FIELDS,
    aliases={"loadbalancer_id": "load_balancer_id", "load_balancer_id": "load_balancer_id",
             "enabled": "admin_state_up"},
)


def place(connection: Connection, values: Values) -> Place:
    if values["loadbalancer_id"]:
        return listeners.place(connection, values)
    if not values["listener_id"]:
        raise Invalid("Must provide at least one of: loadbalancer_id, listener_id")
    return place_of(found(connection, tables.listeners, values["listener_id"], title="Listener"))


def create(act: Act, values: dict[str, Any]) -> str:
    listener = _listener(act, values)
    rules.check(rules.PERSISTENCE_POST, case_of(act, values, values))
    act.quota("pool")
    if listener and act.rows(tables.pools, tables.pools.c.id == listener["default_pool_id"]):
        raise Conflict("This listener already has a default pool")
    act.require_lb()
    if listener:
        act.require_kept("Listener", listener)
    pool = judged(act, values)
    act.require_served("pool", pool)
    id = add(act, KIND, pool)
    if listener:
        listeners.attach(act, listener["id"], id)
    return id


def _listener(act: Act, values: Values) -> Row | None:
    """The listener that gets the pool; its protocol only counts where it alone says which load balancer."""
    if not values["listener_id"]:
        return None
    listener = act.reload(tables.listeners, values["listener_id"], title="Listener")
    if listener["load_balancer_id"] != act.lb_id:  # another load balancer's is none of this request's business
        raise NotFound("Listener", values["listener_id"])
    if not values["loadbalancer_id"]:
        rules.childless(listener["protocol"])
        rules.match(listener["protocol"], values["protocol"])
    return listener


def judged(act: Act, values: dict[str, Any]) -> dict[str, Any]:
    """The pool as it will be stored, if the TLS rules allow it."""
    rules.check(rules.POOL_POST, case_of(act, values, values))
    if not values["tls_enabled"]:
        return values
    return values | {name: default(act.settings) for name, default in TLS_DEFAULTS.items() if values[name] is None}


def case_of(act: Act, sent: Values, after: Values) -> rules.Case:
    return rules.Case(sent, after, act.settings.api_settings, secrets=act.secrets)


def change(act: Act, row: Row, sent: dict[str, Any]) -> None:
    changes = resolved(KIND, sent, act)
    if changes.get("session_persistence"):
        stored = row["session_persistence"] or {}
        persistence = changes["session_persistence"]
        changes["session_persistence"] = persistence | {"type": persistence["type"] or stored.get("type")}
    rules.check((*rules.PERSISTENCE_PUT, *rules.POOL_PUT), case_of(act, changes, {**row, **changes}))
    changes |= {name: default(act.settings) for name, default in TLS_DEFAULTS.items()
                if name != "alpn_protocols" and name in sent and sent[name] is None}
    act.require_lb()
    act.require_served("pool", {**row, **changes})
    alter(act, KIND, row["id"], changes)
    touch_users(act, row["id"])


def remove(act: Act, row: Row, _query: Mapping[str, str]) -> None:
    users = act.rows(tables.l7policies, tables.l7policies.c.redirect_pool_id == row["id"])
    if users:
        raise Conflict(f"Pool {row['id']} is in use by L7 policy {users[0]['id']}")
    act.require_lb()
    version = act.version(infra=bool(act.rows(tables.members, tables.members.c.pool_id == row["id"])))
    wishes.remove_rows(act.connection, tables.pools, [row["id"]], version=version)
    act.forget_secrets()
    touch_users(act, row["id"])


def touch(act: Act, pool_id: str) -> None:
    """The pool and the listeners that use it become pending."""
    wishes.change_rows(act.connection, tables.pools, [pool_id], version=act.version())
    touch_users(act, pool_id)


def touch_users(act: Act, pool_id: str) -> None:
    users = wishes.users_of_pool(act.connection, pool_id)
    wishes.change_rows(act.connection, tables.listeners, users, version=act.version())


CHILD = Child(kind=KIND, place=place, create=create, change=change, remove=remove)
