# SPDX-License-Identifier: Apache-2.0
"""One `Store` per process: two kinds of transactions on SQLite, PostgreSQL or MariaDB/MySQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from statera import metrics
from statera.errors import SetupError

DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql", "postgresql": "postgresql+psycopg"}
SERVER: dict[str, Any] = {"isolation_level": "READ COMMITTED", "pool_pre_ping": True}
TIMEOUTS = {"connect_timeout": 5, "read_timeout": 60, "write_timeout": 60}
SERVER_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {"connect_args": {"timeout": 30}},
    "postgresql": {**SERVER, "connect_args": {
        "connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 2,
        "keepalives_count": 3}},
    "mysql": {**SERVER, "pool_recycle": 3600, "connect_args": TIMEOUTS},
    "mariadb": {**SERVER, "pool_recycle": 3600, "connect_args": TIMEOUTS},
}
"""A server that is cut off from us says nothing; without limits we would listen to it for a quarter of an hour."""


class Store:
    """The database behind *url*; connections are opened on first use, so it may be made before a fork."""

    def __init__(self, url: str, *, pool_size: int = 10, max_overflow: int = 20, pool_timeout: int = 10) -> None:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in SERVER_OPTIONS:
            raise SetupError(
                f"[database] connection names {backend}; use sqlite, postgresql or mysql (MariaDB)"
            )
        if parsed.drivername in DRIVERS:
            parsed = parsed.set(drivername=DRIVERS[parsed.drivername])
        self.backend = backend
        self.engine: Engine = create_engine(
            parsed, pool_size=pool_size, max_overflow=max_overflow, pool_timeout=pool_timeout,
            json_deserializer=msgspec.json.decode,
            **SERVER_OPTIONS[backend],
        )
        event.listen(self.engine, "after_cursor_execute", lambda *_: metrics.STATEMENTS.inc())
        if backend == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent look; on SQLite it neither blocks nor is blocked by a writer."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Like `read`, but all statements see the same moment, however long it takes."""
        options = {} if self.backend == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block and leaves nothing behind when it raises.

        SQLite takes its single write lock at once, so a reader never has to turn into a writer midway.
        """
        with self.engine.connect().execution_options(statera_write=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, below
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("statera_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
