# SPDX-License-Identifier: Apache-2.0
"""What one amphora logs and where that goes: HAProxy's lines, the kernel's flows, the tenant's own log server."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from statera.agent import namespace
from statera.agent.files import Home
from statera.agent.flows import Enter
from statera.agent.netfilter import Ending, ending, endings
from statera.agent.relay import Relay, Source
from statera.agent.sinks import File, Sink, Syslog
from statera.config import AmphoraAgent
from statera.errors import SetupError, TryAgain
from statera.model.logs import Target, operators_target, target_of
from statera.render import flows, logs
from statera.render.logs import INFO, SOCKET, Logs
from statera.wire import Spec

MOST_WAITING = "4096"
"""Lines that the kernel keeps for us before it refuses more."""
NAME = b"\0" + SOCKET.encode().ljust(107, b"\0")
"""HAProxy fills abstract names up with zeros."""


class Office:
    """The relay of this node and the log servers of its operator. Raise `SetupError` for targets that are none."""

    def __init__(self, settings: AmphoraAgent) -> None:
        self.settings = settings
        self.relay = Relay()
        self.flow_targets = self._group("tenant_log_targets")
        self.admin_targets = self._group("admin_log_targets")

    def syslog(self, targets: Sequence[Target], door: Callable[[int, int], socket.socket] = socket.socket) -> Syslog:
        own = self.settings
        return Syslog(targets, size=own.log_queue_size, retry_seconds=own.log_retry_interval,
                      retry_count=own.log_retry_count, door=door)

    def _group(self, option: str) -> list[Sink]:
        try:
            targets = [operators_target(text, self.settings.log_protocol) for text in getattr(self.settings, option)]
        except ValueError as error:
            raise SetupError(f"[amphora_agent] {option}: {error}") from None
        return [self.syslog(targets)] if targets else []


class Log:
    """Not for two tasks at once: the amphora's own task calls it."""

    def __init__(self, home: Home, enter: Enter, office: Office, form: Logs) -> None:
        self._home = home
        self._enter = enter
        self._office = office
        self._form = form
        self._files: dict[str, File] = {}
        self._intakes: dict[str, socket.socket] = {}
        self._own: tuple[str, list[Sink]] = ("", [])
        self._spec: Spec | None = None

    def forget(self) -> None:
        """The namespace is new."""
        self.close()

    async def follow(self, spec: Spec) -> None:
        """Hear what the amphora logs, and pass it on to where *spec* says. Raise `TryAgain`."""
        self._spec = spec
        try:
            if "haproxy" not in self._intakes:
                self._intakes["haproxy"] = await self._enter(self._listen)
            hears = logs.flow_template(spec, self._form) and flows.flow_listeners(spec)
            if hears and "kernel" not in self._intakes:
                self._intakes["kernel"] = await self._enter(self._hear)
        except OSError as error:
            raise TryAgain("LOG_SOCKET", f"nobody hears what HAProxy logs: {error}") from error
        if not hears:
            self._intakes.pop("kernel", None)
        self._office.relay.carry(spec.amphora_id, self._sources(spec))

    def lost(self) -> Counter[str]:
        """How many lines were lost so far, by whom."""
        return self._office.relay.lost(self._home.amphora_id)

    def close(self) -> None:
        """Hear no more."""
        self._office.relay.carry(self._home.amphora_id, ())
        self._intakes.clear()
        self._files.clear()
        self._own = ("", [])

    def _sources(self, spec: Spec) -> list[Source]:
        flow_file = self._file("flow.log") if self._office.settings.local_flow_log else []
        flow_sinks = [*flow_file, *self._office.flow_targets, *self._tenants(spec.log_target)]
        admin_sinks = [*self._file("admin.log"), *self._office.admin_targets]
        head = f"<{priority(self._form.flow_facility, INFO)}>".encode()
        sources = [Source(spec.amphora_id, self._intakes["haproxy"], flow_sinks, others=admin_sinks, head=head)]
        if "kernel" in self._intakes:
            tell = partial(told, spec=spec, form=self._form, doors=doors(spec))
            sources.append(Source(
                spec.amphora_id, self._intakes["kernel"], flow_sinks,
                read=lambda intake: tell(ending(intake.recv(1 << 16)))))
        return sources

    def _file(self, name: str) -> list[Sink]:
        own = self._office.settings
        if own.disable_local_log_storage:
            return []
        if name not in self._files:
            path = self._home.logs / name
            self._files[name] = File(path, own.local_log_megabytes << 20, own.local_log_files)
        return [self._files[name]]

    def _tenants(self, url: str | None) -> list[Sink]:
        """The tenant's own log server, reached from within the amphora."""
        if (url or "") != self._own[0]:
            sinks: list[Sink] = [self._office.syslog([target_of(url)], self._inner_socket)] if url else []
            self._own = (url or "", sinks)
        return self._own[1]

    def _inner_socket(self, family: int, kind: int) -> socket.socket:
        with namespace.inside(self._home.amphora_id):
            return socket.socket(family, kind)

    def _listen(self) -> socket.socket:
        with namespace.inside(self._home.amphora_id):
            Path("/proc/sys/net/unix/max_dgram_qlen").write_text(MOST_WAITING)
            intake = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                intake.bind(NAME)
            except OSError:
                intake.close()
                raise
            return intake

    def _hear(self) -> socket.socket:
        with namespace.inside(self._home.amphora_id):
            return endings()


