# SPDX-License-Identifier: Apache-2.0
"""Keeps every connected node told: looks at the store when something may have changed, sends what follows."""

import asyncio
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Protocol, TypeVar

from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from statera.config import HealthManager
from statera.errors import GiveUp
from statera.fleet.ledger import Ledger
from statera.fleet.orders import Orders
from statera.fleet.session import Session
from statera.fleet.specs import build
from statera.fleet.tls import all_uses
from statera.model.tree import LoadBalancer
from statera.store import limits, reports, strays
from statera.store import placements as placed
from statera.store.engine import Store
from statera.store.nodes import overlay_addresses
from statera.store.placements import Placement
from statera.store.secrets import Sealer, of_load_balancer
from statera.store.seen import amphorae_of
from statera.store.trees import load_trees
from statera.wire import SPEC_VERSIONS, Applied, LocalNetwork, Overlay, Put, Roster, encode

LOG = logging.getLogger(__name__)

SWEEP_SECONDS = 10.0
SWEEP_SHARE = 0.02
"""Sweeps take this share of the time at most: the larger the fleet, the rarer they are."""
REST_SECONDS, LONGEST_REST_SECONDS = 0.0002, 1.0
"""The rest after a look: so much for each amphora that was found behind."""
AT_ONCE = 20
"""So many load balancers' specs are read and sent before others have their turn."""

Networks = Callable[[Connection], tuple[LocalNetwork, ...]]
Result = TypeVar("Result")


class Wake(Protocol):
    """Waits until somebody has committed something."""

    def wait(self, timeout_seconds: float) -> bool:
        """True when something may have changed, False when the time is over."""

    def close(self) -> None:
        """End the wait that is under way."""


class Fabric(Struct, frozen=True):
    """What every node is to know: the networks, and by node id where the others take frames of them."""

    networks: tuple[LocalNetwork, ...] = ()
    addresses: Mapping[str, str] = {}

    def around(self, node_id: str) -> Overlay | None:
        """The overlay as this node sees it, None if the others cannot reach it."""
        own = self.addresses.get(node_id)
        others = (address for address in self.addresses.values() if address != own)
        return Overlay(local=own, peers=tuple(sorted(others))) if own else None


class Message(Struct, frozen=True, kw_only=True):
    """An encoded `Put` and where it goes."""

    node_id: str
    amphora_id: str
    version: int
    data: bytes


