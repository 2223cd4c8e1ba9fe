# SPDX-License-Identifier: Apache-2.0
"""Answers, inside an amphora's namespace, what Prometheus asks through the load balancer's own listener."""

import asyncio
import os
import socket
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from statera.agent import exposition, namespace
from statera.agent.apply import awake
from statera.agent.exposition import Families
from statera.agent.files import Home
from statera.agent.flows import Enter, Flows
from statera.render import metrics
from statera.wire import Spec

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = aiohttp.ClientTimeout(total=5)


class Metrics:
    """Not for two tasks at once: the amphora's own task calls it."""

    def __init__(self, home: Home, enter: Enter, flows: Flows) -> None:
        self._home = home
        self._enter = enter
        self._flows = flows
        self._spec: Spec | None = None
        self._runner: web.AppRunner | None = None
        self._used = (0.0, 0.0)

    async def follow(self, spec: Spec) -> None:
        """Answer if *spec* has a listener for metrics."""
        self._spec = awake(spec)
        if not metrics.is_wanted(self._spec):
            await self.close()
        elif self._runner is None:
            await self._open()

    async def close(self) -> None:
        """Answer no more; repeating is harmless."""
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    async def _open(self) -> None:
        seconds, _ = await self._usage()
        self._used = time.monotonic(), seconds
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        door = await self._enter(self._listen)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, door).start()

    def _listen(self) -> socket.socket:
        with namespace.inside(self._home.amphora_id):
            return socket.create_server(("127.0.0.1", metrics.PORT))

    async def _answer(self, _request: web.Request) -> web.Response:
        try:
            found = exposition.families(await self._ask_haproxy())
        except aiohttp.ClientError as error:
            raise web.HTTPBadGateway(text=f"HAProxy does not answer: {error}\n") from None
        if self._spec:
            self._add_own(found, self._spec, await self._usage())
            exposition.add_flows(found, self._spec, await self._flows.observe())
        return web.Response(text=exposition.text(found), headers={
            "Cache-Control": "no-cache", "Content-Type": "text/plain; version=0.0.4"})

    async def _ask_haproxy(self) -> str:
        connector = aiohttp.UnixConnector(str(self._home.run / metrics.SOCKET))
        async with (aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session,
                    session.get("http://haproxy/metrics") as answer):
            return await answer.text()

    async def _usage(self) -> tuple[float, int]:
        def act() -> tuple[float, int]:
            return usage(namespace.processes(self._home.amphora_id))

        return await asyncio.to_thread(act)

    def _add_own(self, found: Families, spec: Spec, used_now: tuple[float, int]) -> None:
        (before, used), now, (seconds, pages) = self._used, time.monotonic(), used_now
        self._used = now, seconds
        share = max(0.0, seconds - used) / (now - before) / (os.cpu_count() or 1)
        memory = pages / os.sysconf("SC_PHYS_PAGES")
        for name, value, help_ in (
            ("cpu", share, "Load balancer CPU utilization (percentage)."),
            ("memory", memory, "Load balancer memory utilization (percentage)."),
        ):
            exposition.add(found, f"octavia_loadbalancer_{name}", round(value * 100, 1), help=help_)
        exposition.add(
            found, "octavia_loadbalancer_role", 1, help="The amphora that answers.", role=str(spec.role))


def usage(pids: list[int]) -> tuple[float, int]:
    """Seconds of processor time and pages of memory that these processes have used or use."""
    ticks = pages = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
        pages += int(fields[21])
    return ticks / TICKS, pages
