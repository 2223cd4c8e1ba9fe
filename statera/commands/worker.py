# SPDX-License-Identifier: Apache-2.0
"""octavia-worker: makes what runs match what is wanted."""

import os
from pathlib import Path
from uuid import uuid4

from oslo_config import cfg

from statera import metrics
from statera.commands import build, start
from statera.commands.metrics import Look
from statera.config import Settings
from statera.controller.notices import Notifier, emitter
from statera.controller.queue import Queue
from statera.store import measures, passes
from statera.store.migrations import await_schema


def main() -> None:
    start.run("octavia-worker", serve)


def serve(settings: Settings, conf: cfg.ConfigOpts) -> None:
    """Make passes until a signal says stop; steps that are under way are ended first."""
    stop = start.stop_signal()
    store = build.open_store(settings)
    await_schema(store, stop.wait)
    if stop.is_set():
        return
    with store.write() as connection:
        passes.free_dead(connection, settings.host, is_alive)
    owner = f"{settings.host}/{os.getpid()}/{uuid4().hex[:8]}"
    metrics.serve(settings.metrics, "worker", Look(store, measures.queue))
    queue = Queue(build.world(settings, store), settings.controller_worker, owner=owner)
    emit = emitter(conf, settings.host) if settings.controller_worker.event_notifications else None
    services: list[Queue | Notifier] = [queue, *([Notifier(store, emit)] if emit else [])]
    for service in services:
        service.start()
    stop.wait()
    for service in services:
        service.stop()
    store.close()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