class Dispatcher:
    """Reads and tells under one lock, so that no node is told older news after newer."""

    def __init__(
        self, store: Store, manager_id: str, settings: HealthManager, *,
        sessions: Mapping[str, Session], ledger: Ledger, networks: Networks, threads: Executor,
        sealer: Sealer | None = None, roots: Callable[[], str] = str,
    ) -> None:
        self._store = store
        self._manager_id = manager_id
        self._settings = settings
        self._roots = roots
        self._sessions = sessions
        self._ledger = ledger
        self._networks = networks
        self._threads = threads
        self._sealer = sealer
        self._lock = asyncio.Lock()
        self._known_fabric = Fabric()
        self._owed: dict[str, None] = {}
        self._owes = asyncio.Event()

    async def run(self, wake: Wake, waiting: Executor, sweep_seconds: float = SWEEP_SECONDS) -> None:
        """Look whenever *wake* says so, and at everything every *sweep_seconds*; *waiting* is its own thread."""
        next_sweep = time.monotonic() + sweep_seconds
        while True:
            left = max(0.0, next_sweep - time.monotonic())
            loop = asyncio.get_running_loop()
            woken = await loop.run_in_executor(waiting, wake.wait, min(1.0, left))
            try:
                if (began := time.monotonic()) >= next_sweep:
                    await self.sweep()
                    next_sweep = began + max(sweep_seconds, (time.monotonic() - began) / SWEEP_SHARE)
                elif woken:
                    found = await self.look()
                    # When much is under way each look is long and each of its outcomes wakes us again.
                    await asyncio.sleep(min(LONGEST_REST_SECONDS, REST_SECONDS * found))
            except SQLAlchemyError as error:
                LOG.warning("cannot look at what nodes are to run: %s", error)
                await asyncio.sleep(0.5)

    async def supply(self) -> None:
        """Send the specs that are owed to nodes, a few at a time, until cancelled."""
        while True:
            await self._owes.wait()
            try:
                async with self._lock:
                    await self._pay()
            except SQLAlchemyError as error:
                LOG.warning("cannot look up what nodes are to run: %s", error)
                await asyncio.sleep(0.5)

    async def welcome(self, session: Session) -> None:
        """Tell a node that has just connected what it is to carry, and take in what it runs.

        The specs that it lacks follow by `supply`: it is not to wait for those, nor others for it.
        """
        async with self._lock:
            mine, fabric, spared = await self._read(lambda connection: (
                mine := placed.on_node(connection, session.node_id), self._fabric(connection),
                strays.spared(connection, session.strangers(mine))))
            for placement in mine:
                self._note_running(session, placement)
            self._note_strays(session, spared)
            self._tell({session: session.everything(mine, spared)}, fabric)

    async def look(self) -> int:
        """Tell nodes what has changed for load balancers with something under way; returns how much that was."""
        if not self._sessions:
            return 0
        async with self._lock:
            found, fabric = await self._read(lambda connection: (
                placed.unsettled(connection, self._manager_id), self._fabric(connection)))
            by_node = _by_node(found)
            concerned = [
                session for session in self._welcomed()
                if session.node_id in by_node or fabric != self._known_fabric]
            self._known_fabric = fabric
            self._tell({session: session.changes(by_node[session.node_id]) for session in concerned}, fabric)
            await self._pay()
        return len(found)

    async def sweep(self) -> None:
        """Compare all that every node was told with the store; end connections that are not ours any more."""
        async with self._lock:
            welcomed = self._welcomed()
            by_node, nodes, fabric, spared = await self._read(lambda connection: (
                by_node := _by_node(placed.held(connection, self._manager_id)),
                placed.held_nodes(connection, self._manager_id), self._fabric(connection),
                {session: strays.spared(connection, session.strangers(by_node[session.node_id]))
                 for session in welcomed}))
            ours = [session for session in welcomed if session.node_id in nodes]
            for session in ours:
                self._note_strays(session, spared[session])
            self._tell({
                session: session.everything(by_node[session.node_id], spared[session]) for session in ours}, fabric)
            await self._pay()
        self._ledger.note(("", self._manager_id, "vouch"), partial(reports.vouch, manager_id=self._manager_id))
        for session in set(welcomed) - set(ours):
            session.close("this node is removed or connected elsewhere")

    def _welcomed(self) -> list[Session]:
        return [session for session in self._sessions.values() if session.is_welcomed]

    def _fabric(self, connection: Connection) -> Fabric:
        return Fabric(self._networks(connection), overlay_addresses(connection))

    def _tell(self, orders: Mapping[Session, Orders], fabric: Fabric) -> None:
        """Tell nodes what they are to carry, and owe them the specs that they lack."""
        for session, order in orders.items():
            session.tell(Roster(
                amphorae=tuple(sorted(order.amphorae)), networks=fabric.networks,
                overlay=fabric.around(session.node_id),
                report_seconds=self._settings.report_seconds, beat_seconds=self._settings.beat_seconds,
                roots=self._roots(),
            ))
            for amphora_id in order.gone:
                self.note_gone(session, amphora_id)
            if order.behind and self._is_able(session, order):
                self._owe(order.behind)

    def _owe(self, load_balancer_ids: Iterable[str]) -> None:
        for lb_id in load_balancer_ids:
            self._owed.pop(lb_id, None)
            self._owed[lb_id] = None
            self._owes.set()

    async def _pay(self) -> None:
        """Send specs of the few load balancers that came last: who changes something now waits for nobody else."""
        chosen = list(itertools.islice(reversed(self._owed), AT_ONCE))
        able = {session.node_id: session for session in self._welcomed() if _reads_our_specs(session)}
        messages = await self._read(partial(
            _messages, load_balancer_ids=chosen, node_ids=able.keys(), sealer=self._sealer)) if chosen else []
        for message in messages:
            if message.amphora_id in able[message.node_id].placed:
                able[message.node_id].put(message.amphora_id, message.version, message.data)
        for lb_id in chosen:
            del self._owed[lb_id]
        if not self._owed:
            self._owes.clear()

    def _note_strays(self, session: Session, spared: frozenset[str]) -> None:
        if spared != session.strays:
            session.strays = spared
            self._ledger.note(("", session.node_id, "strays"), partial(
                strays.note, node_id=session.node_id, strays=sorted(spared)))

    def note_gone(self, session: Session, amphora_id: str) -> None:
        session.went(amphora_id)
        key = (session.placed[amphora_id], amphora_id, "gone")
        self._ledger.note(key, partial(reports.gone, node_id=session.node_id, amphora_id=amphora_id))

    def note_applied(self, session: Session, fact: Applied) -> None:
        outcome = "applied" if fact.failure is None else "failed"
        key = (session.placed[fact.amphora_id], fact.amphora_id, outcome)
        self._ledger.note(key, partial(reports.applied, node_id=session.node_id, fact=fact))

    def _note_running(self, session: Session, placement: Placement) -> None:
        """What the node says it runs counts as applied: the message that said so may have been lost."""
        running = session.runs.get(placement.amphora_id, 0)
        session.placed[placement.amphora_id] = placement.load_balancer_id
        if running > placement.applied_version:
            self.note_applied(session, Applied(amphora_id=placement.amphora_id, version=running))

    def _is_able(self, session: Session, order: Orders) -> bool:
        """Whether the node's agent reads our specs; if not, its load balancers say so."""
        if _reads_our_specs(session):
            return True
        failure = (
            f"the agent {session.hello.agent_version} on {session.hello.hostname} is too old for this"
            f" load balancer (spec version {SPEC_VERSIONS[0]}); update it"
        )
        for amphora_id, lb_id in session.placed.items():
            if lb_id in order.behind:
                key = (lb_id, amphora_id, "unreadable")
                self._ledger.note(key, partial(
                    reports.unreadable, node_id=session.node_id, amphora_id=amphora_id, failure=failure))
        return False

    async def _read(self, look: Callable[[Connection], Result]) -> Result:
        def read() -> Result:
            with self._store.read() as connection:
                return look(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, read)


