# SPDX-License-Identifier: Apache-2.0
"""Every option, declared once: type, default, bounds, unit and one sentence; read once, passed on.

Sections and names are octavia.conf's where the option still means something. A record is a section; its
fields become oslo.config options, so files, environment and `--config-file` work as operators expect.
Options of octavia.conf that mean nothing here are accepted and ignored.
"""

import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from oslo_config import cfg

from statera.errors import SetupError

Port = Annotated[int, Meta(ge=1, le=65535)]
PortOrOff = Annotated[int, Meta(ge=0, le=65535)]


def of(default: Any) -> Any:
    """A default that is a list or a dict."""
    return msgspec.field(default_factory=lambda: default)


def doc(text: str) -> Meta:
    return Meta(description=text)


class Default(Struct, frozen=True, kw_only=True):
    host: Annotated[str, doc("Name of this host in leases and logs; the host name when empty.")] = ""
    state_path: Annotated[str, doc("Folder that holds everything Statera keeps on this host.")] = "/var/lib/statera"


class ApiSettings(Struct, frozen=True, kw_only=True):
    bind_host: Annotated[str, doc("Address that the API listens on.")] = "127.0.0.1"
    bind_port: Annotated[Port, doc("Port that the API listens on.")] = 9876
    auth_strategy: Annotated[str, doc("Who is asking: keystone, basic, noauth or testing.")] = "keystone"
    workers: Annotated[int, Meta(ge=1), doc("API processes.")] = 1
    threads: Annotated[int, Meta(ge=1), doc("Threads of each API process.")] = 8
    users_file: Annotated[str, doc("Users of auth_strategy basic: bcrypt hashes, projects and roles, YAML.")] = ""
    allow_pagination: Annotated[bool, doc("Honour limit and marker on lists.")] = True
    allow_sorting: Annotated[bool, doc("Honour sort keys on lists.")] = True
    allow_filtering: Annotated[bool, doc("Honour filters on lists.")] = True
    allow_field_selection: Annotated[bool, doc("Honour `fields`.")] = True
    pagination_max_limit: Annotated[str, doc("Largest page: a number, or -1 or infinite for none.")] = "1000"
    api_base_uri: Annotated[str, doc("Base of links in answers instead of the request's own.")] = ""
    allow_tls_terminated_listeners: Annotated[bool, doc("Accept TERMINATED_HTTPS listeners.")] = True
    allow_ping_health_monitors: Annotated[bool, doc("Accept PING health monitors.")] = True
    allow_prometheus_listeners: Annotated[bool, doc("Accept PROMETHEUS listeners.")] = True
    enabled_provider_drivers: Annotated[
        dict[str, str], doc("Providers that users may name, with a description each.")
    ] = of({
        "amphora": "The Octavia Amphora driver.",
        "octavia": "Deprecated alias of the Octavia Amphora driver.",
    })
    default_provider_driver: Annotated[str, doc("Provider when the user names none.")] = "amphora"
    udp_connect_min_interval_health_monitor: Annotated[
        int, doc("Smallest delay of UDP-CONNECT monitors, seconds.")
    ] = 3
    healthcheck_enabled: Annotated[bool, doc("Serve /healthcheck.")] = False
    healthcheck_refresh_interval: Annotated[int, doc("Seconds that a health check's result is kept.")] = 5
    default_listener_ciphers: Annotated[str, doc("TLS ciphers of listeners that name none.")] = ""
    default_pool_ciphers: Annotated[str, doc("TLS ciphers of pools that name none.")] = ""
    tls_cipher_prohibit_list: Annotated[str, doc("Ciphers that nobody may name, joined by colons.")] = ""
    default_listener_tls_versions: Annotated[list[str], doc("TLS versions of listeners that name none.")] = of([
        "TLSv1.2", "TLSv1.3"])
    default_pool_tls_versions: Annotated[list[str], doc("TLS versions of pools that name none.")] = of([
        "TLSv1.2", "TLSv1.3"])
    minimum_tls_version: Annotated[str, doc("Oldest TLS version that users may ask for; empty for any.")] = ""
    default_listener_alpn_protocols: Annotated[list[str], doc("ALPN of listeners that name none.")] = of([
        "h2", "http/1.1", "http/1.0"])
    default_pool_alpn_protocols: Annotated[list[str], doc("ALPN of pools that name none.")] = of([
        "h2", "http/1.1", "http/1.0"])
    max_request_body_size: Annotated[int, Meta(ge=1), doc("Largest body of a request, bytes.")] = 8_388_608
    idempotency_key_age: Annotated[
        int, Meta(ge=1), doc("Seconds that a creation with the same Idempotency-Key is answered as the first time.")
    ] = 86_400
    strict_immutability: Annotated[
        bool, doc("Refuse writes with 409 while a load balancer is pending, as upstream does.")
    ] = False


