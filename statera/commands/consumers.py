# SPDX-License-Identifier: Apache-2.0
"""Tells secrets which load balancers use them, and when that is over."""

from collections.abc import Callable

from oslo_log import log

from statera.drivers.protocols import Consumers
from statera.errors import DriverError, TryAgain
from statera.store import consumers
from statera.store.consumers import Place, Use
from statera.store.engine import Store
from statera.store.events import Event, is_told, record

LOG = log.getLogger(__name__)

AT_ONCE = 100
START = ("", "")
UNLISTED = "secret_unlisted"

Find = Callable[..., list[Use]]


class Listings:
    """Of any number of these looks any number may run at once; each use is told in the end what is true of it."""

    def __init__(self, store: Store, secrets: Consumers) -> None:
        self.store = store
        self.secrets = secrets
        self._after: dict[str, Place] = {}

    def look(self) -> None:
        """Tell the next few; what cannot be told now is tried again at a later look, and no load balancer waits."""
        for use in self._next("over", consumers.outdated):
            try:
                self.secrets.dismiss(use.ref, use.load_balancer_id)
            except DriverError as error:
                LOG.warning("housekeeping: %s still lists load balancer %s: %s", use.ref, use.load_balancer_id, error)
            else:
                with self.store.write() as connection:
                    consumers.forget(connection, use)
        for use in self._next("new", consumers.unlisted):
            self._enlist(use)

    def _enlist(self, use: Use) -> None:
        with self.store.write() as connection:
            consumers.intend(connection, use)
        try:
            self.secrets.enlist(use.ref, use.load_balancer_id)
        except TryAgain as error:
            LOG.warning("housekeeping: %s cannot be told that it is used: %s", use.ref, error)
        except DriverError as error:
            self._tell(use, error)
        else:
            with self.store.write() as connection:
                consumers.note(connection, use)

    def _tell(self, use: Use, error: DriverError) -> None:
        """Say it once for each load balancer and reference."""
        mark = use.ref.rstrip("/")[-36:]
        with self.store.write() as connection:
            if not is_told(connection, use.load_balancer_id, UNLISTED, mark):
                record(connection, Event(
                    load_balancer_id=use.load_balancer_id, reason=UNLISTED, object_type="certificate", object_id=mark,
                    fault="user", message=f"{use.ref} does not show that it is used, and its renewal would not be "
                                          f"seen: {error}"))

    def _next(self, what: str, find: Find) -> list[Use]:
        """A page of them, from behind the last one; after the last page comes the first."""
        with self.store.read() as connection:
            found = find(connection, self._after.get(what, START), limit=AT_ONCE)
        self._after[what] = found[-1].place if len(found) == AT_ONCE else START
        return found
