# SPDX-License-Identifier: Apache-2.0
"""The schema as it first was."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SEALED = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


TEXT: dict[str, Any] = {f"{name}_{option}": value for name in ("mysql", "mariadb")
                        for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))}
"""Any character, and no two of them the same, whatever the server's own defaults are."""


def create_table(name: str, *parts: sa.schema.SchemaItem) -> None:
    op.create_table(name, *parts, **TEXT)


def upgrade() -> None:
    create_table(
        "availability_zone_profiles",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("provider_name", sa.String(length=255), nullable=False),
        sa.Column("availability_zone_data", sa.String(length=4096), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_availability_zone_profiles"),
    )
    create_table(
        "secrets",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("secret_type", sa.String(length=32), nullable=False),
        sa.Column("payload_content_type", sa.String(length=255), nullable=False),
        sa.Column("sealed", SEALED, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
    )
    op.create_index("ix_secrets_project_id", "secrets", ["project_id"])
    create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("object_type", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fault", sa.String(length=16), nullable=False),
        sa.Column("next_try_at", MOMENT, nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_load_balancer_id", "events", ["load_balancer_id"])
    create_table(
        "flavor_profiles",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("provider_name", sa.String(length=255), nullable=False),
        sa.Column("flavor_data", sa.String(length=4096), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_flavor_profiles"),
    )
    create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "idempotency_key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_ms", "idempotency_keys", ["expires_ms"])
    create_table(
        "listener_statistics",
        sa.Column("listener_id", sa.String(length=36), nullable=False),
        sa.Column("amphora_id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("active_connections", sa.BigInteger(), nullable=False),
        sa.Column("total_connections", sa.BigInteger(), nullable=False),
        sa.Column("request_errors", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("listener_id", "amphora_id", name="pk_listener_statistics"),
    )
    op.create_index("ix_listener_statistics_load_balancer_id", "listener_statistics", ["load_balancer_id"])
    create_table(
        "load_balancers",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("topology", sa.String(length=36), nullable=False),
        sa.Column("flavor_id", sa.String(length=36), nullable=True),
        sa.Column("availability_zone", sa.String(length=255), nullable=True),
        sa.Column("vip_address", sa.String(length=64), nullable=True),
        sa.Column("vip_port_id", sa.String(length=36), nullable=True),
        sa.Column("vip_subnet_id", sa.String(length=36), nullable=True),
        sa.Column("vip_network_id", sa.String(length=36), nullable=True),
        sa.Column("vip_qos_policy_id", sa.String(length=36), nullable=True),
        sa.Column("vip_sg_ids", sa.JSON(), nullable=False),
        sa.Column("vip_vnic_type", sa.String(length=36), nullable=False),
        sa.Column("additional_vips", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("created_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted_version", sa.BigInteger(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("failover_version", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("infra_version", sa.BigInteger(), nullable=False),
        sa.Column("settled_version", sa.BigInteger(), nullable=False),
        sa.Column("done_version", sa.BigInteger(), nullable=False),
        sa.Column("failed_version", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("deleted_at", MOMENT, nullable=True),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("reported_status", sa.String(length=16), nullable=False),
        sa.Column("manager_id", sa.String(length=36), nullable=True),
        sa.Column(
            "unsettled",
            sa.Integer(),
            sa.Computed("CASE WHEN version > done_version THEN 1 ELSE 0 END", persisted=True),
            nullable=True,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_load_balancers"),
    )
    op.create_index("ix_load_balancers_deleted_at_created_at_id", "load_balancers", ["deleted_at", "created_at", "id"])
    op.create_index("ix_load_balancers_due_ms", "load_balancers", ["due_ms"])
    op.create_index("ix_load_balancers_manager_id", "load_balancers", ["manager_id"])
    op.create_index("ix_load_balancers_project_id", "load_balancers", ["project_id"])
    op.create_index("ix_load_balancers_unsettled", "load_balancers", ["unsettled"])
    create_table(
        "managers",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("alive_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_managers"),
    )
    create_table(
        "networks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("bridge", sa.String(length=15), nullable=False),
        sa.Column("existing_bridge", sa.Boolean(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("mtu", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_networks"),
        sa.UniqueConstraint("bridge", name="uq_networks_bridge"),
    )
    op.create_index("ix_networks_project_id", "networks", ["project_id"])
    create_table(
        "node_tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("node_name", sa.String(length=255), nullable=True),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_node_tokens"),
    )
    create_table(
        "nodes",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("drained", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("manager_id", sa.String(length=36), nullable=True),
        sa.Column("connected_at", MOMENT, nullable=True),
        sa.Column("lost_ms", sa.BigInteger(), nullable=True),
        sa.Column("agent_version", sa.String(length=64), nullable=True),
        sa.Column("hostname", sa.String(length=255), nullable=True),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("certificate_expires_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        sa.UniqueConstraint("name", name="uq_nodes_name"),
    )
    create_table(
        "quotas",
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer", sa.Integer(), nullable=True),
        sa.Column("listener", sa.Integer(), nullable=True),
        sa.Column("member", sa.Integer(), nullable=True),
        sa.Column("pool", sa.Integer(), nullable=True),
        sa.Column("health_monitor", sa.Integer(), nullable=True),
        sa.Column("l7policy", sa.Integer(), nullable=True),
        sa.Column("l7rule", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("project_id", name="pk_quotas"),
    )
    create_table(
        "tags",
        sa.Column("resource_id", sa.String(length=36), nullable=False),
        sa.Column("tag", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "tag", name="pk_tags"),
    )
    create_table(
        "amphorae",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("born_version", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(length=36), nullable=True),
        sa.Column("ports", sa.JSON(), nullable=False),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.Column("compute_id", sa.String(length=36), nullable=True),
        sa.Column("image_id", sa.String(length=36), nullable=True),
        sa.Column("compute_flavor", sa.String(length=255), nullable=True),
        sa.Column("cached_zone", sa.String(length=255), nullable=True),
        sa.Column("lb_network_ip", sa.String(length=64), nullable=True),
        sa.Column("cert_expiration", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("deleted_at", MOMENT, nullable=True),
        sa.Column("replace", sa.Boolean(), nullable=False, quote=True),
        sa.Column("applied_version", sa.BigInteger(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("vrrp_state", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_amphorae_load_balancer_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_amphorae_node_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_amphorae"),
    )
    op.create_index("ix_amphorae_load_balancer_id", "amphorae", ["load_balancer_id"])
    op.create_index("ix_amphorae_node_id", "amphorae", ["node_id"])
    create_table(
        "availability_zones",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("availability_zone_profile_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["availability_zone_profile_id"],
            ["availability_zone_profiles.id"],
            name="fk_availability_zones_availability_zone_profile_id",
        ),
        sa.PrimaryKeyConstraint("name", name="pk_availability_zones"),
    )
    op.create_index(
        "ix_availability_zones_availability_zone_profile_id", "availability_zones", ["availability_zone_profile_id"]
    )
    create_table(
        "flavors",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("flavor_profile_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["flavor_profile_id"], ["flavor_profiles.id"], name="fk_flavors_flavor_profile_id"),
        sa.PrimaryKeyConstraint("id", name="pk_flavors"),
        sa.UniqueConstraint("name", name="uq_flavors_name"),
    )
    op.create_index("ix_flavors_flavor_profile_id", "flavors", ["flavor_profile_id"])
    create_table(
        "pools",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("created_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted_version", sa.BigInteger(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("failed_version", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("lb_algorithm", sa.String(length=32), nullable=False),
        sa.Column("session_persistence", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("tls_enabled", sa.Boolean(), nullable=False),
        sa.Column("tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("ca_tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("crl_container_ref", sa.String(length=255), nullable=True),
        sa.Column("tls_ciphers", sa.String(length=2048), nullable=True),
        sa.Column("tls_versions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("alpn_protocols", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("reported_status", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_pools_load_balancer_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pools"),
    )
    op.create_index("ix_pools_created_at_id", "pools", ["created_at", "id"])
    op.create_index("ix_pools_load_balancer_id", "pools", ["load_balancer_id"])
    op.create_index("ix_pools_project_id", "pools", ["project_id"])
    create_table(
        "ports",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("mac_address", sa.String(length=17), nullable=False),
        sa.Column("device_id", sa.String(length=255), nullable=False),
        sa.Column("device_owner", sa.String(length=255), nullable=False),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_ports_network_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ports"),
    )
    op.create_index("ix_ports_device_id", "ports", ["device_id"])
    op.create_index("ix_ports_network_id", "ports", ["network_id"])
    op.create_index("ix_ports_project_id", "ports", ["project_id"])
    create_table(
        "subnets",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("cidr", sa.String(length=64), nullable=False),
        sa.Column("ip_version", sa.Integer(), nullable=False),
        sa.Column("gateway_ip", sa.String(length=64), nullable=True),
        sa.Column("allocation_pools", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name="fk_subnets_network_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_subnets"),
    )
    op.create_index("ix_subnets_network_id", "subnets", ["network_id"])
    op.create_index("ix_subnets_project_id", "subnets", ["project_id"])
    create_table(
        "sealed_secrets",
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("ref", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("sealed", SEALED, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_sealed_secrets_load_balancer_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("load_balancer_id", "ref", name="pk_sealed_secrets"),
    )
    create_table(
        "health_monitors",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("created_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted_version", sa.BigInteger(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("failed_version", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("delay", sa.Integer(), nullable=False),
        sa.Column("timeout", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("max_retries_down", sa.Integer(), nullable=False),
        sa.Column("http_method", sa.String(length=16), nullable=True),
        sa.Column("url_path", sa.String(length=2048), nullable=True),
        sa.Column("expected_codes", sa.Text(), nullable=True),
        sa.Column("http_version", sa.Float(), nullable=True),
        sa.Column("domain_name", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_health_monitors_load_balancer_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="fk_health_monitors_pool_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_health_monitors"),
    )
    op.create_index("ix_health_monitors_created_at_id", "health_monitors", ["created_at", "id"])
    op.create_index("ix_health_monitors_load_balancer_id", "health_monitors", ["load_balancer_id"])
    op.create_index("ix_health_monitors_pool_id", "health_monitors", ["pool_id"])
    op.create_index("ix_health_monitors_project_id", "health_monitors", ["project_id"])
    create_table(
        "listeners",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("created_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted_version", sa.BigInteger(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("failed_version", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("protocol_port", sa.Integer(), nullable=False),
        sa.Column("connection_limit", sa.Integer(), nullable=True),
        sa.Column("default_pool_id", sa.String(length=36), nullable=True),
        sa.Column("default_tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("sni_container_refs", sa.JSON(), nullable=False),
        sa.Column("insert_headers", sa.JSON(), nullable=False),
        sa.Column("timeout_client_data", sa.Integer(), nullable=False),
        sa.Column("timeout_member_connect", sa.Integer(), nullable=False),
        sa.Column("timeout_member_data", sa.Integer(), nullable=False),
        sa.Column("timeout_tcp_inspect", sa.Integer(), nullable=False),
        sa.Column("client_ca_tls_container_ref", sa.String(length=255), nullable=True),
        sa.Column("client_authentication", sa.String(length=10), nullable=False),
        sa.Column("client_crl_container_ref", sa.String(length=255), nullable=True),
        sa.Column("allowed_cidrs", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("tls_ciphers", sa.String(length=2048), nullable=True),
        sa.Column("tls_versions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("alpn_protocols", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("hsts_max_age", sa.BigInteger(), nullable=True),
        sa.Column("hsts_include_subdomains", sa.Boolean(), nullable=True),
        sa.Column("hsts_preload", sa.Boolean(), nullable=True),
        sa.Column("reported_status", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["default_pool_id"], ["pools.id"], name="fk_listeners_default_pool_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_listeners_load_balancer_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_listeners"),
    )
    op.create_index("ix_listeners_created_at_id", "listeners", ["created_at", "id"])
    op.create_index("ix_listeners_default_pool_id", "listeners", ["default_pool_id"])
    op.create_index("ix_listeners_load_balancer_id", "listeners", ["load_balancer_id"])
    op.create_index("ix_listeners_project_id", "listeners", ["project_id"])
    create_table(
        "members",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("created_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted_version", sa.BigInteger(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("failed_version", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("protocol_port", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=True),
        sa.Column("backup", sa.Boolean(), nullable=False),
        sa.Column("subnet_id", sa.String(length=36), nullable=True),
        sa.Column("monitor_address", sa.String(length=64), nullable=True),
        sa.Column("monitor_port", sa.Integer(), nullable=True),
        sa.Column("vnic_type", sa.String(length=36), nullable=False),
        sa.Column("reported_status", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_members_load_balancer_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="fk_members_pool_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_members"),
    )
    op.create_index("ix_members_created_at_id", "members", ["created_at", "id"])
    op.create_index("ix_members_load_balancer_id", "members", ["load_balancer_id"])
    op.create_index("ix_members_pool_id", "members", ["pool_id"])
    op.create_index("ix_members_project_id", "members", ["project_id"])
    create_table(
        "port_addresses",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("ip_address", sa.String(length=64), nullable=False),
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name="fk_port_addresses_port_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"], name="fk_port_addresses_subnet_id"),
        sa.PrimaryKeyConstraint("subnet_id", "ip_address", name="pk_port_addresses"),
    )
    op.create_index("ix_port_addresses_port_id", "port_addresses", ["port_id"])
    create_table(
        "l7policies",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("created_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted_version", sa.BigInteger(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("failed_version", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("listener_id", sa.String(length=36), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("redirect_pool_id", sa.String(length=36), nullable=True),
        sa.Column("redirect_url", sa.String(length=2048), nullable=True),
        sa.Column("redirect_prefix", sa.String(length=2048), nullable=True),
        sa.Column("redirect_http_code", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["listener_id"], ["listeners.id"], name="fk_l7policies_listener_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_l7policies_load_balancer_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["redirect_pool_id"], ["pools.id"], name="fk_l7policies_redirect_pool_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_l7policies"),
    )
    op.create_index("ix_l7policies_created_at_id", "l7policies", ["created_at", "id"])
    op.create_index("ix_l7policies_listener_id", "l7policies", ["listener_id"])
    op.create_index("ix_l7policies_load_balancer_id", "l7policies", ["load_balancer_id"])
    op.create_index("ix_l7policies_project_id", "l7policies", ["project_id"])
    op.create_index("ix_l7policies_redirect_pool_id", "l7policies", ["redirect_pool_id"])
    create_table(
        "l7rules",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=True),
        sa.Column("created_version", sa.BigInteger(), nullable=False),
        sa.Column("wanted_version", sa.BigInteger(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("failed_version", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("l7policy_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("compare_type", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("invert", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["l7policy_id"], ["l7policies.id"], name="fk_l7rules_l7policy_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_l7rules_load_balancer_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_l7rules"),
    )
    op.create_index("ix_l7rules_created_at_id", "l7rules", ["created_at", "id"])
    op.create_index("ix_l7rules_l7policy_id", "l7rules", ["l7policy_id"])
    op.create_index("ix_l7rules_load_balancer_id", "l7rules", ["load_balancer_id"])
    op.create_index("ix_l7rules_project_id", "l7rules", ["project_id"])