class Healthcheck(Struct, frozen=True, kw_only=True):
    detailed: Annotated[bool, doc("Tell about memory, threads and versions too, in JSON and HTML.")] = False


class Database(Struct, frozen=True, kw_only=True):
    connection: Annotated[str, doc("SQLAlchemy URL; SQLite below state_path when empty.")] = ""
    max_pool_size: Annotated[int, doc("Connections kept open.")] = 10
    max_overflow: Annotated[int, doc("Connections opened beyond these under load.")] = 20
    pool_timeout: Annotated[int, doc("Seconds to wait for a free connection.")] = 10


class Networking(Struct, frozen=True, kw_only=True):
    allow_vip_network_id: Annotated[bool, doc("Accept vip_network_id.")] = True
    allow_vip_subnet_id: Annotated[bool, doc("Accept vip_subnet_id.")] = True
    allow_vip_port_id: Annotated[bool, doc("Accept vip_port_id.")] = True
    valid_vip_networks: Annotated[list[str], doc("The only networks that may hold VIPs; empty for all.")] = []
    denylist_vip_networks: Annotated[list[str], doc("Networks that may not hold VIPs.")] = []
    reserved_ips: Annotated[list[str], doc("Addresses that no member may have.")] = of(["169.254.169.254"])
    allow_invisible_resource_usage: Annotated[
        bool, doc("Let users name network objects that they cannot see.")
    ] = False


class ControllerWorker(Struct, frozen=True, kw_only=True):
    workers: Annotated[int, Meta(ge=1), doc("Passes that one worker process makes side by side.")] = 4
    loadbalancer_topology: Annotated[str, doc("SINGLE or ACTIVE_STANDBY, where no flavor says.")] = "SINGLE"
    compute_driver: Annotated[str, doc("Where amphorae run: hosts, nova, noop.")] = "hosts"
    amp_boot_network_list: Annotated[list[str], doc("nova: management networks by id, the first for the agent.")] = []
    amp_flavor_id: Annotated[str, doc("nova: flavor of amphorae whose own flavor names none.")] = ""
    amp_image_tag: Annotated[str, doc("nova: the newest image with this tag is booted.")] = "amphora"
    amp_image_owner_id: Annotated[str, doc("nova: project that must own the image; empty for any.")] = ""
    amp_secgroup_list: Annotated[list[str], doc("nova: security groups of the management port, by id.")] = []
    amp_ssh_key_name: Annotated[str, doc("nova: key pair given to images with an SSH server.")] = ""
    volume_driver: Annotated[str, doc("nova: volume_cinder_driver boots from volumes.")] = "volume_noop_driver"
    network_driver: Annotated[str, doc("Where VIPs live: local, neutron, noop.")] = "local"
    event_notifications: Annotated[
        bool, doc("Notify of load balancers made, changed, deleted, where [oslo_messaging_notifications] has a driver.")
    ] = True
    lease_seconds: Annotated[int, Meta(ge=1), doc("How long a worker may hold a load balancer unheard.")] = 30
    retry_first_seconds: Annotated[float, doc("Wait after the first failure; it doubles, with jitter.")] = 1.0
    retry_max_seconds: Annotated[float, doc("Longest wait between tries; they never end.")] = 60.0
    replacements_per_minute: Annotated[
        int, Meta(ge=0), doc("Amphorae replaced unasked, at once and a minute, over all workers; 0 is no limit.")
    ] = 60
    provider_patience_seconds: Annotated[
        float, Meta(gt=0), doc("How long another provider's driver may take to say what became of a change.")
    ] = 300.0
    error_after_attempts: Annotated[
        int, Meta(ge=1), doc("Failures in a row that may pass by themselves before ERROR is shown.")
    ] = 3


