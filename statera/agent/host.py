# SPDX-License-Identifier: Apache-2.0
"""All amphorae of this node: takes rosters and specs, gives back what became of them."""

import asyncio
import grp
import logging
import os
import pwd
import resource
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from pyroute2.netlink.exceptions import NetlinkError

from statera.agent import bridges, isolation, overlay, process
from statera.agent.amphora import Amphora
from statera.agent.files import Home, homes, networks_file, overlay_file, write
from statera.agent.logs import Office
from statera.agent.programs import program
from statera.agent.teardown import stored_networks, stored_overlay
from statera.config import Settings
from statera.errors import DriverError, GiveUp, SetupError
from statera.render import gateways
from statera.render.haproxy import Machine
from statera.render.logs import FORMAT, HEADS, Logs
from statera.wire import Applied, LocalNetwork, Overlay, Roster, Spec, Up

MOST_THREADS = 4
FIRST_PASSES_AT_ONCE = 8
REPORTS_AT_ONCE = 64
RESTORE_SECONDS = 30.0
REMOVAL_RETRY_SECONDS = 2.0
STOP_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Host:
    """*emit* gets `Applied`, `Gone` and `Report`; what it cannot deliver it may drop, `full_report` makes up for it."""

    def __init__(self, settings: Settings, state: Path, emit: Callable[[Up], None]) -> None:
        self._settings = settings
        self._state = state
        self._emit = emit
        self._netlink = ThreadPoolExecutor(1, "netlink")
        self._gate = asyncio.Semaphore(FIRST_PASSES_AT_ONCE)
        self._amphorae: dict[str, Amphora] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._networks: tuple[LocalNetwork, ...] = ()
        self._unwanted: tuple[LocalNetwork, ...] = ()
        self._overlay: Overlay | None = None
        self._networks_stand = False
        self._cleaning: asyncio.Task[None] | None = None
        self._report_seconds = settings.health_manager.report_seconds
        self._reporting: asyncio.Task[None] | None = None
        self._machine: Machine | None = None
        self._office = Office(settings.amphora_agent)

    async def start(self) -> None:
        """Adopt what an earlier agent left running and restore what does not run, from the disk alone.

        Returns when each amphora was tried once, or half a minute is over; the rest goes on behind. Raise
        `SetupError` when this host cannot carry amphorae.
        """
        self._machine = machine_of(self._settings)
        _log.info("this host's limit of open files allows %d connections of an amphora", self._machine.most_connections)
        self._office.relay.start()
        self._networks, self._overlay = stored_networks(self._state), stored_overlay(self._state)
        await self._ensure_networks()
        for home in homes(self._state):
            self._restore(home)
        tries = [asyncio.create_task(amphora.tried.wait()) for amphora in self._amphorae.values()]
        if tries:
            await asyncio.wait(tries, timeout=RESTORE_SECONDS)
        self._reporting = asyncio.create_task(self._report_for_ever(), name="reports")

    def running(self) -> dict[str, int]:
        """Each amphora of this node with the version that it runs; 0 for one that does not run yet or no more."""
        leaving = dict.fromkeys(self._leaving, 0)
        return leaving | {amphora_id: amphora.version for amphora_id, amphora in self._amphorae.items()}

    async def roster(self, roster: Roster) -> None:
        """Carry these amphorae and networks and no others; what must go is removed behind and reported `Gone`."""
        self._report_seconds = roster.report_seconds
        strangers = [amphora_id for amphora_id in self._amphorae if amphora_id not in roster.amphorae]
        for amphora_id in strangers:
            self._leaving[amphora_id] = asyncio.create_task(self._remove(self._amphorae.pop(amphora_id)))
        await self._carry(roster.networks, roster.overlay)

    async def put(self, spec: Spec) -> None:
        """Bring an amphora to this spec, behind; `Applied` says when, or why not (then it is retried)."""
        try:
            amphora = await self._amphora(spec.amphora_id)
            amphora.put(spec)
        except (DriverError, OSError) as error:
            self._emit(Applied(amphora_id=spec.amphora_id, version=spec.version, failure=str(error)))

    async def full_report(self) -> None:
        """Say all that there is to say about every amphora, for a health manager that knows nothing."""
        await self._each(Amphora.full_report)

    async def stop(self) -> None:
        """End the agent's part; HAProxy and keepalived go on serving."""
        if self._reporting:
            self._reporting.cancel()
        behind = [task for task in (self._reporting, self._cleaning, *self._leaving.values()) if task]
        if behind:
            await asyncio.wait(behind, timeout=STOP_SECONDS)
        await asyncio.gather(*(amphora.stop() for amphora in self._amphorae.values()))
        self._office.relay.stop()
        self._netlink.shutdown()

    def _restore(self, home: Home) -> None:
        amphora = self._new(home)
        try:
            amphora.restore()
        except msgspec.DecodeError as error:
            _log.error("amphora %s: its files cannot be read: %s", home.amphora_id, error)
        self._amphorae[home.amphora_id] = amphora
        amphora.start()

    async def _amphora(self, amphora_id: str) -> Amphora:
        if amphora_id in self._leaving:
            await asyncio.wait([self._leaving[amphora_id]])
        if amphora_id not in self._amphorae:
            amphora = self._amphorae[amphora_id] = self._new(Home(self._state, amphora_id))
            amphora.start()
        return self._amphorae[amphora_id]

    def _new(self, home: Home) -> Amphora:
        if self._machine is None:
            raise GiveUp("AGENT_NOT_STARTED", "the agent has not started")
        machine = msgspec.structs.replace(self._machine, run=str(home.run), chroot=str(home.chroot))
        command = self._settings.haproxy_amphora.haproxy_cmd
        return Amphora(
            home, self._emit, machine=machine, command=command, netlink=self._netlink, gate=self._gate,
            office=self._office)

    async def _remove(self, amphora: Amphora) -> None:
        while True:
            try:
                await amphora.remove()
            except (DriverError, OSError, NetlinkError) as error:
                _log.warning("amphora %s cannot be removed yet: %r", amphora.home.amphora_id, error)
                await asyncio.sleep(REMOVAL_RETRY_SECONDS)
            else:
                break
        del self._leaving[amphora.home.amphora_id]

    async def _carry(self, networks: tuple[LocalNetwork, ...], others: Overlay | None) -> None:
        if (networks, others) != (self._networks, self._overlay):
            self._unwanted = lost((*self._networks, *self._unwanted), networks)
            self._networks, self._overlay = networks, others
            self._store_networks()
        await self._ensure_networks()
        if self._unwanted and (self._cleaning is None or self._cleaning.done()):
            self._cleaning = asyncio.create_task(self._drop_networks(), name="networks")

    def _store_networks(self) -> None:
        self._state.mkdir(parents=True, exist_ok=True)
        write(networks_file(self._state), msgspec.json.encode((*self._networks, *self._unwanted)), durable=True)
        write(overlay_file(self._state), msgspec.json.encode(self._overlay), durable=True)

    async def _ensure_networks(self) -> None:
        self._networks_stand = False
        loop = asyncio.get_running_loop()
        try:
            await isolation.ensure(self._networks, self._state, serves=self._settings.agent.services_on_bridges)
            await loop.run_in_executor(self._netlink, bridges.ensure, self._networks)
            if spanning := overlay.spanning(self._networks, self._overlay):
                # First the filter: who asks for a gateway must never be answered by another host.
                await process.run(["nft", "-f", "-"], stdin=gateways.render(spanning).encode())
            await loop.run_in_executor(self._netlink, overlay.ensure, self._networks, self._overlay)
        except DriverError as error:
            _log.warning("%s", error)
        else:
            self._networks_stand = True

    async def _drop_networks(self) -> None:
        """After the last amphora on them has gone; a crash before leaves them to the next start or `teardown`."""
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        for remove in (overlay.remove, bridges.remove):
            await asyncio.get_running_loop().run_in_executor(self._netlink, remove, self._unwanted)
        self._unwanted = ()
        self._store_networks()

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._report_seconds)
            if not self._networks_stand or not isolation.stands(self._networks, self._state):
                await self._ensure_networks()
            await self._each(Amphora.report)

    async def _each(self, act: Callable[[Amphora], Coroutine[None, None, None]]) -> None:
        """Do something with every amphora, not with more at once than there are file descriptors for."""
        gate = asyncio.Semaphore(REPORTS_AT_ONCE)

        async def one(amphora: Amphora) -> None:
            async with gate:
                await act(amphora)

        await asyncio.gather(*map(one, list(self._amphorae.values())))


