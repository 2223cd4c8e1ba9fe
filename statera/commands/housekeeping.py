# SPDX-License-Identifier: Apache-2.0
"""octavia-housekeeping: the end of what is no longer of use, a small bite at a time."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from oslo_config import cfg
from oslo_log import log
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from statera import metrics
from statera.commands import build, orphans, start
from statera.commands.consumers import Listings
from statera.commands.metrics import Look
from statera.commands.orphans import Orphans, Source
from statera.commands.renewals import START, Renewals
from statera.commands.spares import Pool
from statera.config import HouseKeeping, Settings
from statera.errors import DriverError
from statera.model.authorities import Wait
from statera.store import authorities, strays, sweep
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.measures import tenants
from statera.store.migrations import await_schema

LOG = log.getLogger(__name__)
Purge = Callable[[Connection], int]


def main() -> None:
    start.run("octavia-housekeeping", serve)


def serve(settings: Settings, conf: cfg.ConfigOpts) -> None:
    """Tidy every `cleanup_interval` seconds until a signal says stop."""
    stop = start.stop_signal()
    store = build.open_store(settings)
    await_schema(store, stop.wait)
    sources: list[Source] = [build.network(settings, store), build.compute(settings, store)]
    collector = Collector(store, sources, settings.house_keeping)
    pool = pool_of(settings, store)
    renewals, place = renewals_of(settings, store), START
    consumers = build.secret_consumers(settings)
    listings = Listings(store, consumers) if consumers else None
    metrics.serve(settings.metrics, "housekeeping", Look(store, tenants))
    while not stop.is_set():
        try:
            tidy(store, settings.house_keeping, stop)
            collector.round(time.monotonic())
            place = renewals.look(place) if renewals else START
            if listings:
                listings.look()
            pool.round()
            exchange_authorities(store)
            warn_of_expiry(store, settings.house_keeping.certificate_warning_days)
        except (SQLAlchemyError, DriverError) as error:
            LOG.error("this round of housekeeping failed, the next will try again: %s", error)
        stop.wait(settings.house_keeping.cleanup_interval)
    store.close()


def pool_of(settings: Settings, store: Store) -> Pool:
    """Who keeps machines ready."""
    return Pool(store, build.compute(settings, store), size=settings.house_keeping.spare_amphora_pool_size,
                per_minute=settings.controller_worker.replacements_per_minute, now=time.monotonic)


def renewals_of(settings: Settings, store: Store) -> Renewals | None:
    """Who looks after secrets; None where nobody keeps any."""
    secrets, sealer = build.secrets(settings, store), build.sealer(settings)
    return Renewals(store, secrets, sealer) if secrets and sealer else None


def tidy(store: Store, settings: HouseKeeping, stop: threading.Event) -> None:
    """Remove every row that is old enough, in small transactions."""
    for what, purge in purges(settings).items():
        removed = 0
        while not stop.is_set():
            with store.write() as connection:
                bite = purge(connection)
            removed += bite
            metrics.PURGED.labels(what).inc(bite)
            if bite < sweep.ROWS_AT_ONCE:
                break
        if removed:
            LOG.info("housekeeping: removed %d %s", removed, what)


def purges(settings: HouseKeeping) -> dict[str, Purge]:
    """What is removed and how; ages count from when a purge runs."""
    return {
        "deleted load balancers": lambda c: sweep.purge_load_balancers(c, _ago(settings.load_balancer_expiry_age)),
        "amphorae that are gone": lambda c: sweep.purge_amphorae(c, _ago(settings.amphora_expiry_age)),
        "old events": lambda c: sweep.purge_events(c, _ago(settings.event_expiry_age)),
        "expired node tokens": sweep.purge_tokens,
        "old answers of creations": sweep.purge_idempotency_keys,
    }


class Collector:
    """Finds what nothing owns any more outside; what two looks in a row found is released, or only told."""

    def __init__(self, store: Store, sources: Sequence[Source], settings: HouseKeeping) -> None:
        self._store, self._sources, self._settings = store, sources, settings
        self._looked_at = float("-inf")
        self.suspects: Orphans = frozenset()

    def round(self, now: float) -> None:
        """Look if it is time; *now* is monotonic. Raise `DriverError`.

        While nodes may keep what the database does not know, that may use what seems to have no owner.
        """
        if now - self._looked_at < self._settings.orphan_interval or self._spares():
            return
        self._looked_at = now
        found = orphans.look(self._store, self._sources)
        metrics.ORPHANS.set(len(found))
        sure, self.suspects = found & self.suspects, found
        if not self._settings.release_orphans:
            for orphan in sure:
                LOG.warning("housekeeping: %s %s (%s) has no owner; `statera orphans --release` removes it",
                            orphan.thing.kind, orphan.thing.id, orphan.thing.name)
            return
        self.suspects = found - sure
        for sentence in orphans.let_go(sure):
            LOG.warning("housekeeping: %s", sentence)

    def _spares(self) -> bool:
        with self._store.read() as connection:
            return strays.grace_seconds(connection) > 0


def exchange_authorities(store: Store) -> None:
    """Go on with an exchange of certificate authorities, if one is under way, as far as that is possible now."""
    while True:
        with store.read() as connection:
            if len(authorities.trusted(connection)) < 2:
                return
        with store.write() as connection:
            step = authorities.advance(connection)
        if step is None or isinstance(step, Wait):
            return
        LOG.info("housekeeping: certificate authorities: %s", step)


def warn_of_expiry(store: Store, days: int) -> None:
    """An event for each certificate in use that runs out within so many days; repeating says nothing again."""
    with store.read() as connection:
        found = sweep.expiring(connection, utc_now() + timedelta(days=days))
    if found:
        with store.write() as connection:
            for expiry in found:
                sweep.tell_expiry(connection, expiry)


def _ago(seconds: float) -> datetime:
    return utc_now() - timedelta(seconds=seconds)
