# SPDX-License-Identifier: Apache-2.0
"""Listeners."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from statera.api import rules
from statera.api.acts import Act
from statera.api.fields import DEFAULT, REQUIRED, Field, ids, tags, text
from statera.api.handlers import Child, Place, Values, add, alter, found, place_of, resolved
from statera.api.kinds import Kind
from statera.api.types import Alpn, Bool, Cidr, Enum, Int, ListOf, MapOf, Text, Uuid
from statera.config import Settings
from statera.errors import Conflict, NotFound
from statera.store import wishes
from statera.store.lists import Row, children, tags_of
from statera.store.tables import l7policies, listeners, load_balancers, pools

OWASP_SUITE_B = (
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:"
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:"
    "DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
)
"""https://cheatsheetseries.owasp.org, cipher string B: what counts where no option names ciphers."""


def _timeout(name: str) -> Field:
    def default(settings: Settings) -> Any:
        return getattr(settings.haproxy_amphora, name)

    return Field(name=name, type=Int(0, 2_073_600_000), post=default, null=DEFAULT)


TLS_DEFAULTS: Mapping[str, Callable[[Settings], Any]] = {
    "tls_ciphers": lambda settings: settings.api_settings.default_listener_ciphers or OWASP_SUITE_B,
    "tls_versions": lambda settings: list(settings.api_settings.default_listener_tls_versions),
    "alpn_protocols": lambda settings: list(settings.api_settings.default_listener_alpn_protocols),
}
"""What TERMINATED_HTTPS listeners get that name none, and any listener whose value is set to null."""


def _ref(name: str) -> Field:
    return Field(name=name, type=Text(255), post=None)


def _distinct(values: Sequence[str] | None) -> list[str] | None:
    return list(dict.fromkeys(values)) if values else None


FIELDS = (
    Field(name="id"),
    text("name"),
    text("description"),
    Field(name="provisioning_status"),
    Field(name="operating_status"),
    Field(name="admin_state_up", type=Bool(), post=True, null=False),
    Field(name="protocol", type=Enum(tuple(rules.POOLS_OF)), post=REQUIRED, put=False),
    Field(name="protocol_port", type=Int(1, 65535), post=REQUIRED, put=False),
    Field(name="connection_limit", type=Int(-1), post=-1, null_put=-1),
    _ref("default_tls_container_ref"),
    Field(name="sni_container_refs", type=ListOf(Text(255)), post=[], null=[], filtered=False, show=sorted),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="default_pool_id", type=Uuid(), post=None),
    Field(name="l7policies", source=children(l7policies, "listener_id"), filtered=False),
    Field(name="insert_headers", type=MapOf(Text(255)), post={}, null={}, filtered=False),
    Field(name="created_at"),
    Field(name="updated_at"),
    Field(name="loadbalancers", source="load_balancer_id", show=ids, filtered=False),
    *(_timeout(name) for name in
      ("timeout_client_data", "timeout_member_connect", "timeout_member_data", "timeout_tcp_inspect")),
    tags(tags_of),
    _ref("client_ca_tls_container_ref"),
    Field(name="client_authentication", type=Enum(("NONE", "OPTIONAL", "MANDATORY")), post="NONE"),
    _ref("client_crl_container_ref"),
    Field(name="allowed_cidrs", type=ListOf(Cidr()), post=None, filtered=False),
    Field(name="tls_ciphers", type=Text(2048), post=None),
    Field(name="tls_versions", type=ListOf(Text(32)), post=None, filtered=False),
    Field(name="alpn_protocols", type=ListOf(Alpn()), post=None, filtered=False),
    Field(name="hsts_max_age", type=Int(0), post=None),
    Field(name="hsts_include_subdomains", type=Bool(), post=False, null_put=False),
    Field(name="hsts_preload", type=Bool(), post=False, null_put=False),
    Field(name="loadbalancer_id", type=Uuid(), post=REQUIRED, put=False, source=None, shown=False),
)

KIND = Kind(
    name="listener", plural="listeners", title="Listener", argument="listener_", policy="listener", table=listeners,
    fields=FIELDS,
    aliases={"loadbalancer_id": "load_balancer_id", "load_balancer_id": "load_balancer_id",
             "enabled": "admin_state_up"},
)


