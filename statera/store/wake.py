# SPDX-License-Identifier: Apache-2.0
"""Who waits for changes learns of them within milliseconds, whichever process made them."""

import contextlib
import os
import sqlite3
import threading
import time
from typing import Any, Protocol

from sqlalchemy import Connection, func, literal, select, union_all
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from statera.store.engine import SERVER_OPTIONS, Store
from statera.store.tables import load_balancers, nodes

CHANNEL = "statera"
SLICE_SECONDS = 0.25
"""How long a look may go on before it is noticed that the waker was closed."""


def announce(connection: Connection) -> None:
    """Wake whoever waits, once the transaction commits. Cheap, may be repeated; never fails on its own."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, "")))


class Watch(Protocol):
    """One way to see that others have committed; belongs to one process and one thread."""

    def changed(self, within_seconds: float) -> bool:
        """Whether anything may have been committed since the last call; look that long at most."""

    def close(self) -> None:
        """Give the connection back."""


class Waker:
    """Waits for changes in *store*; one thread at a time may wait, any may close.

    The connection is opened by the first wait in a process, so a fork before that is harmless, and one
    after it is noticed. Nothing that is committed between two waits is missed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watch: Watch | None = None
        self._pid = 0
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._failures = (DBAPIError, store.engine.dialect.loaded_dbapi.Error)

    def wait(self, timeout_seconds: float) -> bool:
        """True as soon as another transaction may have changed something, False when *timeout_seconds* are over.

        The first wait, and the first after the database was away, are True at once.
        """
        until = time.monotonic() + timeout_seconds
        with self._waiting:
            try:
                return self._look(until)
            except self._failures:
                self._drop()
        self._closed.wait(min(1.0, timeout_seconds))
        return True

    def close(self) -> None:
        """End the wait that is under way, and all later ones at once."""
        self._closed.set()
        with self._waiting:
            self._drop()

    def _look(self, until: float) -> bool:
        while not self._closed.is_set():
            if self._watch is None or self._pid != os.getpid():
                self._watch, self._pid = WATCHES[self._store.backend](self._store, self._closed), os.getpid()
                return True
            left = until - time.monotonic()
            if self._watch.changed(max(0.0, min(left, SLICE_SECONDS))):
                return True
            if left <= 0:
                return False
        return False

    def _drop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            with contextlib.suppress(*self._failures):
                watch.close()


class SqliteWatch:
    """SQLite counts, for each connection, the commits of all others."""

    poll_seconds = 0.01

    def __init__(self, store: Store, closed: threading.Event) -> None:
        self._connection = sqlite3.connect(store.engine.url.database or "", check_same_thread=False)
        self._closed = closed
        self._seen = self._version()

    def changed(self, within_seconds: float) -> bool:
        until = time.monotonic() + within_seconds
        while (version := self._version()) == self._seen:
            if time.monotonic() >= until or self._closed.wait(self.poll_seconds):
                return False
        self._seen = version
        return True

    def close(self) -> None:
        self._connection.close()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


class PostgresWatch:
    """PostgreSQL delivers what `announce` said when its transaction commits."""

    def __init__(self, store: Store, closed: threading.Event) -> None:
        driver: Any = store.engine.dialect.loaded_dbapi
        self._connection = driver.connect(
            _conninfo(store.engine.url), autocommit=True, **SERVER_OPTIONS["postgresql"]["connect_args"])
        self._connection.execute(f"LISTEN {CHANNEL}")

    def changed(self, within_seconds: float) -> bool:
        heard = list(self._connection.notifies(timeout=within_seconds, stop_after=1))
        if heard:
            list(self._connection.notifies(timeout=0))  # one look answers them all
        return bool(heard)

    def close(self) -> None:
        self._connection.close()


class MariadbWatch:
    """MariaDB and MySQL have no notice to send: a sum over what is under way changes with every step of it.

    When much is, a look takes long, and the next comes later: looking never takes more than *share* of a processor.
    """

    poll_seconds = 0.05
    share = 0.1

    def __init__(self, store: Store, closed: threading.Event) -> None:
        self._engine = store.engine
        self._closed = closed
        self._seen = self._sums()

    def changed(self, within_seconds: float) -> bool:
        until = time.monotonic() + within_seconds
        while True:
            began = time.monotonic()
            sums = self._sums()
            ended = time.monotonic()
            if sums != self._seen:
                break
            if ended >= until or self._closed.wait(max(self.poll_seconds, (ended - began) / self.share)):
                return False
        self._seen = sums
        return True

    def close(self) -> None:
        """Its connections belong to the pool."""

    def _sums(self) -> list[Any]:
        lb, none = load_balancers.c, literal(0)
        sums = (func.sum(lb.version), func.sum(lb.lease_until_ms), func.sum(lb.settled_version))
        looks = (
            select(func.count(), *sums).where(lb.unsettled == 1),
            select(func.count(), func.sum(lb.due_ms), none, none).where(lb.due_ms.is_not(None)),
            select(func.count(), func.sum(nodes.c.lost_ms), func.sum(nodes.c.drained), none),
        )
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(union_all(*looks))]


WATCHES: dict[str, type[SqliteWatch] | type[PostgresWatch] | type[MariadbWatch]] = {
    "sqlite": SqliteWatch, "postgresql": PostgresWatch, "mysql": MariadbWatch, "mariadb": MariadbWatch,
}


def _conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
