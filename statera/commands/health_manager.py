# SPDX-License-Identifier: Apache-2.0
"""octavia-health-manager: where nodes connect, and who says which of them are lost."""

import asyncio
import threading

from oslo_config import cfg

from statera import metrics
from statera.commands import start
from statera.commands.build import open_store, sealer
from statera.commands.loop import until_stopped
from statera.commands.metrics import Look
from statera.config import Settings
from statera.fleet.service import Service
from statera.store import measures
from statera.store.engine import Store
from statera.store.migrations import await_schema
from statera.store.networks import local_networks
from statera.store.wake import Waker


def main() -> None:
    start.run("octavia-health-manager", serve)


def serve(settings: Settings, _conf: cfg.ConfigOpts) -> None:
    """Serve nodes until SIGTERM or SIGINT."""
    store = open_store(settings)
    try:
        await_schema(store, threading.Event().wait)
        asyncio.run(_serve(settings, store))
    finally:
        store.close()


async def _serve(settings: Settings, store: Store) -> None:
    service = Service(settings, store, wake=Waker(store), networks=local_networks, sealer=sealer(settings))
    metrics.serve(settings.metrics, "health_manager", Look(store, measures.fleet, measures.certificates))
    await service.start()
    try:
        await until_stopped(service.wait())
    finally:
        await service.stop()
