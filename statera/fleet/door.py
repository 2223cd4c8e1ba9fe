# SPDX-License-Identifier: Apache-2.0
"""What nodes meet first: the certificate that they are shown, and which of theirs is taken; both change on the run."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from statera.errors import SetupError
from statera.fleet.authority import Authority
from statera.store import authorities
from statera.store.engine import Store
from statera.store.strays import newest_restore

LOG = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0


class Door:
    """*tls* is what to listen with: it hands each new connection to the newest context.

    *restored* is called when a backup took the place of the database, so that what is known is told anew,
    *changed* when others are to be trusted than before, so that nodes learn of it.
    """

    def __init__(
        self, store: Store, authority: Authority, manager_id: str, threads: Executor, *,
        restored: Callable[[], None], changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._store, self._authority, self._manager_id, self._threads = store, authority, manager_id, threads
        self._restored, self._changed = restored, changed
        with store.read() as connection:
            self._restore = newest_restore(connection)
        self._newest = authority.tls()
        self.tls = authority.tls()
        self.tls.sni_callback = self._admit  # called without a name as well

    async def run(self) -> None:
        """Follow the store until cancelled; while it is away all stays as it is."""
        while True:
            try:
                before = self._authority.ids
                if await asyncio.get_running_loop().run_in_executor(self._threads, self.refresh):
                    self._restored()
                if self._authority.ids != before:
                    await self._changed()
            except (SQLAlchemyError, SetupError, OSError) as error:
                LOG.warning("the certificates of this health manager stay as they are: %s", error)
            await asyncio.sleep(REFRESH_SECONDS)

    def refresh(self) -> bool:
        """Show and take what the store says now, and write down who signed what is shown.

        Whether a backup was restored since the last time.
        """
        if self._authority.refresh():
            self._newest = self._authority.tls()
            LOG.info("this health manager shows a certificate of authority %s", self._authority.id)
        with self._store.read() as connection:
            noted = authorities.shown_by(connection, self._manager_id)
            former, self._restore = self._restore, newest_restore(connection)
        if noted != self._authority.id:
            with self._store.write() as connection:
                authorities.shows(connection, self._manager_id, self._authority.id)
        return former != self._restore

    def _admit(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: Any) -> None:
        connection.context = self._newest
