# SPDX-License-Identifier: Apache-2.0
"""Where nodes connect by mutual TLS: `GET /v1/link`, and before that `GET /v1/roots` and `POST /v1/join`."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from sqlalchemy.exc import SQLAlchemyError

from statera.fleet.authority import Authority
from statera.fleet.ca import BadRequestToSign
from statera.fleet.dispatch import Dispatcher
from statera.fleet.enrolment import join
from statera.fleet.intake import BadMessage, Intake
from statera.fleet.session import Session
from statera.store import nodes, reports
from statera.store.engine import Store
from statera.wire import Hello, Join, decode_up, encode

LOG = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
MAX_MESSAGE_BYTES = 8 * 2**20
MAX_JOIN_BYTES = 2**16

Result = TypeVar("Result")


class Endpoint:
    """The HTTP side; what nodes say goes to *intake*, what they are told comes from *dispatcher*.

    *departed* learns of each node that is not connected any more, and when it was last heard.
    """

    def __init__(
        self, store: Store, manager_id: str, *, authority: Authority, certificate_days: float,
        sessions: dict[str, Session], dispatcher: Dispatcher, intake: Intake, threads: Executor,
        departed: Callable[[str, float], None],
    ) -> None:
        self._store = store
        self._manager_id = manager_id
        self._authority = authority
        self._certificate_days = certificate_days
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._intake = intake
        self._threads = threads
        self._departed = departed
        self.app = web.Application(client_max_size=MAX_JOIN_BYTES)
        self.app.add_routes([
            web.get("/v1/link", self.link), web.post("/v1/join", self.join), web.get("/v1/roots", self.roots)])

    async def roots(self, _request: web.Request) -> web.Response:
        """Our roots, for a node that is about to join and knows a fingerprint."""
        return web.Response(text=self._authority.roots, content_type="application/x-pem-file")

    async def join(self, request: web.Request) -> web.Response:
        """Swap a one-time token and a certificate request for a certificate."""
        try:
            wanted = msgspec.json.decode(await request.read(), type=Join)
            joined = await self._in_thread(partial(
                join, self._store, self._authority, wanted, self._certificate_days))
        except msgspec.MsgspecError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        except (nodes.Refused, BadRequestToSign) as error:
            LOG.warning("%s may not join: %s", request.remote, error)
            raise web.HTTPForbidden(text=str(error)) from error
        except SQLAlchemyError as error:
            LOG.warning("nobody can join now: %s", error)
            raise web.HTTPServiceUnavailable(text="the database is away, try again") from error
        LOG.info("node %s joined as %s", wanted.name, joined.node_id)
        return web.Response(body=encode(joined), content_type="application/json")

    async def link(self, request: web.Request) -> web.StreamResponse:
        """A node's connection, for as long as it lasts."""
        node_id = _node_id(request)
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE_BYTES, decode_text=False)
        if not socket.can_prepare(request):
            raise web.HTTPBadRequest(text="this is where nodes open a WebSocket")
        if not await self._is_enrolled(node_id):
            LOG.warning("%s shows the certificate of node %s, which is not enrolled", request.remote, node_id)
            raise web.HTTPForbidden(text="this node is not enrolled (any more)")
        try:
            await socket.prepare(request)
            async with asyncio.timeout(HELLO_SECONDS):
                hello = _hello(await socket.receive_str())
            await self._serve(Session(node_id, socket, hello, time.monotonic()), socket)
        except (BadMessage, BadRequestToSign, msgspec.MsgspecError, TypeError, TimeoutError) as error:
            LOG.warning("node %s broke the protocol: %s", node_id, error)
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
        except ConnectionError as error:
            LOG.info("node %s went away: %s", node_id, error)
        except SQLAlchemyError as error:
            LOG.warning("node %s is sent away, the database fails: %s", node_id, error)
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
        return socket

    async def _serve(self, session: Session, socket: web.WebSocketResponse) -> None:
        older = self._sessions.get(session.node_id)
        self._sessions[session.node_id] = session
        sender = asyncio.create_task(session.deliver())
        welcoming = asyncio.create_task(self._welcome(session))
        listening = asyncio.create_task(self._listen(session, socket))
        try:
            if older is not None:
                older.close("this node connected again")
            await asyncio.wait({welcoming, listening}, return_when=asyncio.FIRST_COMPLETED)
            if welcoming.done():
                welcoming.result()
            await listening
        finally:
            for task in (sender, welcoming, listening):
                task.cancel()
            await asyncio.gather(sender, welcoming, listening, return_exceptions=True)
            self._intake.forget(session)
            if self._sessions.get(session.node_id) is session:
                del self._sessions[session.node_id]
                self._departed(session.node_id, session.heard_at)
            LOG.info("the connection of node %s is over", session.node_id)

    async def _welcome(self, session: Session) -> None:
        """Meanwhile the node is listened to: one whose pings nobody answers gives up, and comes again, and again."""
        if not await self._in_thread(partial(self._connected, session)):
            raise BadMessage("not enrolled any more")
        await self._dispatcher.welcome(session)
        LOG.info("node %s (%s) connected", session.node_id, session.hello.hostname)
        early, session.early = session.early, []
        for message in early:
            self._intake.take(session, message)

    async def _listen(self, session: Session, socket: web.WebSocketResponse) -> None:
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                raise BadMessage("not a text frame")
            session.heard_at = time.monotonic()
            message = decode_up(frame.data)
            if session.is_welcomed:
                self._intake.take(session, message)
            else:
                session.early.append(message)

    def _connected(self, session: Session) -> bool:
        with self._store.write() as connection:
            return reports.connected(connection, self._manager_id, session.node_id, session.hello)

    async def _is_enrolled(self, node_id: str) -> bool:
        def look() -> bool:
            with self._store.read() as connection:
                return nodes.is_enrolled(connection, node_id)

        try:
            return await self._in_thread(look)
        except SQLAlchemyError as error:
            raise web.HTTPServiceUnavailable(text="the database is away, try again") from error

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _node_id(request: web.Request) -> str:
    """The name in the client's certificate, which TLS has verified; 403 without one."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    names = [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1:
        raise web.HTTPForbidden(text="a node's certificate is needed here")
    return str(names[0])


def _hello(data: bytes | str) -> Hello:
    message = decode_up(data)
    if not isinstance(message, Hello):
        raise BadMessage("the first message is not a hello")
    return message
