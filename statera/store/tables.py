# SPDX-License-Identifier: Apache-2.0
"""The schema. Column names are the API's; who writes a column stands beside it.

A wish raises the load balancer's `version` and stamps the rows it touches with it (`wanted_version`).
`done_version` is what the amphorae run. A deleted object stays, `deleting`, until that is done, and a new
one may take its place meanwhile: what must be unique is therefore checked under the load balancer's row
lock, not by a constraint. No status is stored: see `model.status` and `store.status`.
Times that decide (`*_ms`) are milliseconds of the database's clock; times that are shown are UTC.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMES)
Sealed = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
Moment = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def _id(name: str = "id") -> Column[str]:
    return Column(name, String(36), primary_key=True)


def _owner(target: str, name: str, *, nullable: bool = False) -> Column[str]:
    """A reference to the row that this one dies with."""
    return Column(name, String(36), ForeignKey(target, ondelete="CASCADE"), nullable=nullable, index=True)


def _versioned(name: str, *columns: Column, described: bool = True) -> Table:  # type: ignore[type-arg]
    """A table of tree objects: what all of them carry, then their own *columns*.

    api: all but `failed_version` and `failure` (whoever could not make this one object run).
    """
    description = [Column("description", String(255))] if described else []
    return Table(
        name,
        metadata,
        _id(),
        _owner("load_balancers.id", "load_balancer_id"),
        Column("project_id", String(36), nullable=False, index=True),
        Column("name", String(255)),
        *description,
        Column("admin_state_up", Boolean, nullable=False, default=True),
        Column("created_at", Moment, nullable=False),
        Column("updated_at", Moment),
        Column("created_version", BigInteger, nullable=False),
        Column("wanted_version", BigInteger, nullable=False),
        Column("deleting", Boolean, nullable=False, default=False),
        Column("failed_version", BigInteger),
        Column("failure", Text),
        # driver agent: the newest version that another provider's driver says is done; unused for our own
        Column("answered_version", BigInteger, nullable=False, default=0, server_default="0"),
        *columns,
    )


load_balancers = Table(
    "load_balancers",
    metadata,
    _id(),
    # api: the wish
    Column("project_id", String(36), nullable=False, index=True),
    Column("name", String(255)),
    Column("description", String(255)),
    Column("admin_state_up", Boolean, nullable=False, default=True),
    Column("provider", String(64), nullable=False),
    Column("topology", String(36), nullable=False),
    Column("flavor_id", String(36)),
    Column("availability_zone", String(255)),
    Column("log_target", String(255)),
    Column("vip_address", String(64)),
    Column("vip_port_id", String(36)),
    Column("vip_subnet_id", String(36)),
    Column("vip_network_id", String(36)),
    Column("vip_qos_policy_id", String(36)),
    Column("vip_sg_ids", JSON, nullable=False, default=list),
    Column("vip_vnic_type", String(36), nullable=False, default="normal"),
    Column("additional_vips", JSON, nullable=False, default=list),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment),
    Column("created_version", BigInteger, nullable=False, default=1),
    Column("wanted_version", BigInteger, nullable=False, default=1),
    Column("deleting", Boolean, nullable=False, default=False),
    Column("failover_version", BigInteger, nullable=False, default=0),
    # api and controller, always by `version = version + 1`
    Column("version", BigInteger, nullable=False, default=1),
    # api: the newest version that needs a controller pass; controller: the newest that had one
    Column("infra_version", BigInteger, nullable=False, default=1),
    Column("settled_version", BigInteger, nullable=False, default=0),
    # `store.settle` alone, and only upwards
    Column("done_version", BigInteger, nullable=False, default=0),
    # controller (could not be placed) and fleet (could not be applied); cleared by `store.settle`
    Column("failed_version", BigInteger, index=True),
    Column("failure", Text),
    Column("deleted_at", Moment),
    # queue: api makes it due, the holder of the lease puts it off
    Column("due_ms", BigInteger, index=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", String(255)),
    Column("lease_until_ms", BigInteger, nullable=False, default=0),
    Column("lease_token", BigInteger, nullable=False, default=0),
    # api: the request of the newest wish; whoever notifies: the newest version that listeners were told of
    Column("request_id", String(64)),
    Column("told_version", BigInteger),
    Column("telling_until_ms", BigInteger, nullable=False, default=0, server_default="0"),
    # api: when another provider's driver was last told of a wish
    Column("asked_ms", BigInteger),
    # fleet: what the amphorae say, and the health manager that vouches for it
    Column("reported_status", String(16), nullable=False, default="OFFLINE"),
    Column("manager_id", String(36), index=True),
    # the database itself: an index of what is under way
    Column("unsettled", Integer, Computed("CASE WHEN version > done_version THEN 1 ELSE 0 END", persisted=True)),
    Index("ix_load_balancers_deleted_at_created_at_id", "deleted_at", "created_at", "id"),
    Index("ix_load_balancers_unsettled", "unsettled"),
)

listeners = _versioned(
    "listeners",
    Column("protocol", String(16), nullable=False),
    Column("protocol_port", Integer, nullable=False),
    Column("connection_limit", Integer),
    Column("default_pool_id", String(36), ForeignKey("pools.id", ondelete="SET NULL"), index=True),
    Column("default_tls_container_ref", String(255)),
    Column("sni_container_refs", JSON, nullable=False, default=list),
    Column("insert_headers", JSON, nullable=False, default=dict),
    Column("timeout_client_data", Integer, nullable=False),
    Column("timeout_member_connect", Integer, nullable=False),
    Column("timeout_member_data", Integer, nullable=False),
    Column("timeout_tcp_inspect", Integer, nullable=False),
    Column("client_ca_tls_container_ref", String(255)),
    Column("client_authentication", String(10), nullable=False, default="NONE"),
    Column("client_crl_container_ref", String(255)),
    Column("allowed_cidrs", JSON(none_as_null=True)),
    Column("tls_ciphers", String(2048)),
    Column("tls_versions", JSON(none_as_null=True)),
    Column("alpn_protocols", JSON(none_as_null=True)),
    Column("hsts_max_age", BigInteger),
    Column("hsts_include_subdomains", Boolean, default=False),
    Column("hsts_preload", Boolean, default=False),
    Column("reported_status", String(16), nullable=False, default="OFFLINE"),  # fleet
)

pools = _versioned(
    "pools",
    Column("protocol", String(16), nullable=False),
    Column("lb_algorithm", String(32), nullable=False),
    Column("session_persistence", JSON(none_as_null=True)),
    Column("tls_enabled", Boolean, nullable=False, default=False),
    Column("tls_container_ref", String(255)),
    Column("ca_tls_container_ref", String(255)),
    Column("crl_container_ref", String(255)),
    Column("tls_ciphers", String(2048)),
    Column("tls_versions", JSON(none_as_null=True)),
    Column("alpn_protocols", JSON(none_as_null=True)),
    Column("reported_status", String(16), nullable=False, default="OFFLINE"),  # fleet
)

members = _versioned(
    "members",
    _owner("pools.id", "pool_id"),
    Column("address", String(64), nullable=False),
    Column("protocol_port", Integer, nullable=False),
    Column("weight", Integer),
    Column("backup", Boolean, nullable=False, default=False),
    Column("subnet_id", String(36)),
    Column("monitor_address", String(64)),
    Column("monitor_port", Integer),
    Column("vnic_type", String(36), nullable=False, default="normal"),
    Column("reported_status", String(16), nullable=False, default="NO_MONITOR"),  # fleet
    described=False,
)

health_monitors = _versioned(
    "health_monitors",
    _owner("pools.id", "pool_id"),
    Column("type", String(16), nullable=False),
    Column("delay", Integer, nullable=False),
    Column("timeout", Integer, nullable=False),
    Column("max_retries", Integer, nullable=False),
    Column("max_retries_down", Integer, nullable=False),
    Column("http_method", String(16)),
    Column("url_path", String(2048)),
    Column("expected_codes", Text),
    Column("http_version", Float),
    Column("domain_name", String(255)),
    described=False,
)

l7policies = _versioned(
    "l7policies",
    _owner("listeners.id", "listener_id"),
    Column("action", String(32), nullable=False),
    Column("redirect_pool_id", String(36), ForeignKey("pools.id", ondelete="SET NULL"), index=True),
    Column("redirect_url", String(2048)),
    Column("redirect_prefix", String(2048)),
    Column("redirect_http_code", Integer),
    Column("position", Integer, nullable=False),
)

l7rules = _versioned(
    "l7rules",
    _owner("l7policies.id", "l7policy_id"),
    Column("type", String(32), nullable=False),
    Column("compare_type", String(16), nullable=False),
    Column("key", String(255)),
    Column("value", String(255), nullable=False),
    Column("invert", Boolean, nullable=False, default=False),
    described=False,
)

TREE = (l7rules, l7policies, health_monitors, members, listeners, pools)
"""The tables of a tree below the load balancer, children before those that they belong to."""

for _table in TREE:
    Index(f"ix_{_table.name}_created_at_id", _table.c.created_at, _table.c.id)

tags = Table(  # api
    "tags",
    metadata,
    _id("resource_id"),
    Column("tag", String(255), primary_key=True),
)

quotas = Table(  # api; null is "never set": the configured default counts
    "quotas",
    metadata,
    Column("project_id", String(36), primary_key=True),
    *(Column(kind, Integer) for kind in
      ("load_balancer", "listener", "member", "pool", "health_monitor", "l7policy", "l7rule")),
)

flavor_profiles = Table(  # api
    "flavor_profiles",
    metadata,
    _id(),
    Column("name", String(255), nullable=False),
    Column("provider_name", String(255), nullable=False),
    Column("flavor_data", String(4096), nullable=False),
)
flavors = Table(  # api
    "flavors",
    metadata,
    _id(),
    Column("name", String(255), nullable=False, unique=True),
    Column("description", String(255)),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("flavor_profile_id", String(36), ForeignKey("flavor_profiles.id"), nullable=False, index=True),
)
availability_zone_profiles = Table(  # api
    "availability_zone_profiles",
    metadata,
    _id(),
    Column("name", String(255), nullable=False),
    Column("provider_name", String(255), nullable=False),
    Column("availability_zone_data", String(4096), nullable=False),
)
availability_zones = Table(  # api
    "availability_zones",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("description", String(255)),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("availability_zone_profile_id", String(36), ForeignKey("availability_zone_profiles.id"),
           nullable=False, index=True),
)

managers = Table(  # fleet: one row per health manager, its own sign of life
    "managers",
    metadata,
    _id(),
    Column("host", String(255), nullable=False),
    Column("alive_until_ms", BigInteger, nullable=False),
    Column("issuer", String(64)),
)

authorities = Table(  # who sees that one is missing makes it; `store.authorities` says what follows from what
    "authorities",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("generation", Integer, nullable=False, unique=True),
    Column("certificate", Text, nullable=False),
    Column("sealed", Sealed),
    Column("created_at", Moment, nullable=False),
    Column("signs_since", Moment),
    Column("retired_at", Moment),
)

nodes = Table(
    "nodes",
    metadata,
    _id(),
    Column("name", String(255), nullable=False, unique=True),
    Column("zone", String(255)),
    Column("drained", Boolean, nullable=False, default=False),  # an operator
    Column("created_at", Moment, nullable=False),
    # fleet: written when a connection comes or goes, never per beat
    Column("manager_id", String(36)),
    Column("connected_at", Moment),
    Column("lost_ms", BigInteger),
    Column("agent_version", String(64)),
    Column("hostname", String(255)),
    Column("overlay_ip", String(64)),
    Column("features", JSON, nullable=False, default=list),
    Column("certificate_expires_at", Moment),
    Column("issuer", String(64)),
    Column("trusts", JSON(none_as_null=True)),
    Column("strays", JSON(none_as_null=True)),
)

restores = Table(  # an operator: backups that took the place of the database
    "restores",
    metadata,
    _id(),
    Column("restored_at", Moment, nullable=False),
    Column("made_at", Moment, nullable=False),
    Column("grace_until_ms", BigInteger, nullable=False),
)

node_tokens = Table(  # an operator makes one, fleet uses it up
    "node_tokens",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("node_name", String(255)),
    Column("expires_ms", BigInteger, nullable=False),
)

amphorae = Table(
    "amphorae",
    metadata,
    _id(),
    # controller; housekeeping while an amphora is a spare one, which has no load balancer
    Column("load_balancer_id", String(36), ForeignKey("load_balancers.id", ondelete="SET NULL"), index=True),
    Column("role", String(16), nullable=False),
    Column("born_version", BigInteger, nullable=False),
    Column("node_id", String(36), ForeignKey("nodes.id", ondelete="SET NULL")),
    Column("ports", JSON, nullable=False, default=list),
    Column("leaving", Boolean, nullable=False, default=False),
    Column("built", JSON(none_as_null=True)),
    Column("compute_id", String(36)),
    Column("image_id", String(36)),
    Column("compute_flavor", String(255)),
    Column("cached_zone", String(255)),
    Column("host_id", String(64)),
    Column("lb_network_ip", String(64)),
    Column("cert_expiration", Moment),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment),
    Column("deleted_at", Moment),
    # api
    Column("replace", Boolean, nullable=False, default=False, quote=True),  # a rotation too
    Column("renewal", Integer, nullable=False, default=0, server_default="0"),  # a rotation
    # fleet
    Column("applied_version", BigInteger, nullable=False, default=0),
    Column("gone", Boolean, nullable=False, default=False),
    Column("vrrp_state", String(16)),
    Column("haproxy_version", String(64)),
    Column("alarms", JSON(none_as_null=True)),
    Column("effective", JSON(none_as_null=True)),
    Index("ix_amphorae_node_id_deleted_at", "node_id", "deleted_at"),  # counted for each node by who places one
)

budgets = Table(  # controller: how far ahead of the clock what was spent reaches
    "budgets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("spent_until_ms", BigInteger, nullable=False),
)

turns = Table(  # housekeeping: what one process at a time does, and until when it is its turn
    "turns",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
)

rotations = Table(  # an operator wishes one, the controller paces it
    "rotations",
    metadata,
    _id(),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("state", String(16), nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("load_balancer_id", String(36)),
    Column("node_id", String(36)),
    Column("max_unavailable", Integer, nullable=False),
    Column("hours", String(16)),
    Column("total", Integer, nullable=False),
)

listener_statistics = Table(  # fleet: totals, one row per listener and amphora that ever served it
    "listener_statistics",
    metadata,
    _id("listener_id"),
    _id("amphora_id"),
    Column("load_balancer_id", String(36), nullable=False, index=True),
    *(Column(name, BigInteger, nullable=False, default=0) for name in
      ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")),
)

idempotency_keys = Table(  # api: the answers of creations that may be asked for again
    "idempotency_keys",
    metadata,
    Column("project_id", String(36), primary_key=True),
    Column("idempotency_key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("answer", Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
    Column("expires_ms", BigInteger, nullable=False, index=True),
)

secrets = Table(  # api, `local` secret store: what tenants uploaded
    "secrets",
    metadata,
    _id(),
    Column("project_id", String(36), nullable=False, index=True),
    Column("name", String(255)),
    Column("secret_type", String(32), nullable=False),
    Column("payload_content_type", String(255), nullable=False),
    Column("sealed", Sealed, nullable=False),
    Column("created_at", Moment, nullable=False),
)

sealed_secrets = Table(  # api: what references meant when the wish was accepted
    "sealed_secrets",
    metadata,
    Column("load_balancer_id", String(36), ForeignKey("load_balancers.id", ondelete="CASCADE"), primary_key=True),
    Column("ref", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("sealed", Sealed, nullable=False),
    Column("expires_at", Moment),
)

secret_consumers = Table(  # housekeeping: which secrets were told that they are used, or are about to be
    "secret_consumers",
    metadata,
    Column("load_balancer_id", String(36), ForeignKey("load_balancers.id", ondelete="CASCADE"), primary_key=True),
    Column("ref", String(255), primary_key=True),
    Column("listed", Boolean, nullable=False, default=False),
)

adoptions = Table(  # `statera adopt`: what came from another Octavia, and how far it has come
    "adoptions",
    metadata,
    _id("load_balancer_id"),
    Column("state", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("machines", JSON, nullable=False),
    Column("problem", Text),
    Column("changed_at", Moment, nullable=False),
)

events = Table(  # whoever saw it
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("load_balancer_id", String(36), nullable=False, index=True),
    Column("object_type", String(32), nullable=False),
    Column("object_id", String(36), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("fault", String(16), nullable=False, default="none"),
    Column("next_try_at", Moment),
    Column("request_id", String(64)),
)

networks = Table(  # api, `local` network driver
    "networks",
    metadata,
    _id(),
    Column("project_id", String(36), nullable=False, index=True),
    Column("name", String(255), nullable=False),
    Column("description", String(255), nullable=False, default=""),
    Column("bridge", String(15), nullable=False, unique=True),
    Column("existing_bridge", Boolean, nullable=False, default=False),
    Column("shared", Boolean, nullable=False, default=False),
    Column("mtu", Integer, nullable=False, default=1500),
    Column("vni", Integer, unique=True, index=True),
    Column("created_at", Moment, nullable=False),
)
subnets = Table(
    "subnets",
    metadata,
    _id(),
    _owner("networks.id", "network_id"),
    Column("project_id", String(36), nullable=False, index=True),
    Column("name", String(255), nullable=False),
    Column("description", String(255), nullable=False, default=""),
    Column("cidr", String(64), nullable=False),
    Column("ip_version", Integer, nullable=False),
    Column("gateway_ip", String(64)),
    Column("allocation_pools", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
)
ports = Table(
    "ports",
    metadata,
    _id(),
    Column("network_id", String(36), ForeignKey("networks.id"), nullable=False, index=True),
    Column("project_id", String(36), nullable=False, index=True),
    Column("name", String(255), nullable=False, default=""),
    Column("mac_address", String(17), nullable=False),
    Column("device_id", String(255), nullable=False, default="", index=True),
    Column("device_owner", String(255), nullable=False, default=""),
    Column("admin_state_up", Boolean, nullable=False, default=True),
    Column("created_at", Moment, nullable=False),
)
port_addresses = Table(  # the key makes giving one address twice impossible
    "port_addresses",
    metadata,
    Column("subnet_id", String(36), ForeignKey("subnets.id"), primary_key=True),
    Column("ip_address", String(64), primary_key=True),
    _owner("ports.id", "port_id"),
)
