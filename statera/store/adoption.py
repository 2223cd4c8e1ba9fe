# SPDX-License-Identifier: Apache-2.0
"""What another Octavia's database holds, as rows of ours: which column comes from where, for schemas of three years.

Reading is one look; nothing is ever written there. A column that an older schema lacks counts as null, and what
null means stands in the tables below. Load balancers keep their ids, addresses, ports and times.
"""

import hashlib
import io
import pickle
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, MetaData, Table, select
from sqlalchemy.exc import NoSuchTableError

from statera.errors import SetupError
from statera.model.providers import is_ours
from statera.store.events import utc_now

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]


class Oddity(ValueError):
    """A value that Octavia never writes."""


class Found(Struct, frozen=True, kw_only=True):
    """One load balancer of the other database as *rows* of our tables, its own first, and its *machines*.

    *digest* changes with any of it. *problem* says why it cannot be taken now.
    """

    id: str
    name: str
    project_id: str
    provider: str
    rows: Rows
    machines: Sequence[Row] = ()
    problem: str = ""

    @property
    def is_ours(self) -> bool:
        return is_ours(self.provider)

    @property
    def digest(self) -> str:
        return hashlib.sha256(msgspec.json.encode((self.rows, self.machines), order="sorted", enc_hook=str)).hexdigest()

    @property
    def references(self) -> list[str]:
        """The secrets that its listeners and pools name."""
        values = [value for table in ("listeners", "pools") for row in self.rows[table] for name, value in row.items()
                  if "container_ref" in name and value]
        return list(dict.fromkeys(ref for value in values for ref in (value if isinstance(value, list) else [value])))


SOURCES = (
    "load_balancer", "vip", "additional_vip", "vip_security_group", "listener", "sni", "listener_cidr", "pool",
    "session_persistence", "member", "health_monitor", "l7policy", "l7rule", "tags", "amphora", "listener_statistics",
    "quotas", "flavor_profile", "flavor", "availability_zone_profile", "availability_zone",
)
YOUNG = ("additional_vip", "vip_security_group", "availability_zone", "availability_zone_profile")
"""Tables that an older schema does not have."""


def read(connection: Connection) -> Mapping[str, list[Row]]:
    """All rows of the other database that concern us. Raise `SetupError` when that is no database of Octavia's."""
    return {name: _rows(connection, name) for name in SOURCES}


def _rows(connection: Connection, name: str) -> list[Row]:
    try:
        table = Table(name, MetaData(), autoload_with=connection, resolve_fks=False)
    except NoSuchTableError:
        if name in YOUNG:
            return []
        raise SetupError(f"{connection.engine.url!r} has no table {name}: it is not a database of Octavia's") from None
    return [dict(row) for row in connection.execute(select(table)).mappings()]


# Values.


class _Plain(pickle.Unpickler):
    """Opens text in dictionaries and lists, and nothing that could act."""

    def find_class(self, module: str, name: str) -> Any:
        raise Oddity(f"a pickled value names {module}.{name}")


