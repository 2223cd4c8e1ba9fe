# SPDX-License-Identifier: Apache-2.0
"""Tells OpenStack's notification bus what became of load balancers, once it is done."""

import logging
import threading
import warnings
from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from sqlalchemy.exc import SQLAlchemyError

from statera.store import notices
from statera.store.engine import Store

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RETRIES = 2
"""oslo.messaging would try for ever; here the next look tries again, and a worker that is to end can."""

Emit = Callable[[str, dict[str, Any]], None]
"""Takes an event's type and its payload."""


def emitter(conf: cfg.ConfigOpts, host: str) -> Emit | None:
    """What sends notifications, None unless [oslo_messaging_notifications] names a driver for them."""
    if not _drivers(conf):
        return None
    with warnings.catch_warnings():  # of libraries below, about libraries below them
        warnings.simplefilter("ignore")
        import oslo_messaging  # half a second of work, only where somebody listens

        transport = oslo_messaging.get_notification_transport(conf)
    asked = conf.oslo_messaging_notifications.retry
    notifier = oslo_messaging.Notifier(
        transport, publisher_id=f"octavia.{host}", retry=asked if asked >= 0 else RETRIES)
    return lambda event_type, payload: notifier.info({}, event_type, payload)


def _drivers(conf: cfg.ConfigOpts) -> list[str]:
    """What the files say before oslo.messaging itself declares the option."""
    look = cfg.ConfigOpts()
    look.register_opt(cfg.MultiStrOpt("driver", default=[]), group="oslo_messaging_notifications")
    look([], default_config_files=conf.config_file or [], default_config_dirs=[])
    return [driver for driver in look.oslo_messaging_notifications.driver if driver]


class Notifier:
    """Looks every second in a thread of its own. Any number of workers may do so: each notice is one's."""

    def __init__(self, store: Store, emit: Emit) -> None:
        self._store, self._emit = store, emit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> int:
        """Tell what there is to tell now, and how much that was. Who dies at it lets another tell that again.

        The database waits for no bus: nothing is locked meanwhile.
        """
        told = 0
        while not self._stop.is_set():
            with self._store.write() as connection:
                found = notices.take(connection)
            if found is None:
                break
            told += self._tell(found)
        return told

    def _tell(self, found: list[notices.Notice]) -> int:
        told = 0
        try:
            for notice in found:
                self._emit(f"octavia.loadbalancer.{notice.event}.end", notice.payload)
                told += 1
        finally:
            with self._store.write() as connection:
                notices.put_down(connection, found[:told], found[told:])
        return told

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except SQLAlchemyError as error:
                LOG.warning("nobody is told what became of load balancers while the database is away: %s", error)
            except Exception:
                LOG.exception("a notification could not be sent")
