# SPDX-License-Identifier: Apache-2.0
"""Holds one amphora to its limits and notices when it hits one: once for each episode, with limit and value."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from statera.agent import cgroup
from statera.agent.files import Home
from statera.agent.logs import Log
from statera.model.limits import Alarm, Effective
from statera.render.haproxy import Machine, memory_mb, most_connections
from statera.wire import Report, Spec

CALM_SECONDS = 60.0
"""What was not noticed for so long is over."""
LOOK_SECONDS = 5.0
THROTTLED_SHARE = 0.2
"""An amphora that had to wait in so many of the kernel's periods feels its CPU limit."""

_log = logging.getLogger(__name__)

Info = Mapping[str, str]
"""HAProxy's answer to `show info`."""


class Episodes:
    """What is the matter, from when it was first noticed until it was not noticed for a while."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], tuple[Alarm, float]] = {}

    def note(self, alarm: Alarm, now: float) -> None:
        """It is so now; what was said first stands for the whole episode."""
        key = alarm.reason, alarm.object_id
        first, _ = self._open.get(key, (alarm, now))
        self._open[key] = first, now

    def current(self, now: float) -> tuple[Alarm, ...]:
        self._open = {key: (alarm, at) for key, (alarm, at) in self._open.items() if now - at < CALM_SECONDS}
        return tuple(alarm for alarm, _ in self._open.values())


class Limits:
    """Not for two tasks at once: the amphora's own task calls it."""

    def __init__(self, home: Home, machine: Machine, log: Log) -> None:
        self._home = home
        self._machine = machine
        self._log = log
        self._trees = cgroup.here()
        self._spec: Spec | None = None
        self._failures: dict[str, str] = {}
        self._episodes = Episodes()
        self._hits: cgroup.Hits | None = None
        self._lost: dict[str, int] = {}
        self._looked = 0.0

    def follow(self, spec: Spec) -> None:
        """Hold the amphora to what *spec* says; where the host cannot, or not yet, `effective` shows it."""
        self._spec = spec
        failures = cgroup.limit(
            spec.amphora_id, {"memory": memory_mb(spec, self._machine), "cpu": spec.limits.cpus or 0.0}, self._trees)
        if failures != self._failures:
            for name, why in failures.items():
                _log.warning("amphora %s has no limit of %s: %s", spec.amphora_id, name, why)
        self._failures = failures

    def judged(self, report: Report, info: Info) -> Report:
        """The report with what the amphora may use and what is the matter, given what HAProxy says of itself."""
        spec, now = self._spec, time.monotonic()
        if spec is None:
            return report
        for alarm in (*full(spec, report, info), *self._missing(info)):
            self._episodes.note(alarm, now)
        if now > self._looked + LOOK_SECONDS:
            for alarm in (*self._felt(spec, now - self._looked), *crowded(info, descriptors(info.get("Pid", "")))):
                self._episodes.note(alarm, now)
            self._looked = now
            if self._failures:
                self.follow(spec)
        may_use = effective(spec, self._machine, info, self._failures)
        return structs.replace(report, alarms=self._episodes.current(now), effective=may_use)

    def _felt(self, spec: Spec, seconds: float) -> list[Alarm]:
        before, self._hits = self._hits, cgroup.hits(spec.amphora_id, self._trees)
        return felt(spec, self._machine, before, self._hits, seconds) if before else []

    def _missing(self, info: Info) -> list[Alarm]:
        """Log lines that were lost since the last look."""
        lost = dict(self._log.lost()) | {f"agent, HAProxy process {info.get('Pid')}": int(info.get("DroppedLogs", 0))}
        news = [who for who, count in lost.items() if count > self._lost.get(who, 0)]
        self._lost = lost
        return [missing(news[0], lost[news[0]])] if news else []


def missing(who: str, count: int) -> Alarm:
    return Alarm(reason="log_lines_lost", message=f"log lines are lost: {who} does not take them, {count} so far")


def full(spec: Spec, report: Report, info: Info) -> list[Alarm]:
    """Limits of connections that are reached just now."""
    limits = {listener.id: listener.connection_limit for listener in spec.listeners}
    alarms = [
        Alarm(reason="connection_limit_reached", object_type="listener", object_id=id_,
              message=f"the listener has as many connections as its connection_limit allows: {limits[id_]}")
        for id_, word in report.listeners.items() if word == "FULL" and limits.get(id_, -1) >= 0]
    most = int(info.get("Maxconn", 0))
    if most and int(info.get("CurrConns", 0)) >= most:
        alarms.append(Alarm(
            reason="max_connections_reached", message=f"the amphora has as many connections as it may have: {most}"))
    return alarms


def descriptors(pid: str) -> int:
    """How many files the process has open; 0 when it has ended."""
    folder = Path("/proc") / pid / "fd"
    try:
        # Linux 6.2 tells without listing them.
        return folder.stat().st_size or len(os.listdir(folder))
    except OSError:
        return 0


def crowded(info: Info, open_files: int) -> list[Alarm]:
    most = int(info.get("Ulimit-n", 0))
    if not most or open_files < most:
        return []
    return [Alarm(reason="file_descriptors_reached", message=f"HAProxy has as many files open as it may have: {most}")]


def felt(spec: Spec, machine: Machine, before: cgroup.Hits, now: cgroup.Hits, seconds: float) -> list[Alarm]:
    """Limits of memory and CPU that were felt between two looks, *seconds* apart."""
    alarms = []
    if now.killed > before.killed:
        alarms.append(Alarm(
            reason="memory_limit_reached",
            message=f"the kernel ended a process that would have taken more than {memory_mb(spec, machine)} MB"))
    periods = seconds * 1_000_000 / cgroup.PERIOD_US
    if spec.limits.cpus and now.throttled - before.throttled > THROTTLED_SHARE * periods:
        alarms.append(Alarm(
            reason="cpu_limit_reached", message=f"the amphora waits for more than its {spec.limits.cpus:g} CPUs"))
    return alarms


def effective(spec: Spec, machine: Machine, info: Info, failures: Mapping[str, str]) -> Effective:
    """What holds on this node."""
    most, limited_by = most_connections(spec, machine)
    memory = memory_mb(spec, machine)
    return Effective(
        max_connections=int(info.get("Maxconn", most)), limited_by=limited_by,
        file_descriptors=int(info.get("Ulimit-n", 0)),
        memory_mb=memory if memory and "memory" not in failures else None,
        cpus=spec.limits.cpus if "cpu" not in failures else None)
