# SPDX-License-Identifier: Apache-2.0
"""Keeps machines ready: looks, asks the plan, and makes its steps, a round at a time."""

from collections.abc import Callable
from typing import assert_never

from msgspec import structs
from oslo_log import log

from statera.controller.spares import (
    RESERVE,
    AddSpare,
    BringSpare,
    RemoveSpare,
    RetireSpare,
    SpareStep,
    plan_spares,
)
from statera.drivers.protocols import AmphoraRequest, Compute
from statera.errors import DriverError
from statera.store import budget, passes, spares
from statera.store.engine import Store
from statera.store.seen import load_nodes

LOG = log.getLogger(__name__)

TURN_SECONDS, ROUND_SECONDS = 180.0, 60.0
"""How long others leave a round alone, and how long it goes on: what is left is for the next one."""


class Pool:
    """Keeps no state: rows say what there is, so a round may be cut off anywhere and any process makes the next.

    *now* is monotonic, in seconds.
    """

    def __init__(
        self, store: Store, compute: Compute, *, size: int, per_minute: int, now: Callable[[], float]
    ) -> None:
        self._store, self._compute = store, compute
        self._size, self._per_minute, self._now = size, per_minute, now

    def round(self) -> None:
        """What can be done now: a step that fails is told in the log and left to the next round."""
        if not self._compute.plugs or not self._has_work():
            return
        with self._store.write() as connection:
            if not spares.take_turn(connection, TURN_SECONDS):
                return
        try:
            self._go_on(self._now() + ROUND_SECONDS)
        except DriverError as error:
            LOG.warning("housekeeping: spare amphorae have to wait: %s", error)
        with self._store.write() as connection:
            spares.end_turn(connection)

    def _go_on(self, end: float) -> None:
        for _ in range(2):  # what the first look adds the second brings
            for step in self._steps():
                if self._now() < end:
                    self._try(step)

    def _has_work(self) -> bool:
        with self._store.read() as connection:
            return self._size > 0 or bool(spares.load(connection))

    def _steps(self) -> list[SpareStep]:
        newest = self._compute.newest() if self._size else {}
        with self._store.read() as connection:
            return plan_spares(
                spares.zones(connection), spares.load(connection), size=self._size, newest=newest,
                budget=budget.left(connection, per_minute=self._per_minute))

    def _try(self, step: SpareStep) -> None:
        try:
            self._perform(step)
        except DriverError as error:
            LOG.warning("housekeeping: could not %s: %s", step, error)

    def _perform(self, step: SpareStep) -> None:
        """Make one step; repeating is always safe."""
        match step:
            case AddSpare(zone):
                with self._store.write() as connection:
                    if budget.spend(connection, per_minute=self._per_minute, reserve=RESERVE):
                        spares.add(connection, zone)
            case BringSpare(id, zone):
                self._bring(id, zone)
            case RetireSpare(id):
                with self._store.write() as connection:
                    spares.retire(connection, id)
            case RemoveSpare(id, last):
                self._compute.ensure_absent(id)
                if last:
                    self._compute.forget(None)
                with self._store.write() as connection:
                    passes.forget_amphora(connection, id, with_node=True)
            case _:
                assert_never(step)
        if not isinstance(step, BringSpare):
            LOG.info("housekeeping: %s", step)

    def _bring(self, id: str, zone: str | None) -> None:
        with self._store.read() as connection:
            nodes = tuple(load_nodes(connection))
        node_id = self._compute.ensure_node(
            AmphoraRequest(amphora_id=id, load_balancer_id=None, nodes=nodes, zone=zone))
        machine = self._compute.machine(id)
        with self._store.write() as connection:
            spares.note(connection, id, structs.asdict(machine) if machine else {}, node_id=node_id)
        if node_id:
            LOG.info("housekeeping: spare amphora %s is ready", id)