class DriverAgent(Struct, frozen=True, kw_only=True):
    status_socket_path: Annotated[str, doc("Where drivers of other providers say what became of an object.")] = (
        "/var/run/octavia/status.sock")
    stats_socket_path: Annotated[str, doc("Where they give statistics of listeners.")] = "/var/run/octavia/stats.sock"
    get_socket_path: Annotated[str, doc("Where they ask for an object.")] = "/var/run/octavia/get.sock"
    request_timeout: Annotated[float, Meta(gt=0), doc("Seconds in which a request has to be sent.")] = 5.0
    max_requests: Annotated[int, Meta(ge=1), doc("Requests that each socket serves at a time.")] = 50
    unknown_object_seconds: Annotated[
        float, Meta(ge=0), doc("How long to wait for an object that a driver is faster to answer for than the API.")
    ] = 3.0
    enabled_provider_agents: Annotated[
        list[str], doc("Helpers of providers that run here, entry points of octavia.driver_agent.provider_agents.")
    ] = []
    provider_agent_shutdown_timeout: Annotated[
        float, Meta(ge=0), doc("Seconds that such a helper has to end before it is killed.")
    ] = 60.0


class HealthManager(Struct, frozen=True, kw_only=True):
    bind_ip: Annotated[str, doc("Address that nodes connect to.")] = "127.0.0.1"
    bind_port: Annotated[Port, doc("Port that nodes connect to, TCP.")] = 5555
    controller_ip_port_list: Annotated[
        list[str], doc("nova: where machines of amphorae find the health managers, host:port each.")
    ] = []
    report_seconds: Annotated[float, doc("How often a node looks for changes to report.")] = 1.0
    beat_seconds: Annotated[float, doc("How often a node that has nothing to report says so.")] = 3.0
    grace_seconds: Annotated[float, doc("How long a node may be away before it counts as lost.")] = 6.0
    silent_share: Annotated[
        float, Meta(ge=0, le=1), doc("More than this share of all nodes silent at once is taken for our own fault.")
    ] = 0.5
    doubt_seconds: Annotated[
        float, Meta(ge=0),
        doc("They count as lost when that lasts so long while another node is heard; 0: only when an operator says so.")
    ] = 60.0
    certificate_days: Annotated[float, Meta(gt=0), doc("Life of a node's certificate.")] = 7.0


class Haproxy(Struct, frozen=True, kw_only=True):
    haproxy_cmd: Annotated[str, doc("HAProxy's program.")] = "/usr/sbin/haproxy"
    connection_logging: Annotated[bool, doc("Write a line about each request, connection and flow.")] = True
    user_log_format: Annotated[
        str, doc("These lines, in HAProxy's notation; {{ project_id }} and {{ lb_id }} are the load balancer's. "
                 "Empty for upstream's fields.")
    ] = ""
    default_connection_limit: Annotated[int, doc("Connections of a listener without a limit.")] = 50_000
    timeout_client_data: Annotated[int, doc("Default of the listener's field, milliseconds.")] = 50_000
    timeout_member_connect: Annotated[int, doc("Default of the listener's field, milliseconds.")] = 5_000
    timeout_member_data: Annotated[int, doc("Default of the listener's field, milliseconds.")] = 50_000
    timeout_tcp_inspect: Annotated[int, doc("Default of the listener's field, milliseconds.")] = 0


