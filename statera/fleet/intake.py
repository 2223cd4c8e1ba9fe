# SPDX-License-Identifier: Apache-2.0
"""Takes in what nodes say: each message becomes a fact to write, or nothing when it holds nothing new."""

import asyncio
import logging
import time
from functools import partial

from statera import metrics
from statera.fleet.authority import Authority
from statera.fleet.dispatch import Dispatcher
from statera.fleet.enrolment import renew
from statera.fleet.ledger import Ledger
from statera.fleet.session import Session
from statera.fleet.words import Totals, fold
from statera.model.health import Words
from statera.store import health
from statera.wire import Applied, Beat, Gone, Hello, Renew, Report, Up

LOG = logging.getLogger(__name__)

TOTALS_SECONDS = 5.0
"""An amphora's traffic totals are stored this often at most."""


class BadMessage(Exception):
    """The node broke the protocol; its connection ends."""


class Intake:
    """One for all nodes; everything but the writing happens on the event loop."""

    def __init__(
        self, manager_id: str, dispatcher: Dispatcher, ledger: Ledger, authority: Authority, certificate_days: float,
        totals_seconds: float = TOTALS_SECONDS,
    ) -> None:
        self._manager_id = manager_id
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._authority = authority
        self._certificate_days = certificate_days
        self._totals = Totals(totals_seconds)

    def take(self, session: Session, message: Up) -> None:
        """Take in one message; a node is not listened to about amphorae that it does not carry.

        Raise `BadMessage` when the message has no place here.
        """
        metrics.MESSAGES.labels(type(message).__name__.lower()).inc()
        match message:
            case Beat():
                pass
            case Report() if message.amphora_id in session.placed:
                self._report(session, message)
            case Applied() if message.amphora_id in session.placed:
                self._applied(session, message)
            case Gone() if message.amphora_id in session.placed:
                self._dispatcher.note_gone(session, message.amphora_id)
            case Gone():
                session.went(message.amphora_id)
            case Report() | Applied():
                LOG.info("node %s speaks of amphora %s, which is not on it", session.node_id, message.amphora_id)
            case Renew():
                session.send(renew(self._authority, self._ledger, session.node_id, message, self._certificate_days))
            case Hello():
                raise BadMessage("a second hello")

    def forget(self, session: Session) -> None:
        """The connection is over; the next one begins with full reports."""
        for amphora_id in session.placed:
            self._totals.forget(amphora_id)

    async def store_totals(self, every_seconds: float = 1.0) -> None:
        """Store traffic totals as they fall due, until cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            totals = self._totals.take(time.monotonic())
            if totals:
                self._ledger.note(("~totals", str(time.monotonic())), partial(health.save_statistics, totals=totals))

    def _applied(self, session: Session, fact: Applied) -> None:
        said = (fact.version, fact.failure)
        if fact.failure is not None and session.failures.get(fact.amphora_id) == said:
            return
        if fact.failure is not None or fact.version > session.stored.get(fact.amphora_id, 0):
            self._dispatcher.note_applied(session, fact)
        session.failures[fact.amphora_id] = said
        if fact.failure is None:
            session.runs[fact.amphora_id] = fact.version
            self._note(session, fact.amphora_id)  # an object that went may have been what ailed its pool

    def _report(self, session: Session, report: Report) -> None:
        if report.counters:
            self._totals.note(report.amphora_id, report.counters, time.monotonic())
        known = session.words.get(report.amphora_id)
        words = fold(known or Words(), report, session.runs.get(report.amphora_id, 0))
        if words is not known:
            session.words[report.amphora_id] = words
            self._note(session, report.amphora_id)

    def _note(self, session: Session, amphora_id: str) -> None:
        key = (session.placed[amphora_id], amphora_id, "words")
        words = session.words.get(amphora_id, Words())
        self._ledger.note(key, health.Said(
            manager_id=self._manager_id, node_id=session.node_id, amphora_id=amphora_id, words=words))
