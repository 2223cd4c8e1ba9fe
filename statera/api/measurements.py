# SPDX-License-Identifier: Apache-2.0
"""GET /metrics: a project's load balancers for Prometheus, by the same rights as their list."""

from collections.abc import Iterator, Sequence
from typing import Any

import falcon
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from statera.api import requests
from statera.api.acts import Service
from statera.api.handlers import project_scope
from statera.api.identity import identify
from statera.api.resources import loadbalancers
from statera.store import statistics

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
WHOSE = ("project_id", "loadbalancer_id", "name")
TOTALS = {
    "bytes_in": ("bytes_in", "Bytes from clients."),
    "bytes_out": ("bytes_out", "Bytes to clients."),
    "connections": ("total_connections", "Connections."),
    "request_errors": ("request_errors", "Requests that clients sent and that could not be understood."),
}
"""Metric: the counter that it shows, and what it says."""

PREFIX = "statera_loadbalancer_"


class Measurements:
    """Two statements, however many load balancers there are."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        project_id = requests.refuse_query(request, but=("project_id",)).get("project_id")
        where = project_scope(self.service, identify(request.env), loadbalancers.KIND, project_id)
        with self.service.store.read() as connection:
            rows = statistics.of_load_balancers(connection, *where)
        registry = CollectorRegistry()
        registry.register(Told(rows))
        response.content_type = MEDIA
        response.data = generate_latest(registry)


class Told(Collector):
    """The rows as metrics."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def describe(self) -> Sequence[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for word in ("provisioning_status", "operating_status"):
            yield self._family(GaugeMetricFamily, word, f"1 for the {word.replace('_', ' ')} that it has.", word)
        yield self._family(
            GaugeMetricFamily, "active_connections", "Connections now.", value="active_connections")
        for name, (counter, help) in TOTALS.items():
            yield self._family(CounterMetricFamily, name, help, value=counter)

    def _family(
        self, kind: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, help: str, *more: str,
        value: str = "",
    ) -> Metric:
        family = kind(PREFIX + name, help, labels=(*WHOSE, *more))
        for row in self._rows:
            labels = [str(row[label] or "") for label in (*WHOSE, *more)]
            family.add_metric(labels, row[value] if value else 1)
        return family
