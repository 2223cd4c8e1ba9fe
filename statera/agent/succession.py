# SPDX-License-Identifier: Apache-2.0
"""One amphora after another: the new one tells those before it to step back, and an old one heeds that.

A node that was cut off goes on serving, as it should, but others may have taken its amphorae's places. The
health managers cannot reach it; on the VIP's own network the successor can. Who knows an amphora's id, which
is random and told to nobody else, may tell it.
"""

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from statera.agent import namespace
from statera.agent.announce import announce
from statera.agent.files import Home, write
from statera.agent.flows import Enter
from statera.model.fleet import Role
from statera.model.guard import SUCCESSION_PORT
from statera.wire import Spec

FIRST_SECONDS, LAST_SECONDS = 0.2, 5.0
WORDS = b"statera step back "

_log = logging.getLogger(__name__)


class Succession:
    """*step_back* is called when a successor says so; until `forgive`, also by an agent that comes later, it holds."""

    def __init__(self, home: Home, enter: Enter, step_back: Callable[[], Awaitable[None]]) -> None:
        self._home = home
        self._enter = enter
        self._step_back = step_back
        self._listening: tuple[str, int | None] | None = None
        self._socket: socket.socket | None = None
        self._spec: Spec | None = None
        self._task: asyncio.Task[None] | None = None
        self._stepping: asyncio.Future[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether another one has this amphora's place."""
        return self._home.superseded.exists()

    def forgive(self) -> None:
        """A health manager wants this amphora after all."""
        self._home.superseded.unlink(missing_ok=True)

    async def follow(self, spec: Spec) -> None:
        """Listen at the amphora's own address, and tell the spec's predecessors as long as it names any."""
        address = spec.interfaces[0].addresses[0].ip
        place = (address, namespace.inode(spec.amphora_id))
        if place != self._listening:
            self.close()
            try:
                self._socket = await self._enter(functools.partial(bind, spec.amphora_id, address))
            except OSError as error:
                _log.warning("amphora %s cannot listen for a successor yet: %s", spec.amphora_id, error)
                return
            asyncio.get_running_loop().add_reader(self._socket, self._hear, self._socket)
            self._listening = place
        known, self._spec = self._spec, spec
        if spec.predecessors and (known is None or known.predecessors != spec.predecessors):
            self._cancel()
            self._task = asyncio.create_task(self._tell(), name=f"successor {spec.amphora_id}")

    def close(self) -> None:
        """Neither tell nor listen; repeating is harmless."""
        self._cancel()
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = self._listening = None

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()
        self._task = None

    async def _tell(self) -> None:
        pause = FIRST_SECONDS
        while (spec := self._spec) and spec.predecessors and self._socket:
            for one in spec.predecessors:
                try:
                    self._socket.sendto(WORDS + one.amphora_id.encode(), (one.ip, SUCCESSION_PORT))
                except OSError as error:
                    _log.info("amphora %s does not reach %s: %s", spec.amphora_id, one.ip, error)
            await asyncio.sleep(pause)
            if pause < LAST_SECONDS and spec.role is Role.STANDALONE:
                await self._enter(functools.partial(claim, spec))
            pause = min(pause * 2, LAST_SECONDS)

    def _hear(self, listening: socket.socket) -> None:
        try:
            said, sender = listening.recvfrom(256)
        except OSError:
            return
        if said != WORDS + self._home.amphora_id.encode() or self.is_over:
            return
        _log.warning("amphora %s steps back: %s has taken its place", self._home.amphora_id, sender[0])
        write(self._home.superseded, b"", durable=True)
        self._stepping = asyncio.ensure_future(self._step_back())


def bind(amphora_id: str, address: str) -> socket.socket:
    """A datagram socket in the amphora's namespace. Raise `OSError`."""
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    with namespace.inside(amphora_id):
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.bind((address, SUCCESSION_PORT))
    except OSError:
        made.close()
        raise
    return made


def claim(spec: Spec) -> None:
    """Tell the neighbours again that the VIPs are here: the other may have answered meanwhile."""
    with namespace.inside(spec.amphora_id):
        for vip in spec.vips:
            announce(spec.interfaces[0].name, ip_address(vip.ip))