Doors = dict[int, tuple[str, str, dict[tuple[str, int], str]]]


def doors(spec: Spec) -> Doors:
    """Listener, pool and members (by where a flow ends) for each number that marks flows."""
    pools = {pool.id: pool for pool in spec.pools}
    found: Doors = {}
    for number, listener in flows.flow_listeners(spec):
        pool = pools.get(listener.default_pool_id or "")
        members = {(member.address, member.protocol_port): member.id for member in pool.members} if pool else {}
        found[number] = (listener.id, pool.id if pool else "-", members)
    return found


def told(end: Ending | None, *, spec: Spec, form: Logs, doors: Doors) -> bytes:
    """The line about a flow of the kernel's that is over; nothing about what is no flow of a listener."""
    if end is None or end.flow.mark not in doors or not form.flow_format:
        return b""
    listener, pool, members = doors[end.flow.mark]
    facts = {
        "%f": listener, "%ft": listener, "%ci": end.client, "%cp": str(end.client_port), "%t": moment(end.began),
        "%fi": end.flow.vip, "%fp": str(end.flow.port), "%b": pool, "%s": members.get(end.flow.end, "-"),
        "%si": end.flow.member, "%sp": str(end.flow.member_port), "%B": str(end.bytes_out), "%U": str(end.bytes_in),
        "%Tt": str(max(0, round(1000 * (end.ended - end.began)))), "%tsc": "----", "%ts": "--",
    }
    line = logs.kernel_line(form.flow_format, spec, facts)
    return f"{head(form, spec.amphora_id, end.ended)}{line}\n".encode()


def priority(facility: int, severity: int) -> int:
    return (16 + facility) * 8 + severity


def head(form: Logs, host: str, at: float) -> str:
    """What stands before a line in syslog's two forms."""
    mark, when = f"<{priority(form.flow_facility, INFO)}>", time.gmtime(at)
    if form.head == "rfc3164":
        return f"{mark}{time.strftime('%b', when)} {when.tm_mday:2} {time.strftime('%H:%M:%S', when)} {host} kernel: "
    return f"{mark}1 {time.strftime('%Y-%m-%dT%H:%M:%S', when)}.{int(at % 1 * 1e6):06}+00:00 {host} kernel - - - "


def moment(at: float) -> str:
    """As HAProxy's %t."""
    return f"{time.strftime('%d/%b/%Y:%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03}"
