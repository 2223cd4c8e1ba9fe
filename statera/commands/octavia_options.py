# SPDX-License-Identifier: Apache-2.0
"""Options of Octavia's octavia.conf that mean nothing here, and what does their work now."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec
from oslo_config import cfg, iniparser

from statera.config import Settings

GONE: Mapping[str, str] = {
    "amphora_agent.*": "agents read [agent], which enrolment or the config drive writes",
    "api_settings.tls1_3_supported_ciphers": "HAProxy's own list counts",
    "audit.*": "every accepted wish is an event of its load balancer, with the request's id",
    "certificates.barbican_auth": "secrets are fetched as the tenant, or as [service_auth]",
    "certificates.cert_generator": "the fleet's authority is built in: see `statera ca`",
    "certificates.cert_validity_time": "[health_manager] certificate_days",
    "certificates.server_certs_key_passphrase": "[certificates] master_key_file seals what is kept",
    "certificates.signing_digest": "the fleet's authority is built in: see `statera ca`",
    "certificates.storage_path": "secrets are kept sealed in the database",
    "certificates.*": "[service_auth] says how Barbican is reached",
    "cinder.availability_zone": "an availability zone's volume_zone",
    "cinder.region_name": "the region of [service_auth]",
    "cinder.volume_create_*": "a pass is repeated until the volume is there, [controller_worker] retry_*",
    "compute.*": "passes are repeated for ever: [controller_worker] retry_first_seconds, retry_max_seconds",
    "controller_worker.amp_active_*": "[nova] connect_seconds",
    "controller_worker.amp_timezone": "amphorae keep UTC",
    "controller_worker.amphora_delete_*": "passes are repeated for ever: [controller_worker] retry_max_seconds",
    "controller_worker.amphora_driver": "agents pull what they run; nothing is sent to amphorae",
    "controller_worker.client_ca": "the fleet's authority is built in: see `statera ca`",
    "controller_worker.db_commit_retry_*": "a pass is repeated when the database was away",
    "controller_worker.distributor_driver": "there is no distributor",
    "controller_worker.event_notifications": "events are in the API: /loadbalancers/{id}/events",
    "controller_worker.image_driver": "images come from Glance",
    "controller_worker.volume_driver": "[cinder] volume_size above 0 boots from volumes",
    "controller_worker.statistics_drivers": "statistics are kept in the database, and shown to Prometheus",
    "controller_worker.user_data_config_drive": "amphorae always get a config drive",
    "controller_worker.amp_ssh_key_name": "the image has no SSH unless it is built with it",
    "driver_agent.*_max_processes": "[driver_agent] max_requests",
    "driver_agent.*_request_timeout": "[driver_agent] request_timeout",
    "driver_agent.max_process_warning_percent": "requests wait for their turn: [driver_agent] max_requests",
    "haproxy_amphora.api_db_commit_retry_*": "a pass is repeated when the database was away",
    "haproxy_amphora.base_*": "[DEFAULT] state_path",
    "haproxy_amphora.build_*": "[controller_worker] replacements_per_minute and workers",
    "haproxy_amphora.haproxy_template": "there is no template: what is rendered follows from the API alone",
    "haproxy_amphora.haproxy_stick_size": "tables grow with what a node may use",
    "haproxy_amphora.respawn_*": "the agent starts HAProxy again at once, and says so in an event",
    "haproxy_amphora.*": "nothing connects to an amphora: agents dial out to [health_manager] bind_port",
    "health_manager.failover_thread*": "[controller_worker] workers, replacements_per_minute",
    "health_manager.health_check_interval": "[health_manager] grace_seconds",
    "health_manager.heartbeat_interval": "[health_manager] beat_seconds",
    "health_manager.heartbeat_key": "agents prove who they are by their certificates",
    "health_manager.heartbeat_timeout": "[health_manager] grace_seconds",
    "health_manager.*": "one loop serves all connections",
    "house_keeping.cert_*": "certificates renew by themselves: [health_manager] certificate_days",
    "keepalived_vrrp.*": "the pair watches itself, several times a second",
    "networking.max_retries": "passes are repeated for ever: [controller_worker] retry_max_seconds",
    "networking.retry_*": "passes are repeated for ever: [controller_worker] retry_max_seconds",
    "networking.port_detach_timeout": "passes are repeated for ever: [controller_worker] retry_max_seconds",
    "networking.use_remote_group_for_lb_peer_ports": "the peers' own addresses are let through",
    "nova.random_amphora_name_length": "servers are named after their amphorae",
    "oslo_messaging.topic": "there is no message bus: the database is the queue",
    "oslo_messaging_rabbit.*": "there is no message bus: the database is the queue",
    "DEFAULT.transport_url": "there is no message bus: the database is the queue",
    "DEFAULT.rpc_*": "there is no message bus: the database is the queue",
    "DEFAULT.graceful_shutdown_timeout": "passes hand back what they have not ended",
    "DEFAULT.octavia_plugins": "there is no plugin of that kind",
    "task_flow.*": "there are no flows and no job board: [controller_worker] workers, lease_seconds",
    "*.endpoint": "endpoint_override of the same section",
    "*.endpoint_type": "valid_interfaces of the same section",
    "*.ca_certificates_file": "cafile of [service_auth]",
    "*.insecure": "insecure of [service_auth]",
    "*.service_name": "the service catalogue says where each service is",
    "neutron.*": "[service_auth] counts for Neutron too",
}
"""The first pattern that fits `section.option` counts."""

LIBRARIES = ("keystone_authtoken", "oslo_policy", "oslo_middleware", "cors", "oslo_reports", "castellan",
             "oslo_messaging_notifications", "ovn", "service_auth", "healthcheck")
"""Sections that libraries read, or drivers of other providers."""

LOGGING = ("debug", "log_*", "use_*", "logging_*", "default_log_levels", "publish_errors", "instance_*", "rate_limit_*",
           "watch_log_file", "syslog_*", "config_*", "fatal_deprecations", "max_logfile_*")


def written(files: Iterable[str]) -> Iterator[str]:
    """Every `section.option` that the files set. Raise `cfg.Error` for one that cannot be read."""
    for file in files:
        sections: dict[str, dict[str, Sequence[str]]] = {}
        try:
            cfg.ConfigParser(file, sections).parse()
        except (iniparser.ParseError, OSError) as error:
            raise cfg.Error(f"{file}: {error}") from error
        yield from (f"{section}.{option}" for section, options in sections.items() for option in options)


def judged(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Of the names those that mean nothing here, with what does their work; and those that nobody knows."""
    gone, unknown = {}, []
    for name in dict.fromkeys(names):
        if _is_known(name):
            continue
        words = next((words for pattern, words in GONE.items() if fnmatchcase(name, pattern)), None)
        if words is None:
            unknown.append(name)
        else:
            gone[name] = words
    return gone, unknown


def _is_known(name: str) -> bool:
    section, _, option = name.partition(".")
    if name in OURS or section in LIBRARIES:
        return True
    return section == "DEFAULT" and any(fnmatchcase(option, pattern) for pattern in LOGGING)


OURS = frozenset(
    f"{'DEFAULT' if section.name == 'default' else section.name}.{option.name}"
    for section in msgspec.structs.fields(Settings) for option in msgspec.structs.fields(section.type)
)