class AmphoraAgent(Struct, frozen=True, kw_only=True):
    admin_log_targets: Annotated[
        list[str], doc("Where what HAProxy says of itself goes: address:port or a socket's path; the first that works.")
    ] = []
    tenant_log_targets: Annotated[list[str], doc("Where the lines about connections go, in the same notation.")] = []
    user_log_facility: Annotated[int, Meta(ge=0, le=7), doc("Facility local<n> of lines about connections.")] = 0
    administrative_log_facility: Annotated[int, Meta(ge=0, le=7), doc("Facility local<n> of all other lines.")] = 1
    log_protocol: Annotated[str, doc("How address:port is reached: UDP or TCP.")] = "UDP"
    log_retry_count: Annotated[
        int, Meta(ge=0), doc("After so many intervals on a later target the first is tried again.")
    ] = 5
    log_retry_interval: Annotated[
        int, Meta(ge=1), doc("Seconds of rest after all targets failed.")
    ] = 2
    log_queue_size: Annotated[int, Meta(ge=1), doc("Lines that wait for targets; more are lost and said so.")] = 10_000
    log_header_format: Annotated[str, doc("Head of each line: rfc5424 or rfc3164.")] = "rfc5424"
    disable_local_log_storage: Annotated[bool, doc("Keep no logs in files of this host.")] = False
    local_flow_log: Annotated[
        bool, doc("Keep lines about connections in files of this host too; they cost each request some microseconds.")
    ] = False
    local_log_megabytes: Annotated[int, Meta(ge=1), doc("Size at which an amphora's log file turns over.")] = 10
    local_log_files: Annotated[int, Meta(ge=1), doc("Files kept of each log, the one being written included.")] = 3


class Certificates(Struct, frozen=True, kw_only=True):
    cert_manager: Annotated[str, doc("Where tenants keep their certificates: none, local, barbican, noop.")] = "none"
    master_key_file: Annotated[
        str, doc("Keys that seal secrets in the database, one a line; the first seals, all open. The same file on "
                 "every host; below state_path when empty.")
    ] = ""
    ca_certificate: Annotated[
        str, doc("Certificate of an authority of your own that is to sign for nodes and health managers, PEM.")
    ] = ""
    ca_private_key: Annotated[
        str, doc("Its private key, PEM; taken into the database, sealed, at the next start.")
    ] = ""
    ca_private_key_passphrase: Annotated[str, doc("What opens that key.")] = ""


class ServiceAuth(Struct, frozen=True, kw_only=True):
    auth_type: Annotated[str, doc("How to get in: password or v3applicationcredential.")] = "password"
    auth_url: Annotated[str, doc("Keystone's address; only needed for drivers that speak with OpenStack.")] = ""
    username: Annotated[str, doc("The service user.")] = ""
    password: Annotated[str, doc("Its password.")] = ""
    project_name: Annotated[str, doc("The service project, which owns amphorae and their ports.")] = ""
    user_domain_name: Annotated[str, doc("Domain of the user.")] = ""
    user_domain_id: Annotated[str, doc("The same by its id.")] = ""
    project_domain_name: Annotated[str, doc("Domain of the project.")] = ""
    project_domain_id: Annotated[str, doc("The same by its id.")] = ""
    application_credential_id: Annotated[str, doc("Instead of user and project.")] = ""
    application_credential_secret: Annotated[str, doc("The secret of the application credential.")] = ""
    cafile: Annotated[str, doc("Authorities to trust, PEM; those of the system when empty.")] = ""
    insecure: Annotated[bool, doc("Trust anybody.")] = False
    timeout: Annotated[float, Meta(gt=0), doc("Seconds to wait for each answer.")] = 20.0


class Endpoint(Struct, frozen=True, kw_only=True):
    region_name: Annotated[str, doc("Region in the service catalogue; empty for the only one.")] = ""
    endpoint_type: Annotated[str, doc("Which of the catalogue's addresses: public, internal or admin.")] = "public"
    endpoint_override: Annotated[str, doc("Address to use instead of the catalogue's.")] = ""


class Nova(Endpoint, frozen=True, kw_only=True):
    availability_zone: Annotated[str, doc("Zone of amphorae whose load balancer names none.")] = ""
    enable_anti_affinity: Annotated[bool, doc("Keep the two of a pair on different hypervisors.")] = False
    anti_affinity_policy: Annotated[str, doc("anti-affinity or soft-anti-affinity.")] = "anti-affinity"
    connect_seconds: Annotated[
        int, Meta(ge=1), doc("How long a new server's agent may take to connect before another one is made.")
    ] = 600


class Glance(Endpoint, frozen=True, kw_only=True):
    """How to find Glance."""