def place(connection: Connection, values: Values) -> Place:
    """Any load balancer whose row is kept, deleted or not."""
    row = connection.execute(
        load_balancers.select().where(load_balancers.c.id == values["loadbalancer_id"])
    ).mappings().one_or_none()
    if row is None:
        raise NotFound("Load Balancer", values["loadbalancer_id"])
    return place_of(dict(row))


def create(act: Act, values: dict[str, Any]) -> str:
    case = case_of(act, values, values)
    rules.check(rules.LISTENER_NULLS, case)
    act.quota("listener")
    if values["default_pool_id"]:
        rules.childless(values["protocol"])
        match_pool(act, values["protocol"], values["default_pool_id"])
    act.require_lb()
    taken = act.rows(listeners)
    row = judged(act, values, taken)
    act.require_served("listener", row)
    act.version(infra=act.service.network.guards)
    return add(act, KIND, row)


def judged(act: Act, values: dict[str, Any], others: Sequence[Values]) -> dict[str, Any]:
    """The listener as it will be stored, if the rules and the ports of the *others* allow it."""
    case = case_of(act, values, values)
    rules.check(rules.LISTENER_POST, case)
    require_free_port(values, others)
    rules.check(rules.LISTENER_POST_LATER, case)
    return with_tls_defaults(values, act.settings) | {
        "allowed_cidrs": _distinct(values["allowed_cidrs"]),
        "client_authentication": values["client_authentication"] or "NONE",
    }


def case_of(act: Act, sent: Values, after: Values) -> rules.Case:
    lb = act.load_balancer
    vips = (lb["vip_address"], *(vip["ip_address"] for vip in lb["additional_vips"]))
    return rules.Case(sent, after, act.settings.api_settings, vips, tuple(lb["vip_sg_ids"]), act.secrets)


def match_pool(act: Act, protocol: str, pool_id: str) -> None:
    """The pool must be of the same load balancer, and its protocol fit. Raise `NotFound`, `Invalid`."""
    pool = found(act.connection, pools, pool_id, title="Pool")
    if pool["load_balancer_id"] != act.lb_id or pool["deleting"]:
        raise NotFound("Pool", pool_id)
    rules.match(protocol, pool["protocol"])


def require_free_port(values: Values, others: Sequence[Values]) -> None:
    for other in others:
        same = rules.transport(other["protocol"]) == rules.transport(values["protocol"])
        if same and other["protocol_port"] == values["protocol_port"]:
            raise Conflict(f"Another Listener on this Load Balancer is already using protocol {other['protocol']} and "
                           f"protocol_port {other['protocol_port']}")


def with_tls_defaults(values: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if values["protocol"] != "TERMINATED_HTTPS":
        return values
    return values | {name: default(settings) for name, default in TLS_DEFAULTS.items() if values[name] is None}


def change(act: Act, row: Row, sent: dict[str, Any]) -> None:
    changes = resolved(KIND, sent, act)
    kept = {name: value for name, value in changes.items() if value is not None or name not in (rules.CA, rules.CRL)}
    rules.check(rules.LISTENER_PUT, case_of(act, sent, {**row, **kept}))
    if changes.get("default_pool_id"):
        rules.childless(row["protocol"])
        match_pool(act, row["protocol"], changes["default_pool_id"])
    changes |= {name: default(act.settings) for name, default in TLS_DEFAULTS.items()
                if name in sent and sent[name] is None}
    if sent.get("client_authentication", "") is None:
        changes["client_authentication"] = "NONE"
    if "allowed_cidrs" in changes:
        changes["allowed_cidrs"] = _distinct(changes["allowed_cidrs"])
    act.require_lb()
    act.require_served("listener", {**row, **changes})
    act.version(infra=act.service.network.guards and bool(changes.keys() & {"allowed_cidrs", "admin_state_up"}))
    alter(act, KIND, row["id"], changes)


def attach(act: Act, listener_id: str, pool_id: str) -> None:
    """Make the pool the listener's default."""
    wishes.change_rows(act.connection, listeners, [listener_id], version=act.version(), default_pool_id=pool_id)


def remove(act: Act, row: Row, _query: Mapping[str, str]) -> None:
    act.require_lb()
    version = act.version(infra=act.service.network.guards)
    wishes.remove_rows(act.connection, listeners, [row["id"]], version=version)
    act.forget_secrets()


CHILD = Child(
    kind=KIND, place=place, create=create, change=change, remove=remove,
    missing_object="Validation failure: No listener object supplied.",
)
