# SPDX-License-Identifier: Apache-2.0
"""What a service's database answers when somebody asks for its metrics."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from oslo_log import log
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from statera.metrics import FACTS, Sample

LOG = log.getLogger(__name__)

Measure = Callable[[Connection], Iterable[Sample]]


class Readable(Protocol):
    """A store, as far as it is needed here."""

    def read(self) -> AbstractContextManager[Connection]: ...


class Look(Collector):
    """Asks the database when somebody asks for metrics; while it is away the rest is told."""

    def __init__(self, store: Readable, *measures: Measure) -> None:
        self._store, self._measures = store, measures

    def describe(self) -> Iterable[Metric]:
        """Nothing yet: or the database would be asked at the start."""
        return ()

    def collect(self) -> Iterator[Metric]:
        found = {name: GaugeMetricFamily(name, fact.help, labels=fact.labels) for name, fact in FACTS.items()}
        for name, labels, value in self._samples():
            found[name].add_metric(labels, value)
        return (family for family in found.values() if family.samples)

    def _samples(self) -> Iterator[Sample]:
        try:
            with self._store.read() as connection:
                samples = [sample for measure in self._measures for sample in measure(connection)]
        except SQLAlchemyError as error:
            LOG.warning("metrics: the database does not answer: %s", error)
            yield "statera_database_up", (), 0
            return
        yield "statera_database_up", (), 1
        yield from samples
