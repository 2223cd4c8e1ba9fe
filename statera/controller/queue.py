# SPDX-License-Identifier: Apache-2.0
"""Takes load balancers that are due and lets a fixed number of threads make passes over them, side by side."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from oslo_log import log
from sqlalchemy.exc import SQLAlchemyError

from statera import metrics, trace
from statera.config import ControllerWorker
from statera.controller.reconcile import put_off, reconcile
from statera.controller.world import World
from statera.errors import DriverError, LeaseLost, TryAgain
from statera.store import passes, rotations
from statera.store.passes import Lease
from statera.store.sweep import rouse
from statera.store.wake import Waker

LOG = log.getLogger(__name__)
Answer = TypeVar("Answer")

SWEEP_SECONDS = 5.0
PACE_SECONDS = 0.5
IDLE_SECONDS = 1.0
"""The longest that anything goes unnoticed should a wake-up get lost; also the pause while the database is away."""


class Queue:
    """One worker process: a thread that watches for due load balancers, and those that make the passes.

    *owner* names this process in leases.
    """

    def __init__(self, world: World, settings: ControllerWorker, *, owner: str) -> None:
        self._world, self._settings, self._owner = world, settings, owner
        self._waker = Waker(world.store)
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; returns at once."""
        passing = [threading.Thread(target=self._work, name=f"pass-{n}") for n in range(self._settings.workers)]
        self._threads = [threading.Thread(target=self._watch, name="watch"), *passing]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every pass end its current step and hand back the rest; returns when all have."""
        self._stop.set()
        self._waker.close()
        for thread in self._threads:
            while thread.is_alive():  # a thread that just went to wait may have missed a single ring
                self._bell.set()
                thread.join(0.05)

    def run_once(self) -> str | None:
        """Make one pass if a load balancer is due, and return what it said; None when none is."""
        due_seconds = self._next_due()
        if due_seconds is None or due_seconds > 0:
            return None
        with self._world.store.write() as connection:
            lease = passes.claim(connection, self._owner, seconds=self._settings.lease_seconds)
        return self._pass(lease) if lease else None

    def _pass(self, lease: Lease) -> str:
        trace.follow(lease.request_id)
        try:
            with metrics.one_pass():
                return self._attempt(lease)
        except LeaseLost as lost:
            metrics.LEASES_LOST.inc()
            metrics.PASSES.labels("dropped").inc()
            return f"{lost}; this pass is dropped"

    def _attempt(self, lease: Lease) -> str:
        put_it_off = partial(put_off, lease, self._world, settings=self._settings)
        try:
            said = reconcile(lease, self._world, stopping=self._stop.is_set)
            metrics.PASSES.labels("done").inc()
            return said
        except LeaseLost:
            raise
        except DriverError as error:
            return put_it_off(error=error)
        except SQLAlchemyError as error:
            return put_it_off(error=TryAgain("database_error", str(error)))
        except Exception as error:  # whatever one load balancer does to its pass, the others need theirs
            LOG.exception("load balancer %s: the pass failed in a way nobody foresaw", lease.load_balancer_id)
            return put_it_off(error=error)

    def _work(self) -> None:
        while not self._stop.is_set():
            said = self._survive(self.run_once)
            if said is None:
                self._bell.wait(IDLE_SECONDS)
                self._bell.clear()
            else:
                LOG.info("%s", said)

    def _watch(self) -> None:
        swept_at, cursor = time.monotonic(), ""
        paced_at = 0.0
        while not self._stop.is_set():
            if time.monotonic() - swept_at >= SWEEP_SECONDS:
                swept_at, cursor = time.monotonic(), self._survive(partial(self._sweep, cursor)) or ""
            if time.monotonic() - paced_at >= PACE_SECONDS:
                paced_at = time.monotonic()
                self._survive(self._pace)
            due_seconds = self._survive(self._next_due)
            if due_seconds is not None and due_seconds <= 0:
                self._bell.set()
            until_due = due_seconds if due_seconds is not None and due_seconds > 0 else IDLE_SECONDS
            self._waker.wait(min(IDLE_SECONDS, until_due))

    def _next_due(self) -> float | None:
        with self._world.store.read() as connection:
            return passes.next_due_seconds(connection)

    def _sweep(self, cursor: str) -> str:
        with self._world.store.write() as connection:
            return rouse(connection, cursor)

    def _pace(self) -> None:
        with self._world.store.read() as connection:
            if not rotations.is_waiting(connection):
                return
        with self._world.store.write() as connection:
            rotations.pace(connection, datetime.now().time())

    def _survive(self, act: Callable[[], Answer]) -> Answer | None:
        """What *act* returns; None, after a pause, when it fails."""
        try:
            return act()
        except SQLAlchemyError as error:
            LOG.error("the database does not answer: %s", error)
        except Exception:
            LOG.exception("%s failed in a way nobody foresaw", act)
        self._stop.wait(IDLE_SECONDS)
        return None