class Barbican(Endpoint, frozen=True, kw_only=True):
    """How to find Barbican."""


class Cinder(Struct, frozen=True, kw_only=True):
    volume_size: Annotated[int, doc("Size of volumes that amphorae boot from, GiB.")] = 16
    volume_type: Annotated[str, doc("Their type; empty for the default.")] = ""


class Neutron(Endpoint, frozen=True, kw_only=True):
    """How to find Neutron."""


class Quotas(Struct, frozen=True, kw_only=True):
    default_load_balancer_quota: Annotated[int, doc("-1 is no limit.")] = -1
    default_listener_quota: Annotated[int, doc("-1 is no limit.")] = -1
    default_pool_quota: Annotated[int, doc("-1 is no limit.")] = -1
    default_member_quota: Annotated[int, doc("-1 is no limit.")] = -1
    default_health_monitor_quota: Annotated[int, doc("-1 is no limit.")] = -1
    default_l7policy_quota: Annotated[int, doc("-1 is no limit.")] = -1
    default_l7rule_quota: Annotated[int, doc("-1 is no limit.")] = -1


class HouseKeeping(Struct, frozen=True, kw_only=True):
    cleanup_interval: Annotated[int, doc("Seconds between two rounds.")] = 30
    load_balancer_expiry_age: Annotated[int, doc("Seconds that deleted load balancers are kept.")] = 604_800
    amphora_expiry_age: Annotated[int, doc("Seconds that rows of removed amphorae are kept.")] = 604_800
    event_expiry_age: Annotated[int, doc("Seconds that events are kept.")] = 2_592_000
    orphan_interval: Annotated[
        int, Meta(ge=1), doc("Seconds between two looks for ports, servers and the like that nothing owns any more.")
    ] = 300
    release_orphans: Annotated[
        bool, doc("Release what two looks in a row found without an owner; else only tell.")
    ] = True
    spare_amphora_pool_size: Annotated[
        int, Meta(ge=0), doc("nova: machines of amphorae kept booted for whoever needs one, in each availability zone.")
    ] = 0
    certificate_warning_days: Annotated[
        int, doc("Days before a certificate in use runs out that an event says so.")
    ] = 14


class Metrics(Struct, frozen=True, kw_only=True):
    bind_host: Annotated[str, doc("Address on which services serve /metrics for Prometheus.")] = "127.0.0.1"
    api_port: Annotated[
        PortOrOff, doc("Port for metrics of octavia-api; further API processes take the following. 0 for none.")] = 0
    worker_port: Annotated[PortOrOff, doc("Port for metrics of octavia-worker; 0 for none.")] = 0
    health_manager_port: Annotated[PortOrOff, doc("Port for metrics of octavia-health-manager; 0 for none.")] = 0
    housekeeping_port: Annotated[PortOrOff, doc("Port for metrics of octavia-housekeeping; 0 for none.")] = 0
    agent_port: Annotated[PortOrOff, doc("Port for metrics of statera-agent; 0 for none.")] = 0


class Agent(Struct, frozen=True, kw_only=True):
    endpoints: Annotated[list[str], doc("Health managers to connect to, host:port.")] = of(["127.0.0.1:5555"])
    node_name: Annotated[str, doc("Name of this node; the host name when empty.")] = ""
    join_token: Annotated[str, doc("What `statera node token` printed, to join when this host has not yet.")] = ""
    ca_fingerprint: Annotated[str, doc("SHA-256 of the root to trust then, as it printed too.")] = ""
    overlay_ip: Annotated[
        str, doc("Address at which other nodes reach this one for VXLAN; that of the link when empty.")
    ] = ""
    hard_stop_seconds: Annotated[int, doc("How long an old HAProxy worker may finish its connections.")] = 3600
    most_old_workers: Annotated[int, Meta(ge=1), doc(
        "How many old workers of an HAProxy may finish their connections at once; the oldest gives way.")] = 20
    memory_mb: Annotated[
        int, Meta(ge=0), doc("Memory of each amphora whose flavor does not say, megabytes; 0 for no limit.")
    ] = 1024
    services_on_bridges: Annotated[
        bool, doc("Let amphorae reach what this host serves at the gateways of their own networks.")
    ] = False


