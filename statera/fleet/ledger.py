# SPDX-License-Identifier: Apache-2.0
"""Writes the fleet's facts in the background, many in one short transaction, none lost while the database is away."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from statera.store import health
from statera.store.engine import Store

LOG = logging.getLogger(__name__)

Fact: TypeAlias = Callable[[Connection], object]
Key: TypeAlias = tuple[str, ...]

AT_ONCE = 100
BATCH_SECONDS = 0.02
"""After this long a transaction commits even if more is waiting, so that others come to write too."""


class Ledger:
    """Facts to write, by what they are about: a newer one takes the place of an older that still waits.

    A key begins with the load balancer's id: facts are written in that order, so that two health managers
    never wait for each other.
    """

    def __init__(self, store: Store, threads: Executor) -> None:
        self._store = store
        self._threads = threads
        self._waiting: dict[Key, Fact] = {}
        self._wanted = asyncio.Event()

    def note(self, key: Key, fact: Fact) -> None:
        """Have *fact* written soon. It must be repeatable: a failed transaction is made again."""
        self._waiting.pop(key, None)
        self._waiting[key] = fact
        self._wanted.set()

    async def run(self) -> None:
        """Write until cancelled."""
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            await self._wanted.wait()
            pause = 0.0 if await self.flush() else min(2.0, pause * 2 or 0.1)

    async def flush(self) -> bool:
        """Write what waits now; False, and it waits on, when the database is away."""
        self._wanted.clear()
        batch, self._waiting = self._waiting, {}
        facts = sorted(batch.items(), key=lambda item: item[0][0])  # stable: order holds within a load balancer
        while facts:
            written = await asyncio.get_running_loop().run_in_executor(self._threads, self._write, facts)
            if not written:
                self._waiting = {**dict(facts), **self._waiting}
                self._wanted.set()
                return False
            facts = facts[written:]
        return True

    def _write(self, facts: list[tuple[Key, Fact]]) -> int:
        """Write the first few in one transaction and return how many; 0 when the database is away."""
        try:
            return self._commit(facts)
        except (DBAPIError, PoolTimeout) as error:
            if len(facts) > 1:  # one of them may be what fails: alone it cannot take others with it
                return self._write(facts[:1])
            if is_passing(error):
                LOG.warning("cannot write facts: %s", error)
                return 0
            LOG.error("fact %s cannot be written and is dropped: %s", facts[0][0], error)
            return 1

    def _commit(self, facts: list[tuple[Key, Fact]]) -> int:
        written = 0
        with self._store.write() as connection:
            began = time.monotonic()
            known = _known(connection, facts[:AT_ONCE])
            looked = time.monotonic()
            until = looked + max(BATCH_SECONDS, looked - began)  # else a slow look would leave no time to write
            for key, fact in facts[:AT_ONCE]:
                if key not in known:
                    if written and time.monotonic() > until:
                        break
                    fact(connection)
                written += 1
        return written


def _known(connection: Connection, facts: list[tuple[Key, Fact]]) -> set[Key]:
    """Those that hold nothing new, as most do when nodes come back; worth a look where there are several."""
    said = {key: fact for key, fact in facts if isinstance(fact, health.Said)}
    known = health.known(connection, list(said.values())) if len(said) > 2 else ()
    return {key for key, fact in said.items() if fact.amphora_id in known}


def is_passing(error: SQLAlchemyError) -> bool:
    """Whether the database may take the same statement later: away, locked or deadlocked."""
    return isinstance(error, PoolTimeout) or type(error).__name__ in ("OperationalError", "InterfaceError")
