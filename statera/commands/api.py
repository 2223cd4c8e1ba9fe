# SPDX-License-Identifier: Apache-2.0
"""octavia-api: serves the API over HTTP."""

import ipaddress
import socket
import threading

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server
from oslo_config import cfg

from statera import metrics
from statera.api.app import Wsgi
from statera.api.wsgi import load
from statera.commands import build, start
from statera.config import ApiSettings, Settings
from statera.errors import SetupError
from statera.store.migrations import await_schema

OUR_LOG = {"loggers": {"_granian": {"propagate": True}}}
"""What the server has to say goes where all else goes, in the same format."""


def main() -> None:
    start.run("octavia-api", serve)


def serve(settings: Settings, conf: cfg.ConfigOpts) -> None:
    """Serve until SIGTERM, which lets requests end that are under way. Raise `SetupError`."""
    api = settings.api_settings
    require_identity(api)
    require_port(api.bind_host, api.bind_port)
    store = build.open_store(settings)
    await_schema(store, threading.Event().wait)
    store.close()

    def worker() -> Wsgi:
        start.die_with_parent()  # or it would keep the port from the next octavia-api
        metrics.serve(settings.metrics, "api", tries=api.workers)
        return load(settings, conf)

    load(settings, conf)
    server = Server(
        "statera.api.wsgi:application", address=api.bind_host, port=api.bind_port, interface=Interfaces.WSGI,
        workers=api.workers, blocking_threads=api.threads, log_level=LogLevels.warning, log_dictconfig=OUR_LOG,
        process_name="octavia-api", respawn_failed_workers=True,
    )
    server.serve(target_loader=worker, wrap_loader=False)


def require_identity(api: ApiSettings) -> None:
    """Raise unless callers are identified, or only this host can call."""
    if api.auth_strategy not in ("noauth", "testing") or is_loopback(api.bind_host):
        return
    raise SetupError(
        f"[api_settings] auth_strategy = {api.auth_strategy} lets everybody in, so bind_host has to be a loopback "
        f"address such as 127.0.0.1, not {api.bind_host}"
    )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_port(host: str, port: int) -> None:
    """Raise when the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                f"cannot listen on {host} port {port}: {error.strerror}; "
                "end what listens there or set [api_settings] bind_host and bind_port"
            ) from error
