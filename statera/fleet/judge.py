# SPDX-License-Identifier: Apache-2.0
"""Keeps this health manager's sign of life and, every second, passes the verdict on silent nodes."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor

from sqlalchemy.exc import SQLAlchemyError

from statera import metrics
from statera.fleet.verdict import Patience, Verdict, judge
from statera.store import reports
from statera.store.engine import Store

LOG = logging.getLogger(__name__)

ALIVE_SECONDS = 10.0
"""How long one sign of life counts."""
SIGN_SECONDS = 3.0
ROUND_SECONDS = 0.5
LAPSE_SECONDS = 3.0
"""A round that comes this late says that we slept; then others' silence proves nothing."""


class Judge:
    """*heard_at* says when each node with a connection was last heard, on the monotonic clock.

    *part* ends the connections of nodes that are silent, and of all when nobody vouches for us any more:
    they do better elsewhere.
    """

    def __init__(
        self, store: Store, manager_id: str, host: str, *, patience: Patience,
        heard_at: Callable[[], Mapping[str, float]], part: Callable[[Collection[str], str], None], threads: Executor,
    ) -> None:
        self._store = store
        self._manager_id = manager_id
        self._host = host
        self._patience = patience
        self._grace = patience.grace_seconds
        self._heard_at = heard_at
        self._part = part
        self._threads = threads
        self._well_since = self._last_round = time.monotonic()
        self._signed_at = float("-inf")
        self._last_heard: dict[str, float] = {}
        self._departed: dict[str, float] = {}
        self._told: set[str] = set()
        self._doubt: str | None = None
        self._heard_since: float | None = None

    async def run(self, round_seconds: float = ROUND_SECONDS) -> None:
        """Hold rounds until cancelled."""
        while True:
            await asyncio.sleep(round_seconds)
            await self.hold(time.monotonic())

    def note_departure(self, node_id: str, heard_at: float) -> None:
        """The node's connection ended; unless it comes back it is silent since *heard_at*."""
        self._departed[node_id] = heard_at

    async def hold(self, now: float) -> None:
        """One round. While the database is away nothing is decided."""
        if now - self._last_round > LAPSE_SECONDS:
            self._well_since = now
        self._last_round = now
        departed, self._departed = self._departed, {}
        heard = self._last_heard | departed | dict(self._heard_at())
        # Silence counts only while we are well ourselves.
        self._last_heard = {node_id: max(at, self._well_since) for node_id, at in heard.items()}
        hears = any(now - at < self._grace for at in self._heard_at().values())
        self._heard_since = (self._heard_since or now) if hears else None
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._round, now)
        except SQLAlchemyError as error:
            LOG.warning("no verdict on nodes while the database is away: %s", error)
            self._well_since = now
            if now - self._signed_at > ALIVE_SECONDS:
                self._part(self._heard_at().keys(), "the database is out of reach from here")
        still = {node_id for node_id, at in self._heard_at().items() if now - at >= self._grace}
        self._part(self._told & still, "nothing was heard for the grace time")

    def _round(self, now: float) -> None:
        self._sign(now)
        self._say_disconnected(now)
        with self._store.read() as connection:
            unheard = dict(reports.unheard(connection))
            fleet = reports.fleet_size(connection)
        self._remember(unheard.keys(), now)
        verdict = judge(
            now=now, heard=self._last_heard, fleet=fleet, well_since=self._well_since,
            heard_since=self._heard_since, patience=self._patience)
        self._pass(verdict, now)

    def _sign(self, now: float) -> None:
        if now - self._signed_at < SIGN_SECONDS:
            return
        with self._store.write() as connection:
            reports.alive(connection, self._manager_id, self._host, ALIVE_SECONDS)
        self._signed_at = now

    def _say_disconnected(self, now: float) -> None:
        """A connection counts until the grace time is over: an agent may restart unnoticed."""
        silent = {node_id for node_id, at in self._last_heard.items() if now - at >= self._grace}
        if silent - self._told:
            with self._store.write() as connection:
                reports.disconnected(connection, self._manager_id, silent - self._told)
        self._told = silent

    def _remember(self, unheard: Collection[str], now: float) -> None:
        """Keep those that may yet be condemned: nodes that nobody hears and those that we may still hear."""
        hopeful = {node_id: at for node_id, at in self._last_heard.items() if now - at < self._grace}
        self._last_heard = hopeful | {node_id: self._last_heard.get(node_id, now) for node_id in unheard}

    def _pass(self, verdict: Verdict, now: float) -> None:
        for node_id in verdict.condemned:
            with self._store.write() as connection:
                concerned = reports.lost(connection, node_id, now - self._last_heard[node_id])
            LOG.warning("node %s is lost, %d load balancers are due", node_id, concerned)
        if verdict.doubt is not None and self._doubt is None:
            LOG.error("%s", verdict.doubt)
            with self._store.write() as connection:
                reports.doubted(connection, self._manager_id, verdict.doubt)
        if verdict.doubt is None and self._doubt is not None:
            how = "they stayed silent while others were heard" if verdict.condemned else "they are heard again"
            LOG.warning("silent nodes are judged again: %s", how)
            with self._store.write() as connection:
                reports.doubt_over(connection, self._manager_id, how)
        self._doubt = verdict.doubt
        metrics.DOUBT.set(verdict.doubt is not None)
