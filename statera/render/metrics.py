# SPDX-License-Identifier: Apache-2.0
"""Metrics for Prometheus: a listener of that protocol leads to the agent, which asks HAProxy's own exporter."""

from collections.abc import Iterator

from statera.render.text import quote
from statera.wire import ListenerSpec, Spec

PROTOCOL = "PROMETHEUS"
EXPORTER = "statera-exporter"
BACKEND = "statera-metrics"
HIDDEN = (EXPORTER, BACKEND)
"""Proxies of our own, of which nobody is told."""
PORT = 9102
SOCKET = "exporter.sock"


def is_wanted(spec: Spec) -> bool:
    return any(listener.protocol == PROTOCOL for listener in spec.listeners)


def frontend_lines(listener: ListenerSpec) -> Iterator[str]:
    if listener.protocol == PROTOCOL:
        yield "http-request deny deny_status 404 unless { path /metrics }"
        yield f"default_backend {BACKEND}"


def sections(spec: Spec, run: str) -> Iterator[tuple[str, list[str]]]:
    """What a metrics listener needs besides: HAProxy's exporter for the agent alone, and the way to the agent."""
    if is_wanted(spec):
        exporter = quote(f"{run}/{SOCKET}")
        yield f"frontend {EXPORTER}", [
            "mode http", f"bind {exporter} mode 600", "http-request use-service prometheus-exporter"]
        yield f"backend {BACKEND}", ["mode http", "retries 0", f"server agent 127.0.0.1:{PORT}"]