def lost(former: Iterable[LocalNetwork], now: Iterable[LocalNetwork]) -> tuple[LocalNetwork, ...]:
    """Networks that are no more, by bridge."""
    bridges_now = {network.bridge for network in now}
    return tuple(network for network in former if network.bridge not in bridges_now)


def machine_of(settings: Settings) -> Machine:
    """What this host gives each HAProxy. Raise `SetupError` when it cannot carry amphorae at all."""
    if os.geteuid() != 0:
        raise SetupError("the agent makes network namespaces and must run as root: sudo statera-agent run")
    try:
        program(settings.haproxy_amphora.haproxy_cmd)
        pwd.getpwnam("haproxy"), grp.getgrnam("haproxy")
    except (GiveUp, KeyError) as error:
        raise SetupError(f"this host cannot run HAProxy ({error}): apt-get install haproxy") from None
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Machine(
        run="",
        chroot="",
        threads=max(1, min(len(os.sched_getaffinity(0)), MOST_THREADS)),
        most_connections=most_connections(descriptors),
        default_connection_limit=settings.haproxy_amphora.default_connection_limit,
        hard_stop_seconds=settings.agent.hard_stop_seconds,
        most_old_workers=settings.agent.most_old_workers,
        memory_mb=settings.agent.memory_mb,
        logs=logs_of(settings),
    )


def logs_of(settings: Settings) -> Logs:
    """What amphorae of this node log, and in which form. Raise `SetupError` for a form that there is not."""
    proxies, own = settings.haproxy_amphora, settings.amphora_agent
    if own.log_header_format not in HEADS:
        raise SetupError(f"[amphora_agent] log_header_format = {own.log_header_format} is none of {', '.join(HEADS)}")
    return Logs(
        flow_format=(proxies.user_log_format or FORMAT) if proxies.connection_logging else None,
        takes_all=bool(own.tenant_log_targets) or (own.local_flow_log and not own.disable_local_log_storage),
        flow_facility=own.user_log_facility, admin_facility=own.administrative_log_facility, head=own.log_header_format)


def most_connections(descriptors: int) -> int:
    """HAProxy needs two descriptors for each connection and a half for its splicing pipe, and some for itself."""
    limit = descriptors if descriptors > 0 else 1_000_000
    return max(100, min((limit - 500) * 2 // 5, 1_000_000))
