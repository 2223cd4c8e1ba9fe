# SPDX-License-Identifier: Apache-2.0
"""Rows of the store as the objects of octavia-lib that drivers of other providers expect.

A driver sees the API's names with each object's id spelled out (`listener_id`), the whole below an object with
it, and what was not said as `Unset`, which is something else than None.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct
from octavia_lib.api.drivers import data_models
from octavia_lib.api.drivers.data_models import Unset

from statera.model import pem
from statera.model.providers import Row, Whole

Lib = Any
"""An object of `octavia_lib.api.drivers.data_models`, which has no types of its own."""


class Shape(Struct, frozen=True):
    """How a table's rows are shown: as *model*, its id as *id*; *more* adds what stands in other rows."""

    model: Any
    id: str
    verb: str
    more: Callable[[Row, Whole], Mapping[str, Any]]


def shown(table: str, id: str, whole: Whole, *, only: Collection[str] | None = None) -> Lib:
    """The object with this id; with *only*, what was sent of it, and the rest is `Unset`."""
    shape, row = SHAPES[table], whole.row(table, id)
    values = {**_plain(shape, row), **shape.more(row, whole)}
    if only is not None:
        values = {name: value for name, value in values.items() if _is_sent(name, only)} | {shape.id: id}
    return shape.model(**{name: value for name, value in values.items() if name in _attributes(shape)})


def _plain(shape: Shape, row: Row) -> dict[str, Any]:
    names = {"id": shape.id, "load_balancer_id": "loadbalancer_id"}
    return {names.get(name, name): value for name, value in row.items()}


def _attributes(shape: Shape) -> Collection[str]:
    return frozenset(vars(shape.model()))


def _is_sent(name: str, only: Collection[str]) -> bool:
    """A certificate's content goes with its reference."""
    referred = {f"{name.removesuffix('_data')}_{ending}" for ending in ("ref", "refs") if name.endswith("_data")}
    return name in only or bool(referred & set(only))


def _load_balancer(row: Row, whole: Whole) -> dict[str, Any]:
    listeners, pools = (
        [shown(table, each["id"], whole) for each in whole.below(table)] for table in ("listeners", "pools"))
    return {
        "flavor": dict(whole.flavor) if row["flavor_id"] else Unset,
        "availability_zone": dict(whole.zone) if row["availability_zone"] else Unset,
        "additional_vips": [{"network_id": row["vip_network_id"], **vip} for vip in row["additional_vips"]],
        "listeners": listeners or Unset, "pools": pools or Unset,
    }


def _listener(row: Row, whole: Whole) -> dict[str, Any]:
    pool_id = row["default_pool_id"]
    policies = whole.below("l7policies", listener_id=row["id"])
    return {
        "default_pool": shown("pools", pool_id, whole) if pool_id else None,
        "l7policies": [shown("l7policies", policy["id"], whole) for policy in policies],
        "default_tls_container_data": _certificate(row["default_tls_container_ref"], whole),
        "sni_container_data": [_certificate(ref, whole) for ref in row["sni_container_refs"]] or Unset,
        "client_ca_tls_container_data": _text(row["client_ca_tls_container_ref"], whole),
        "client_crl_container_data": _text(row["client_crl_container_ref"], whole),
    }


def _pool(row: Row, whole: Whole) -> dict[str, Any]:
    monitors = whole.below("health_monitors", pool_id=row["id"])
    users = whole.below("listeners", default_pool_id=row["id"])
    return {
        "healthmonitor": shown("health_monitors", monitors[0]["id"], whole) if monitors else None,
        "members": [shown("members", member["id"], whole) for member in whole.below("members", pool_id=row["id"])],
        "listener_id": users[0]["id"] if users else Unset,
        "tls_container_data": _certificate(row["tls_container_ref"], whole),
        "ca_tls_container_data": _text(row["ca_tls_container_ref"], whole),
        "crl_container_data": _text(row["crl_container_ref"], whole),
    }


def _policy(row: Row, whole: Whole) -> dict[str, Any]:
    return {"rules": [shown("l7rules", rule["id"], whole) for rule in whole.below("l7rules", l7policy_id=row["id"])]}


def _alone(_row: Row, _whole: Whole) -> dict[str, Any]:
    """Kinds of which everything stands in their own row."""
    return {}


def _text(ref: str | None, whole: Whole) -> Any:
    return whole.secrets.get(ref, Unset) if ref else Unset


def _certificate(ref: str | None, whole: Whole) -> Any:
    """A certificate with its key in octavia-lib's form; `Unset` for none, or when nothing is kept of it."""
    text = whole.secrets.get(ref) if ref else None
    return Unset if text is None else {
        "id": pem.digest(text)[:40], "certificate": pem.only(text, "CERTIFICATE").partition(END)[0] + END,
        "private_key": pem.only(text, "KEY"), "intermediates": _intermediates(text),
        "primary_cn": None, "passphrase": None,
    }


END = "-----END CERTIFICATE-----\n"


def _intermediates(text: str) -> list[str]:
    blocks = pem.only(text, "CERTIFICATE").split(END)[1:]
    return [block + END for block in blocks if block]


SHAPES: Mapping[str, Shape] = {
    "load_balancers": Shape(data_models.LoadBalancer, "loadbalancer_id", "loadbalancer", _load_balancer),
    "listeners": Shape(data_models.Listener, "listener_id", "listener", _listener),
    "pools": Shape(data_models.Pool, "pool_id", "pool", _pool),
    "members": Shape(data_models.Member, "member_id", "member", _alone),
    "health_monitors": Shape(data_models.HealthMonitor, "healthmonitor_id", "health_monitor", _alone),
    "l7policies": Shape(data_models.L7Policy, "l7policy_id", "l7policy", _policy),
    "l7rules": Shape(data_models.L7Rule, "l7rule_id", "l7rule", _alone),
}