def _unpickled(value: bytes | None) -> dict[str, str]:
    if not value:
        return {}
    try:
        found = _Plain(io.BytesIO(value)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise Oddity(f"insert_headers cannot be read: {error}") from error
    return {str(name): str(each) for name, each in (found or {}).items()}


def _words(value: str | None) -> list[str] | None:
    """A list that is kept as text with commas."""
    return [word.strip() for word in value.split(",")] if value else None


def _same(name: str, otherwise: Any = None) -> Callable[[Row], Any]:
    """The column of that name; *otherwise* where it is null, or the schema has none."""
    return lambda row: otherwise if row.get(name) is None else row[name]


def _flag(name: str, otherwise: bool | None = False) -> Callable[[Row], bool | None]:
    return lambda row: otherwise if row.get(name) is None else bool(row[name])


def _moment(row: Row) -> datetime:
    found: datetime = row.get("created_at") or utc_now()
    return found


Columns = Mapping[str, Callable[[Row], Any]]
OWNED: Columns = {
    "id": _same("id"), "project_id": _same("project_id", ""), "name": _same("name"),
    "admin_state_up": _flag("enabled", True), "created_at": _moment, "updated_at": _same("updated_at"),
}
DESCRIBED: Columns = {**OWNED, "description": _same("description")}


def _all(*names: str) -> Columns:
    return {name: _same(name) for name in names}


COLUMNS: Mapping[str, Columns] = {
    "load_balancer": {
        **DESCRIBED, **_all("flavor_id", "availability_zone"),
        "provider": _same("provider", "octavia"), "topology": _same("topology", "SINGLE"),
    },
    "vip": {
        "vip_address": _same("ip_address"), "vip_port_id": _same("port_id"), "vip_subnet_id": _same("subnet_id"),
        "vip_network_id": _same("network_id"), "vip_qos_policy_id": _same("qos_policy_id"),
        "vip_vnic_type": _same("vnic_type", "normal"),
    },
    "listener": {
        **DESCRIBED, **_all("load_balancer_id", "protocol", "protocol_port", "connection_limit", "default_pool_id",
                            "tls_ciphers", "hsts_max_age"),
        "default_tls_container_ref": _same("tls_certificate_id"),
        "client_ca_tls_container_ref": _same("client_ca_tls_certificate_id"),
        "client_crl_container_ref": _same("client_crl_container_id"),
        "client_authentication": _same("client_authentication", "NONE"),
        "insert_headers": lambda row: _unpickled(row.get("insert_headers")),
        "timeout_client_data": _same("timeout_client_data", 50_000),
        "timeout_member_connect": _same("timeout_member_connect", 5_000),
        "timeout_member_data": _same("timeout_member_data", 50_000),
        "timeout_tcp_inspect": _same("timeout_tcp_inspect", 0),
        "tls_versions": lambda row: _words(row.get("tls_versions")),
        "alpn_protocols": lambda row: _words(row.get("alpn_protocols")),
        "hsts_include_subdomains": _flag("hsts_include_subdomains"), "hsts_preload": _flag("hsts_preload"),
    },
    "pool": {
        **DESCRIBED, **_all("load_balancer_id", "protocol", "lb_algorithm", "tls_ciphers"),
        "tls_enabled": _flag("tls_enabled"), "tls_container_ref": _same("tls_certificate_id"),
        "ca_tls_container_ref": _same("ca_tls_certificate_id"), "crl_container_ref": _same("crl_container_id"),
        "tls_versions": lambda row: _words(row.get("tls_versions")),
        "alpn_protocols": lambda row: _words(row.get("alpn_protocols")),
    },
    "member": {
        **OWNED, **_all("pool_id", "protocol_port", "weight", "subnet_id", "monitor_address", "monitor_port"),
        "address": _same("ip_address"), "backup": _flag("backup"), "vnic_type": _same("vnic_type", "normal"),
    },
    "health_monitor": {
        **OWNED, **_all("pool_id", "type", "delay", "timeout", "http_method", "url_path", "expected_codes",
                        "http_version", "domain_name"),
        "max_retries": _same("rise_threshold"), "max_retries_down": _same("fall_threshold", 3),
    },
    "l7policy": {**DESCRIBED, **_all("listener_id", "action", "redirect_pool_id", "redirect_url", "redirect_prefix",
                                     "redirect_http_code", "position")},
    "l7rule": {**OWNED, **_all("l7policy_id", "type", "compare_type", "key", "value"), "invert": _flag("invert")},
    "flavor_profile": _all("id", "name", "provider_name", "flavor_data"),
    "flavor": {**_all("id", "name", "description", "flavor_profile_id"), "enabled": _flag("enabled", True)},
    "availability_zone_profile": _all("id", "name", "provider_name", "availability_zone_data"),
    "availability_zone": {
        **_all("name", "description", "availability_zone_profile_id"), "enabled": _flag("enabled", True)},
    "quotas": _all("project_id", "load_balancer", "listener", "member", "pool", "health_monitor", "l7policy",
                   "l7rule"),
}
NOWHERE = "00000000-0000-0000-0000-000000000000"
"""Octavia's own placeholder among flavors and zones."""


def ours(source: str, row: Row) -> Row:
    """One row of theirs as ours."""
    return {name: value(row) for name, value in COLUMNS[source].items()}


def offers(there: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """What an operator offers and allows, by our tables, in the order in which they may be written."""
    names = {"flavor_profile": "flavor_profiles", "flavor": "flavors",
             "availability_zone_profile": "availability_zone_profiles", "availability_zone": "availability_zones",
             "quotas": "quotas"}
    return {target: [ours(source, row) for row in there[source] if NOWHERE not in (row.get("id"), row.get("name"))]
            for source, target in names.items()}


# Load balancers.

UNDER_WAY = ("PENDING_CREATE", "PENDING_UPDATE", "PENDING_DELETE")


def load_balancers(there: Mapping[str, Sequence[Row]]) -> list[Found]:
    """Every load balancer that is not deleted, oldest first."""
    index = _Index(there)
    kept = (row for row in there["load_balancer"] if row["provisioning_status"] != "DELETED")
    return [_found(row, index) for row in sorted(kept, key=lambda row: (_moment(row), row["id"]))]


class _Index:
    """The rows by what they belong to."""

    def __init__(self, there: Mapping[str, Sequence[Row]]) -> None:
        owners = {
            "vip": "load_balancer_id", "additional_vip": "load_balancer_id", "vip_security_group": "load_balancer_id",
            "listener": "load_balancer_id", "pool": "load_balancer_id", "amphora": "load_balancer_id",
            "sni": "listener_id", "listener_cidr": "listener_id", "l7policy": "listener_id",
            "listener_statistics": "listener_id", "session_persistence": "pool_id", "member": "pool_id",
            "health_monitor": "pool_id", "l7rule": "l7policy_id", "tags": "resource_id",
        }
        self._of: dict[str, dict[str, list[Row]]] = {name: defaultdict(list) for name in owners}
        for name, owner in owners.items():
            for row in there[name]:
                self._of[name][row[owner]].append(row)

    def of(self, source: str, *owners: str) -> list[Row]:
        return [row for owner in owners for row in self._of[source].get(owner, ())]


def _found(row: Row, index: _Index) -> Found:
    base = {"id": row["id"], "name": row["name"] or "", "project_id": row["project_id"] or "",
            "provider": row["provider"] or "octavia"}
    machines = [_machine(each) for each in index.of("amphora", row["id"]) if each["status"] != "DELETED"]
    if row["provisioning_status"] in UNDER_WAY:
        return Found(**base, rows={}, problem=f"it is {row['provisioning_status']} there: wait until that is over")
    try:
        return Found(**base, rows=_tree(row, index), machines=machines)
    except Oddity as oddity:
        return Found(**base, rows={}, problem=str(oddity))


def _machine(row: Row) -> Row:
    return {name: row.get(name) for name in ("id", "compute_id", "role", "lb_network_ip", "vrrp_port_id", "vrrp_ip")}


def _tree(row: Row, index: _Index) -> dict[str, list[Row]]:
    lb_id = row["id"]
    listeners, pools = index.of("listener", lb_id), index.of("pool", lb_id)
    listener_ids, pool_ids = [each["id"] for each in listeners], [each["id"] for each in pools]
    policies = index.of("l7policy", *listener_ids)
    below = {
        "pools": [_pool(each, index) for each in pools],
        "listeners": [_listener(each, index) for each in listeners],
        "members": _owned("member", index.of("member", *pool_ids), lb_id),
        "health_monitors": _owned("health_monitor", index.of("health_monitor", *pool_ids), lb_id),
        "l7policies": _owned("l7policy", policies, lb_id),
        "l7rules": _owned("l7rule", index.of("l7rule", *(each["id"] for each in policies)), lb_id),
    }
    ids = [lb_id, *(each["id"] for rows in below.values() for each in rows)]
    return {
        "load_balancers": [_load_balancer(row, index)], **below,
        "tags": [{"resource_id": each["resource_id"], "tag": each["tag"]} for each in index.of("tags", *ids)],
        "listener_statistics": _owned_statistics(index.of("listener_statistics", *listener_ids), lb_id),
    }


def _load_balancer(row: Row, index: _Index) -> Row:
    lb_id = row["id"]
    vips = index.of("vip", lb_id)
    return {
        **ours("load_balancer", row), **(ours("vip", vips[0]) if vips else {}),
        "vip_sg_ids": [each["sg_id"] for each in index.of("vip_security_group", lb_id)],
        "additional_vips": [{name: each[name] for name in ("subnet_id", "ip_address", "port_id")}
                            for each in index.of("additional_vip", lb_id)],
    }


def _listener(row: Row, index: _Index) -> Row:
    snis = sorted(index.of("sni", row["id"]), key=lambda each: each.get("position") or 0)
    cidrs = [each["cidr"] for each in index.of("listener_cidr", row["id"])]
    return {**ours("listener", row), "sni_container_refs": [each["tls_container_id"] for each in snis],
            "allowed_cidrs": cidrs or None}


PERSISTENCE = ("type", "cookie_name", "persistence_timeout", "persistence_granularity")


def _pool(row: Row, index: _Index) -> Row:
    kept = index.of("session_persistence", row["id"])
    persistence = {name: kept[0].get(name) for name in PERSISTENCE} if kept else None
    return {**ours("pool", row), "session_persistence": persistence}


def _owned(source: str, rows: Sequence[Row], lb_id: str) -> list[Row]:
    return [{**ours(source, row), "load_balancer_id": lb_id} for row in rows]


COUNTERS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")


def _owned_statistics(rows: Sequence[Row], lb_id: str) -> list[Row]:
    return [{**{name: row[name] for name in ("listener_id", "amphora_id", *COUNTERS)}, "load_balancer_id": lb_id}
            for row in rows]