def _reads_our_specs(session: Session) -> bool:
    return SPEC_VERSIONS[0] in session.hello.spec_versions


def _by_node(found: Sequence[Placement]) -> defaultdict[str, list[Placement]]:
    by_node: defaultdict[str, list[Placement]] = defaultdict(list)
    for placement in found:
        by_node[placement.node_id].append(placement)
    return by_node


def _messages(
    connection: Connection, *, load_balancer_ids: Collection[str], node_ids: Collection[str], sealer: Sealer | None
) -> list[Message]:
    """The newest specs of the load balancers' amphorae on the nodes, encoded."""
    messages = []
    amphorae = amphorae_of(connection, load_balancer_ids)
    for lb in load_trees(connection, load_balancer_ids):
        everyone = amphorae[lb.id]
        opened = _opened(connection, lb, sealer)
        flavor = limits.of_flavor(connection, lb.flavor_id)
        for amphora in everyone:
            if amphora.node_id in node_ids and amphora.ports and not amphora.leaving:
                data = encode(Put(spec=build(lb, amphora, everyone, secrets=opened, limits=flavor)))
                messages.append(Message(
                    node_id=str(amphora.node_id), amphora_id=amphora.id, version=lb.version, data=data))
    return messages


def _opened(connection: Connection, lb: LoadBalancer, sealer: Sealer | None) -> dict[str, str]:
    """What the load balancer's references hold; one that cannot be opened is left out, and its amphorae say so."""
    if sealer is None or not any(all_uses(lb.listeners, lb.pools)):
        return {}
    try:
        sealed = of_load_balancer(connection, lb.id)
        return {ref: sealer.open(secret).decode() for ref, secret in sealed.items()}
    except GiveUp as error:
        LOG.error("load balancer %s: %s", lb.id, error)
        return {}
