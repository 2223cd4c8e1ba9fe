# SPDX-License-Identifier: Apache-2.0
"""One node's connection: what it was told, what it runs, what waits to be sent."""

import asyncio
from collections.abc import Sequence

from aiohttp import WSCloseCode, WSMsgType, web

from statera import metrics
from statera.fleet.orders import Orders, orders
from statera.model.health import Words
from statera.store.placements import Placement
from statera.wire import Hello, Roster, Up, encode


class Session:
    """Belongs to the event loop. *heard_at* is the loop's time of the node's last message.

    *placed* says whose each amphora on the node is, *stored* which version the store says it runs, *early* what the
    node said before it was welcome.
    """

    def __init__(self, node_id: str, socket: web.WebSocketResponse, hello: Hello, heard_at: float) -> None:
        self.node_id = node_id
        self.hello = hello
        self.heard_at = heard_at
        self.runs = dict(hello.running)
        self.placed: dict[str, str] = {}
        self.stored: dict[str, int] = {}
        self.early: list[Up] = []
        self.words: dict[str, Words] = {}
        self.failures: dict[str, tuple[int, str | None]] = {}
        self.strays: frozenset[str] = frozenset()
        self._sent = dict(hello.running)
        self._carries = set(hello.running)
        self._told: Roster | None = None
        self._socket = socket
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._closing: asyncio.Task[bool] | None = None

    @property
    def is_welcomed(self) -> bool:
        """Whether the node was told the whole roster once; before that, news would make it drop the rest."""
        return self._told is not None

    def strangers(self, placements: Sequence[Placement]) -> frozenset[str]:
        """What may exist on the node and is not among its *placements*."""
        return frozenset(self._carries) - {placement.amphora_id for placement in placements}

    def everything(self, placements: Sequence[Placement], spared: frozenset[str] = frozenset()) -> Orders:
        """What to tell the node, given all placements on it and strangers that it may keep."""
        self.placed, self.stored = {}, {}
        self._place(placements)
        self.words = {amphora_id: words for amphora_id, words in self.words.items() if amphora_id in self.placed}
        return orders(placements, told=spared, sent=self._sent, carries=self._carries)

    def changes(self, placements: Sequence[Placement]) -> Orders:
        """What to tell the node, given the placements that may have changed."""
        self._place(placements)
        told = frozenset(self._told.amphorae if self._told else ())
        return orders(placements, told=told, sent=self._sent, carries=self._carries)

    def _place(self, placements: Sequence[Placement]) -> None:
        self.placed.update({placement.amphora_id: placement.load_balancer_id for placement in placements})
        self.stored.update({placement.amphora_id: placement.applied_version for placement in placements})

    def tell(self, roster: Roster) -> None:
        """Send *roster* unless it is what the node was told last."""
        if roster != self._told:
            self._told = roster
            self.send(encode(roster))

    def put(self, amphora_id: str, version: int, message: bytes) -> None:
        """Send a spec, encoded already, unless the node has that version."""
        if self._sent.get(amphora_id) != version:
            self._sent[amphora_id] = version
            self._carries.add(amphora_id)
            metrics.SPECS_SENT.inc()
            self.send(message)

    def went(self, amphora_id: str) -> None:
        """Nothing of the amphora is left on the node."""
        self._carries.discard(amphora_id)
        self._sent.pop(amphora_id, None)
        self.runs.pop(amphora_id, None)

    def send(self, message: bytes) -> None:
        self._outbox.put_nowait(message)

    async def deliver(self) -> None:
        """Send what waits, in order, until cancelled or the connection breaks."""
        while True:
            await self._socket.send_frame(await self._outbox.get(), WSMsgType.TEXT)

    def close(self, why: str, code: int = WSCloseCode.SERVICE_RESTART) -> None:
        """End the connection soon; whoever listens to it notices."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._socket.close(code=code, message=why.encode()))

    async def closed(self) -> None:
        """Return when an end that was begun is complete."""
        if self._closing is not None:
            await self._closing
