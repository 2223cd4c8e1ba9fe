# SPDX-License-Identifier: Apache-2.0
"""This node's connection to a health manager: keeps one up, takes goals from it, tells it what happens here."""

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import cycle
from typing import Literal, Protocol, TypeAlias

import aiohttp
import msgspec
from aiohttp import WSMsgType

from statera import __version__, metrics
from statera.agent.identity import Identity
from statera.agent.outbox import Outbox
from statera.config import Settings
from statera.errors import SetupError
from statera.wire import Beat, Certificate, Down, Hello, Put, Renew, Roster, Spec, Up, decode_down, encode

LOG = logging.getLogger(__name__)

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 2.0
CONNECT_SECONDS = 10.0
REFRESH_SECONDS = 30.0
"""How often everything is said again, in case anything was lost on either side."""
MAX_MESSAGE_BYTES = 64 * 2**20

RENEWAL_SECONDS = 10.0
"""How long to wait for a new certificate before asking again."""

Socket: TypeAlias = aiohttp.ClientWebSocketResponse[Literal[False]]

FAILURES = (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, SetupError)


class Host(Protocol):
    """What the link needs of `agent.host.Host`."""

    def running(self) -> dict[str, int]: ...
    async def roster(self, roster: Roster) -> None: ...
    async def put(self, spec: Spec) -> None: ...
    async def full_report(self) -> None: ...


class Link:
    """*outbox* is where *host* puts what it has to say."""

    def __init__(self, settings: Settings, identity: Identity, host: Host, outbox: Outbox) -> None:
        # Nodes begin anywhere, so that no health manager gets all of them.
        self._endpoints = cycle(random.sample(settings.agent.endpoints, len(settings.agent.endpoints)))
        self._identity = identity
        self._host = host
        self._outbox = outbox
        self._beat_seconds = settings.health_manager.beat_seconds
        self._overlay_ip = settings.agent.overlay_ip
        self._welcomed = False
        self._renewed = asyncio.Event()
        self._learned = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until cancelled, whatever happens on the way; the same trouble is told of once."""
        delay, told = FIRST_RETRY_SECONDS, ""
        async with aiohttp.ClientSession() as client:
            while True:
                endpoint, self._welcomed = next(self._endpoints), False
                outcome = await self._attempt(client, endpoint)
                metrics.LINK_UP.set(0)
                if self._welcomed or outcome != told:
                    LOG.warning("%s", outcome)
                told = outcome
                delay = FIRST_RETRY_SECONDS if self._welcomed else min(delay * 2, LAST_RETRY_SECONDS)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def _attempt(self, client: aiohttp.ClientSession, endpoint: str) -> str:
        """Be connected as long as it lasts, and say why it ended."""
        try:
            await self._connection(client, endpoint)
        except FAILURES as error:
            return f"no connection with {endpoint}: {_gist(error)}"
        return f"{endpoint} ended the connection"

    async def _connection(self, client: aiohttp.ClientSession, endpoint: str) -> None:
        tls = self._identity.tls_context()
        async with asyncio.timeout(CONNECT_SECONDS):
            connecting = await client.ws_connect(
                f"wss://{endpoint}/v1/link", ssl=tls, compress=0, max_msg_size=MAX_MESSAGE_BYTES,
                heartbeat=2 * self._beat_seconds, decode_text=False)
        async with connecting as ws:
            self._outbox.drop_reports()
            await self._say(ws, Hello(
                agent_version=__version__, hostname=socket.gethostname(), running=self._host.running(),
                trusts=self._identity.trusts,
                overlay_ip=self._overlay_ip or reachable(ws.get_extra_info("sockname"))))
            goals: asyncio.Queue[Down] = asyncio.Queue()
            await _until_first_ends(
                self._listen(ws, goals), self._follow(goals), self._speak(ws), self._refresh(), self._renew())

    async def _listen(self, ws: Socket, goals: asyncio.Queue[Down]) -> None:
        async for frame in ws:
            if frame.type is WSMsgType.TEXT:
                goals.put_nowait(decode_down(frame.data))

    async def _follow(self, goals: asyncio.Queue[Down]) -> None:
        while True:
            await self._obey(await goals.get())

    async def _obey(self, message: Down) -> None:
        match message:
            case Roster():
                if not self._welcomed:
                    LOG.info("connected: this node carries %d amphorae", len(message.amphorae))
                self._welcomed = True
                metrics.LINK_UP.set(1)
                metrics.AMPHORAE.set(len(message.amphorae))
                self._beat_seconds = message.beat_seconds
                self._learn(message.roots)
                await self._host.roster(message)
            case Put():
                await self._host.put(message.spec)
            case Certificate():
                await asyncio.to_thread(self._identity.keep, message)
                self._renewed.set()
                LOG.info("this node's certificate is good until %s", self._identity.expires_at)

    async def _speak(self, ws: Socket) -> None:
        while True:
            try:
                async with asyncio.timeout(self._beat_seconds):
                    message = await self._outbox.take()
            except TimeoutError:
                message = Beat()
            await self._say(ws, message)

    async def _refresh(self) -> None:
        while True:
            await self._host.full_report()
            await asyncio.sleep(REFRESH_SECONDS * random.uniform(0.8, 1.2))

    def _learn(self, roots: str) -> None:
        if roots and self._identity.learn(roots):
            LOG.info("this node trusts %d authorities now", len(self._identity.trusts))
            self._learned.set()

    async def _renew(self) -> None:
        """Ask for a certificate when it is time, and when there is news of authorities, for that says that we heard."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._identity.renewal_seconds(datetime.now(UTC))):
                    await self._learned.wait()
            await asyncio.sleep(random.uniform(0.2, 1.0))
            self._learned.clear()
            self._renewed.clear()
            self._outbox.put(Renew(csr=await asyncio.to_thread(self._identity.csr), trusts=self._identity.trusts))
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEWAL_SECONDS):
                    await self._renewed.wait()

    @staticmethod
    async def _say(ws: Socket, message: Up) -> None:
        await ws.send_frame(encode(message), WSMsgType.TEXT)


def reachable(sockname: Sequence[object]) -> str | None:
    """The address of our end of the link, if other hosts can reach it too."""
    address = ipaddress.ip_address(str(sockname[0]).partition("%")[0])
    return None if address.is_loopback or address.is_link_local else str(address)


def _gist(error: Exception) -> str:
    """What went wrong; aiohttp's own words for a refused connection are mostly about its TLS context."""
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        return error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__


async def _until_first_ends(*works: Awaitable[None]) -> None:
    """Return or raise as the first of *works* does, and end the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
