# SPDX-License-Identifier: Apache-2.0
"""Everything that Statera's processes tell about themselves, as one table: name, sentence, labels.

What a process counts is a metric of prometheus_client, counted where it happens; what the database knows is
a `Fact`, looked up when somebody asks (`store.measures`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from msgspec import Struct
from prometheus_client import (
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    start_http_server,
)
from prometheus_client.registry import Collector

from statera.config import Metrics
from statera.errors import SetupError

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Histogram(
    "statera_api_request_seconds", "Requests that the API answered, and how long that took.",
    ("method", "route", "status"), buckets=FAST)
STATEMENTS = Counter("statera_database_statements", "SQL statements sent to the database.")

PASSES = Counter(
    "statera_passes", "Passes over load balancers: done, failed (to be repeated), or dropped to another worker.",
    ("outcome",))
PASS_SECONDS = Histogram("statera_pass_seconds", "How long passes took.", buckets=(*FAST, 30.0, 60.0))
STEPS = Counter("statera_steps", "Steps that passes made: done or failed.", ("kind", "outcome"))
LEASES_LOST = Counter("statera_leases_lost", "Passes that ended because another worker had taken over.")

NODES_CONNECTED = Gauge("statera_nodes_connected", "Nodes that are connected to this health manager.")
SPECS_SENT = Counter("statera_specs_sent", "Specs sent to nodes.")
MESSAGES = Counter("statera_node_messages", "Messages from nodes.", ("kind",))
DOUBT = Gauge(
    "statera_judgement_suspended", "1 while so many nodes are silent at once that none is given up, else 0.")

ORPHANS = Gauge("statera_orphans", "Ports, servers and the like that nothing owns any more, at the last look.")
PURGED = Counter("statera_purged_rows", "Rows that were old enough to be removed.", ("what",))

AMPHORAE = Gauge("statera_agent_amphorae", "Amphorae that this node carries.")
APPLIED = Counter("statera_agent_specs_applied", "Specs that this node made run, by how.", ("how",))
APPLY_SECONDS = Histogram("statera_agent_apply_seconds", "How long it took to make a spec run.", buckets=FAST)
FAILURES = Counter("statera_agent_failures", "Tries to make a spec run that failed.")
DEATHS = Counter("statera_agent_haproxy_deaths", "HAProxy processes that died by themselves.")
LINK_UP = Gauge("statera_agent_connected", "1 while this node is connected to a health manager, else 0.")
NODE_CERTIFICATE = Gauge(
    "statera_agent_certificate_days", "How many days the certificate of this node is still good.")


class Fact(Struct, frozen=True):
    """A gauge that the database answers."""

    help: str
    labels: tuple[str, ...] = ()


FACTS: Mapping[str, Fact] = {
    "statera_database_up": Fact("1 if the database answered this look, else 0."),
    "statera_due_load_balancers": Fact("Load balancers that wait for a pass now."),
    "statera_due_seconds": Fact("How long the one that waits longest has waited for a pass."),
    "statera_leases_held": Fact("Load balancers that workers are making passes over."),
    "statera_load_balancers": Fact("Load balancers.", ("provisioning_status",)),
    "statera_nodes": Fact("Enrolled nodes: heard, silent, lost (given up) or never connected.", ("state",)),
    "statera_managers_alive": Fact("Health managers that vouch for what they say."),
    "statera_certificate_days": Fact(
        "Days that the first certificate to run out is still good: of authorities, nodes or load balancers.", ("of",)),
    "statera_authorities_trusted": Fact("Certificate authorities that are trusted; 2 during an exchange."),
    "statera_events": Fact("Events of the last hour, by reason.", ("reason",)),
}

Sample = tuple[str, tuple[str, ...], float]
"""A fact's name, the values of its labels, its value."""


@contextmanager
def step(kind: str) -> Iterator[None]:
    """Count a step of a pass."""
    outcome = "failed"
    try:
        yield
        outcome = "done"
    finally:
        STEPS.labels(kind, outcome).inc()


@contextmanager
def one_pass() -> Iterator[None]:
    """Time a pass."""
    began = perf_counter()
    try:
        yield
    finally:
        PASS_SECONDS.observe(perf_counter() - began)


SERVICES: Mapping[str, tuple[Collector, ...]] = {
    "api": (REQUESTS, STATEMENTS),
    "worker": (PASSES, PASS_SECONDS, STEPS, LEASES_LOST, STATEMENTS),
    "health_manager": (NODES_CONNECTED, SPECS_SENT, MESSAGES, DOUBT, STATEMENTS),
    "housekeeping": (ORPHANS, PURGED, STATEMENTS),
    "agent": (AMPHORAE, APPLIED, APPLY_SECONDS, FAILURES, DEATHS, LINK_UP, NODE_CERTIFICATE),
}
"""What each service tells: a gauge that nobody sets would say 0."""


def serve(settings: Metrics, service: str, look: Collector | None = None, *, tries: int = 1) -> int | None:
    """Serve `/metrics` of *service* from a thread; returns the port, None where it is off.

    Of several processes of a service each takes the first free one of *tries* ports. Raise `SetupError`.
    """
    first: int = getattr(settings, f"{service}_port")
    if not first:
        return None
    registry = CollectorRegistry()
    for collector in (*SERVICES[service], *([look] if look else []), PROCESS_COLLECTOR, PLATFORM_COLLECTOR):
        registry.register(collector)
    problem = ""
    for port in range(first, first + tries):
        try:
            start_http_server(port, settings.bind_host, registry)
        except OSError as error:
            problem = error.strerror or str(error)
        else:
            return port
    raise SetupError(
        f"cannot serve metrics on {settings.bind_host} port {first}: {problem}; set [metrics] {service}_port")
