# SPDX-License-Identifier: Apache-2.0
"""What a tenant wants: one load balancer with all that hangs on it, as read from the store.

Attribute names are the API's and the columns'. `wanted_version` says which wish touched the object last.
"""

from msgspec import Struct


class Versioned(Struct, frozen=True, kw_only=True):
    """What every object of a tree carries; `model.status` turns it into the two statuses."""

    id: str
    created_version: int
    wanted_version: int
    deleting: bool = False
    admin_state_up: bool = True


class L7Rule(Versioned, frozen=True, kw_only=True):
    l7policy_id: str
    type: str
    compare_type: str
    value: str
    key: str | None = None
    invert: bool = False


class L7Policy(Versioned, frozen=True, kw_only=True):
    listener_id: str
    action: str
    position: int
    redirect_pool_id: str | None = None
    redirect_url: str | None = None
    redirect_prefix: str | None = None
    redirect_http_code: int | None = None
    rules: tuple[L7Rule, ...] = ()


class Listener(Versioned, frozen=True, kw_only=True):
    protocol: str
    protocol_port: int
    connection_limit: int | None = -1
    default_pool_id: str | None = None
    default_tls_container_ref: str | None = None
    sni_container_refs: tuple[str, ...] = ()
    insert_headers: dict[str, str] = {}
    timeout_client_data: int = 50_000
    timeout_member_connect: int = 5_000
    timeout_member_data: int = 50_000
    timeout_tcp_inspect: int = 0
    client_ca_tls_container_ref: str | None = None
    client_authentication: str = "NONE"
    client_crl_container_ref: str | None = None
    allowed_cidrs: tuple[str, ...] | None = None
    tls_ciphers: str | None = None
    tls_versions: tuple[str, ...] | None = None
    alpn_protocols: tuple[str, ...] | None = None
    hsts_max_age: int | None = None
    hsts_include_subdomains: bool | None = False
    hsts_preload: bool | None = False
    l7policies: tuple[L7Policy, ...] = ()


class Member(Versioned, frozen=True, kw_only=True):
    pool_id: str
    address: str
    protocol_port: int
    weight: int | None = 1
    backup: bool = False
    subnet_id: str | None = None
    monitor_address: str | None = None
    monitor_port: int | None = None
    vnic_type: str = "normal"


class HealthMonitor(Versioned, frozen=True, kw_only=True):
    pool_id: str
    type: str
    delay: int
    timeout: int
    max_retries: int
    max_retries_down: int = 3
    http_method: str | None = None
    url_path: str | None = None
    expected_codes: str | None = None
    http_version: float | None = None
    domain_name: str | None = None


class SessionPersistence(Struct, frozen=True, kw_only=True):
    type: str
    cookie_name: str | None = None
    persistence_timeout: int | None = None
    persistence_granularity: str | None = None


class Pool(Versioned, frozen=True, kw_only=True):
    protocol: str
    lb_algorithm: str
    session_persistence: SessionPersistence | None = None
    tls_enabled: bool = False
    tls_container_ref: str | None = None
    ca_tls_container_ref: str | None = None
    crl_container_ref: str | None = None
    tls_ciphers: str | None = None
    tls_versions: tuple[str, ...] | None = None
    alpn_protocols: tuple[str, ...] | None = None
    members: tuple[Member, ...] = ()
    healthmonitor: HealthMonitor | None = None


class AdditionalVip(Struct, frozen=True, kw_only=True):
    subnet_id: str
    ip_address: str
    port_id: str | None = None


class LoadBalancer(Versioned, frozen=True, kw_only=True):
    """`version` numbers what the nodes are to run: it rises with each wish and each change of placement."""

    project_id: str
    provider: str
    topology: str
    version: int
    done_version: int = 0
    failover_version: int = 0
    request_id: str | None = None
    vip_address: str | None = None
    vip_port_id: str | None = None
    vip_subnet_id: str | None = None
    vip_network_id: str | None = None
    vip_qos_policy_id: str | None = None
    vip_sg_ids: tuple[str, ...] = ()
    vip_vnic_type: str = "normal"
    additional_vips: tuple[AdditionalVip, ...] = ()
    flavor_id: str | None = None
    availability_zone: str | None = None
    log_target: str | None = None
    listeners: tuple[Listener, ...] = ()
    pools: tuple[Pool, ...] = ()