class Settings(Struct, frozen=True, kw_only=True):
    """All sections; attribute names are the sections' names."""

    default: Default = Default()
    api_settings: ApiSettings = ApiSettings()
    healthcheck: Healthcheck = Healthcheck()
    database: Database = Database()
    networking: Networking = Networking()
    controller_worker: ControllerWorker = ControllerWorker()
    health_manager: HealthManager = HealthManager()
    driver_agent: DriverAgent = DriverAgent()
    haproxy_amphora: Haproxy = Haproxy()
    amphora_agent: AmphoraAgent = AmphoraAgent()
    certificates: Certificates = Certificates()
    service_auth: ServiceAuth = ServiceAuth()
    neutron: Neutron = Neutron()
    nova: Nova = Nova()
    glance: Glance = Glance()
    cinder: Cinder = Cinder()
    barbican: Barbican = Barbican()
    quotas: Quotas = Quotas()
    house_keeping: HouseKeeping = HouseKeeping()
    agent: Agent = Agent()
    metrics: Metrics = Metrics()

    @property
    def state(self) -> Path:
        return Path(self.default.state_path)

    @property
    def host(self) -> str:
        return self.default.host or os.uname().nodename

    @property
    def master_key(self) -> Path:
        return Path(self.certificates.master_key_file or self.state / "master.key")

    @property
    def database_url(self) -> str:
        return self.database.connection or f"sqlite:///{self.state / 'statera.db'}"


OPTION_TYPES: dict[object, type[cfg.Opt]] = {
    str: cfg.StrOpt, int: cfg.IntOpt, float: cfg.FloatOpt, bool: cfg.BoolOpt,
    list: cfg.ListOpt, dict: cfg.DictOpt,
}


def load(conf: cfg.ConfigOpts, args: Sequence[str], *, prog: str, files: Sequence[str] | None = None) -> Settings:
    """Parse *args* (`--config-file …`) and the files into *conf*, and give back what they say.

    Raise `SetupError` that names section, option and value for anything unusable.
    """
    register(conf)
    try:
        conf(
            list(args), project="octavia", prog=prog, validate_default_values=True,
            default_config_files=None if files is None else list(files),
        )
        return settings_of(conf)
    except (cfg.Error, ValueError) as error:
        raise SetupError(f"{prog}: cannot use the configuration: {error}") from error


def register(conf: cfg.ConfigOpts) -> None:
    """Teach *conf* every option; doing it again is harmless."""
    for section in msgspec.structs.fields(Settings):
        for option in msgspec.structs.fields(section.type):
            conf.register_opt(_option(option), group=None if section.name == "default" else section.name)


def settings_of(conf: cfg.ConfigOpts) -> Settings:
    """The record of what *conf* holds; bounds are checked."""
    sections = {}
    for section in msgspec.structs.fields(Settings):
        group = conf if section.name == "default" else conf[section.name]
        said = {field.name: group[field.name] for field in msgspec.structs.fields(section.type)}
        values = {name: OCTAVIAS.get(value, value) if isinstance(value, str) else value for name, value in said.items()}
        try:
            sections[section.name] = msgspec.convert(values, section.type)
        except msgspec.ValidationError as error:
            raise SetupError(f"[{section.name}] {error}") from error
    return Settings(**sections)


OCTAVIAS = {
    "compute_nova_driver": "nova", "compute_noop_driver": "noop", "allowed_address_pairs_driver": "neutron",
    "network_noop_driver": "noop", "barbican_cert_manager": "barbican", "castellan_cert_manager": "castellan",
    "local_cert_manager": "local", "noop_cert_manager": "noop",
}
"""Octavia's names for drivers that are ours as well."""


def _option(field: msgspec.structs.FieldInfo) -> cfg.Opt:
    kind, text = field.type, ""
    while typing.get_origin(kind) is Annotated:
        text = next((m.description for m in kind.__metadata__ if getattr(m, "description", None)), text)
        kind = typing.get_args(kind)[0]
    plain = typing.get_origin(kind) if isinstance(kind, types.GenericAlias) else kind
    default: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return OPTION_TYPES[plain](field.name, default=default, help=text)
