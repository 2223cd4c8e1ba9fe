# SPDX-License-Identifier: Apache-2.0
"""A whole health manager: the endpoint, the dispatcher, the ledger and the judge, started and stopped together."""

import asyncio
import logging
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from aiohttp import web

from statera import metrics
from statera.config import Settings
from statera.errors import SetupError
from statera.fleet.authority import Authority
from statera.fleet.dispatch import SWEEP_SECONDS, Dispatcher, Networks, Wake
from statera.fleet.door import Door
from statera.fleet.endpoint import Endpoint
from statera.fleet.intake import Intake
from statera.fleet.judge import Judge
from statera.fleet.ledger import Ledger
from statera.fleet.session import Session
from statera.fleet.verdict import Patience
from statera.store.engine import Store
from statera.store.secrets import Sealer, ensure_sealer

LOG = logging.getLogger(__name__)

THREADS = 4


class Service:
    """*networks* reads what every host is to carry as bridges, *sealer* opens certificates for nodes.

    Each start is a new health manager to the store.
    """

    def __init__(
        self, settings: Settings, store: Store, *, wake: Wake, networks: Networks,
        sweep_seconds: float = SWEEP_SECONDS, sealer: Sealer | None = None,
    ) -> None:
        self._settings = settings
        self._wake = wake
        self._sweep_seconds = sweep_seconds
        own = settings.health_manager
        self.manager_id = str(uuid4())
        self.sessions: dict[str, Session] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="fleet")
        self._waiting = ThreadPoolExecutor(1, thread_name_prefix="fleet-wake")
        self._authority = Authority(store, ensure_sealer(settings.master_key), settings)
        self.ledger = Ledger(store, self._threads)
        self.dispatcher = Dispatcher(
            store, self.manager_id, own, sessions=self.sessions, ledger=self.ledger, networks=networks,
            threads=self._threads, sealer=sealer, roots=lambda: self._authority.roots)
        self._door = Door(
            store, self._authority, self.manager_id, self._threads, restored=self._begin_anew,
            changed=self.dispatcher.sweep)
        self._intake = Intake(
            self.manager_id, self.dispatcher, self.ledger, self._authority, own.certificate_days)
        self.judge = Judge(
            store, self.manager_id, settings.host, heard_at=self._heard_at, part=self._part, threads=self._threads,
            patience=Patience(
                grace_seconds=own.grace_seconds, share=own.silent_share, doubt_seconds=own.doubt_seconds))
        self._endpoint = Endpoint(
            store, self.manager_id, authority=self._authority, certificate_days=own.certificate_days,
            sessions=self.sessions, dispatcher=self.dispatcher, intake=self._intake, threads=self._threads,
            departed=self.judge.note_departure)
        self._runner = web.AppRunner(self._endpoint.app, access_log=None, shutdown_timeout=1.0)
        self._tasks: list[asyncio.Task[None]] = []
        metrics.NODES_CONNECTED.set_function(lambda: len(self.sessions))

    @property
    def port(self) -> int:
        """The port that nodes connect to, once started."""
        return int(self._runner.addresses[0][1])

    async def start(self, port: int | None = None) -> None:
        """Give the first sign of life, then let nodes in. *port* 0 takes any free one. Raise `SetupError`."""
        own = self._settings.health_manager
        await self.judge.hold(time.monotonic())
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, own.bind_ip, own.bind_port if port is None else port, ssl_context=self._door.tls,
            reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise SetupError(f"cannot listen on [health_manager] bind_ip and bind_port: {error}") from error
        self._tasks = [asyncio.create_task(work) for work in (
            self.ledger.run(), self.dispatcher.run(self._wake, self._waiting, self._sweep_seconds),
            self.dispatcher.supply(),
            self.judge.run(), self._intake.store_totals(), self._door.run())]
        LOG.info("health manager %s listens on %s:%d", self.manager_id, own.bind_ip, self.port)

    async def wait(self) -> None:
        """Return never; raise what ends any of the parts."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Send the nodes elsewhere and write what is known. The sign of life runs out by itself: until
        then nodes that come back in time were never away."""
        sessions = list(self.sessions.values())
        for session in sessions:
            session.close("this health manager stops")
        await asyncio.gather(*(session.closed() for session in sessions), return_exceptions=True)
        await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ledger.flush()
        self._wake.close()
        for pool in (self._waiting, self._threads):
            pool.shutdown()

    def _heard_at(self) -> dict[str, float]:
        return {node_id: session.heard_at for node_id, session in self.sessions.items()}

    def _begin_anew(self) -> None:
        self._part(tuple(self.sessions), "a backup was restored: everything is told anew")

    def _part(self, node_ids: Collection[str], why: str) -> None:
        for node_id in self.sessions.keys() & set(node_ids):
            self.sessions[node_id].close(why)
