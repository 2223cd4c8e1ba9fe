# SPDX-License-Identifier: Apache-2.0
"""The HAProxy of one amphora: start it, change it while it runs, reload it, find it again after a restart."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec
from msgspec.structs import replace

from statera.agent import blame, cgroup, namespace, process, runtime
from statera.agent.apply import Plan, Running, afresh, awake, changes, instead, members
from statera.agent.files import Home, fill, read, write
from statera.errors import DriverError, TryAgain
from statera.render import haproxy
from statera.render.backends import proxied
from statera.render.haproxy import Machine
from statera.render.metrics import HIDDEN
from statera.wire import Spec

# A reload signal that comes sooner than this after the last worker answered may vanish unheard (HAProxy 2.6).
BREATH_SECONDS = 0.25
RESEND_SECONDS = 2.0
RELOAD_SECONDS = 15.0
DRAIN_SECONDS = 60.0
MOST_SAID_BYTES = 1 << 18

_log = logging.getLogger(__name__)
_running = msgspec.json.Decoder(Running)


class Proxy:
    """Not for two tasks at once: the amphora's own task calls it."""

    def __init__(self, home: Home, machine: Machine, command: str, died: Callable[[], None]) -> None:
        self._home = home
        self._machine = machine
        self._command = command
        self._died = died
        self._watch: process.Watch | None = None
        self._answered = 0.0
        self._leaving: dict[str, float] = {}
        self._healed: dict[str, str] = {}
        self.running: Running | None = None
        self._worker = 0
        self.version: str | None = None

    @property
    def alive(self) -> bool:
        return self._watch is not None and self._watch.alive

    @property
    def pid(self) -> int | None:
        return self._watch.pid if self._watch and self._watch.alive else None

    @property
    def is_draining(self) -> bool:
        """Whether servers wait for their last connections to end; `sweep` deletes them then."""
        return bool(self._leaving)

    def plan(self, spec: Spec) -> Plan:
        """What `follow` would do. Raise `GiveUp` for a spec that cannot be rendered, before anything is touched."""
        if self.alive and self.running is None:
            return afresh("reload", spec, self._machine)
        return changes(self.running if self.alive else None, spec, self._machine)

    def new_doors(self, spec: Spec) -> set[tuple[str, int]]:
        """Addresses and ports of *spec* at which HAProxy does not listen yet."""
        now, then = (doors(proxied(awake(one))) if one else set()
                     for one in (spec, self.running.loaded if self.running else None))
        return now - then

    def breath_seconds(self) -> float:
        """How long to wait before a reload will be heard."""
        return max(0.0, self._answered + BREATH_SECONDS - time.monotonic())

    def distrust(self) -> None:
        """Who runs does not answer: the next plan is a start, to which it hands over.

        A reload would not do: it passes on even a socket whose file is gone (HAProxy 2.6).
        """
        self.close()

    async def follow(self, plan: Plan) -> Plan:
        """Carry the plan out and return what was done: commands that are refused become a reload.

        Raise what HAProxy has against it, with the object's name; then it runs, or does again, what it took last.
        """
        last = self._last()
        try:
            return await self._follow(plan)
        except DriverError as error:
            if plan.how == "start" and last != plan.running.applied:
                await self._start_last(last, plan.tls_files)
            raise type(error)(error.reason, blame.named(str(error), plan.file)) from error

    async def _follow(self, plan: Plan) -> Plan:
        wanted = plan.running.applied
        write(self._home.candidate_cfg, plan.file.encode())
        fill(self._home.l7, plan.files)
        fill(self._home.tls, plan.tls_files)
        if plan.how == "reload" or plan.is_unsure:
            await process.run([self._command, "-c", "-f", str(self._home.candidate_cfg)])
        self._home.candidate_cfg.replace(self._home.haproxy_cfg)
        if plan.how == "start":
            await self._start(wanted)
        elif plan.how == "reload":
            await self._reload(wanted)
        elif plan.commands and (objections := await runtime.command(self._home.socket, plan.commands)):
            _log.warning("amphora %s reloads, as HAProxy refused: %s", self._home.amphora_id, "; ".join(objections))
            return await self._fall_back(plan)
        self._remember(plan.running)
        now = time.monotonic()
        self._leaving |= dict.fromkeys(plan.leaving, now + DRAIN_SECONDS)
        await self.sweep()
        return plan

    async def heal(self, words: Mapping[str, str]) -> None:
        """Let servers be up or down as the agent found these members, and up again whom it no longer asks."""
        if self.running is None:
            return
        servers = {f"{backend}/{member.id}": member.id
                   for backend, _, _, member in members(self.running.loaded, self.running.loaded) if member}
        wanted = {server: words.get(id_, "UP") for server, id_ in servers.items()
                  if id_ in words or self._healed.get(server) == "DOWN"}
        news = [f"set server {server} health {word.lower()}" for server, word in wanted.items()
                if self._healed.get(server) != word]
        refused = await runtime.command(self._home.socket, news)
        self._healed = {} if refused else wanted

    async def adopt(self) -> bool:
        """Take over the HAProxy that an earlier agent started, if it lives; what it runs is known or reloaded."""
        pid = process.find(self._home.haproxy_pid, str(self._home.haproxy_cfg))
        if pid is None:
            return False
        try:
            self._guard(pid)
            info = await runtime.info(self._home.socket)
            self._worker, self.version = int(info["Pid"]), info.get("Version")
            known = read(self._home.running)
            running = _running.decode(known) if known else None
            # An agent of another configuration or release would have written another file.
            ours = running and haproxy.render(running.applied, self._machine).encode()
            self.running = running if read(self._home.haproxy_cfg) == ours else None
            rows = runtime.rows(await runtime.ask(self._home.socket, "show stat -1 4 -1"))
        except (DriverError, OSError, msgspec.DecodeError) as error:
            _log.warning("amphora %s starts anew: its HAProxy cannot be adopted: %s", self._home.amphora_id, error)
            await self.end()
            return False
        leaving = strangers(self.running, rows) if self.running else []
        self._leaving = dict.fromkeys(leaving, time.monotonic() + DRAIN_SECONDS)
        # Without a check of HAProxy's own only an earlier agent can have said so.
        self._healed = {f"{row['pxname']}/{row['svname']}": "DOWN" for row in rows
                        if row["status"].startswith("DOWN") and not row["check_status"]}
        return True

    async def sweep(self) -> None:
        """Delete leaving servers whose connections have ended; after a minute their connections are ended."""
        self._trim(MOST_SAID_BYTES)
        overdue = [server for server, deadline in self._leaving.items() if time.monotonic() > deadline]
        await runtime.lines(self._home.socket, [f"shutdown sessions server {server}" for server in overdue])
        servers = list(self._leaving)
        # Whatever came of it, `del server` says so in one line.
        answers = await runtime.lines(self._home.socket, [f"del server {server}" for server in servers])
        self._leaving = {server: self._leaving[server] for server, answer in zip(servers, answers, strict=False)
                         if "still" in answer}

    def is_ours(self, pid: int) -> bool:
        """Whether this process lives and is a HAProxy of this amphora."""
        return process.runs(pid, str(self._home.haproxy_cfg))

    async def end(self) -> None:
        """Have no HAProxy; repeating is harmless."""
        self.close()
        await asyncio.to_thread(process.end, self._lingering(), patience_seconds=0.0)

    def close(self) -> None:
        """Stop watching; HAProxy runs on."""
        if self._watch:
            self._watch.close()

    async def _fall_back(self, plan: Plan) -> Plan:
        await asyncio.sleep(self.breath_seconds())
        return await self.follow(instead(plan))

    async def revive(self) -> None:
        """Have what ran last run again if nothing runs: for a spec that cannot take its place."""
        certificates = {file.name: file.read_text() for file in self._home.tls.glob("*")}
        await self._start_last(self._last(), certificates)

    def _last(self) -> Spec | None:
        last = read(self._home.running)
        return _running.decode(last).applied if last else None

    async def _start_last(self, last: Spec | None, certificates: Mapping[str, str]) -> None:
        """What runs is remembered without its certificates."""
        if last and not self.alive:
            again = replace(afresh("start", last, self._machine), tls_files=certificates)
            with contextlib.suppress(DriverError):
                await self._follow(again)

    def _forget(self) -> None:
        """What runs is uncertain until the file is taken up, also for an agent that follows this one."""
        self.running = None
        self._healed = {}
        self._home.running.unlink(missing_ok=True)

    def _remember(self, running: Running) -> None:
        if running != self.running:
            self.running = running
            write(self._home.running, msgspec.json.encode(running))

    async def _start(self, wanted: Spec) -> None:
        home = self._home
        self._forget()
        # Whoever is still there, as one that was deaf, hands over as in a reload.
        lingering = self._lingering()
        pid = await process.detached(
            [self._command, "-W", "-f", str(home.haproxy_cfg), "-p", str(home.haproxy_pid),
             "-S", f"{home.master_socket},mode,600", *(("-sf", *map(str, lingering)) if lingering else ())],
            home.haproxy_pid, str(home.haproxy_cfg), amphora_id=home.amphora_id, output=home.haproxy_said)
        self._guard(pid)
        cgroup.adopt(home.amphora_id, [pid, *process.children(pid)])
        if not await self._answer(wanted, former=0, patience_seconds=RELOAD_SECONDS):
            raise TryAgain("HAPROXY_SILENT", f"HAProxy started but does not answer {self.last_words()}".rstrip())

    async def _reload(self, wanted: Spec) -> None:
        former, last = self._worker, self.running
        self._forget()
        self._trim(0)
        deadline = time.monotonic() + RELOAD_SECONDS
        while (pid := self.pid) and time.monotonic() < deadline:
            process.send(pid, signal.SIGUSR2)
            if await self._answer(wanted, former=former, patience_seconds=RESEND_SECONDS):
                self._leaving.clear()
                return
            if self._has_refused():
                if last:
                    self._remember(last)
                raise TryAgain("RELOAD_FAILED", f"HAProxy goes on as before: {self.last_words()}")
        raise TryAgain("RELOAD_SILENT", f"HAProxy takes up no version {wanted.version} {self.last_words()}".rstrip())

    def last_words(self) -> str:
        """What HAProxy said of late, if that was a complaint."""
        said = read(self._home.haproxy_said) or b""
        return process.gist(said) if b"ALERT" in said else ""

    def _has_refused(self) -> bool:
        """A master that cannot load the file says so and leaves the old worker in its place (HAProxy 2.6)."""
        return b"Loading failure!" in (read(self._home.haproxy_said) or b"")

    def _trim(self, most_bytes: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._home.haproxy_said.stat().st_size > most_bytes:
                os.truncate(self._home.haproxy_said, 0)

    async def _answer(self, wanted: Spec, *, former: int, patience_seconds: float) -> bool:
        """Wait until a worker other than *former* runs the file."""
        deadline = time.monotonic() + patience_seconds
        while self.alive and not self._has_refused() and time.monotonic() < deadline:
            try:
                info = await runtime.info(self._home.socket)
            except TryAgain:
                info = {}
            if info.get("description") == haproxy.description(wanted.version) and int(info["Pid"]) != former:
                self._worker, self._answered = int(info["Pid"]), time.monotonic()
                self.version = info.get("Version")
                return True
            await asyncio.sleep(0.01)
        return False

    def _lingering(self) -> list[int]:
        found = {*cgroup.processes(self._home.amphora_id), *namespace.processes(self._home.amphora_id)}
        return [pid for pid in found if self.is_ours(pid)]

    def _guard(self, pid: int) -> None:
        self.close()
        self._watch = process.Watch(pid, self._died)


def doors(spec: Spec) -> set[tuple[str, int]]:
    return {(vip.ip, listener.protocol_port) for vip in spec.vips for listener in spec.listeners}


def strangers(running: Running, rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Servers that run but are nobody's member any more: an earlier agent was letting them drain."""
    servers = members(running.loaded, running.loaded)
    known = {f"{backend}/{member.id}" for backend, _, _, member in servers if member}
    return [name for row in rows if row["pxname"] not in HIDDEN
            and (name := f"{row['pxname']}/{row['svname']}") not in known]
