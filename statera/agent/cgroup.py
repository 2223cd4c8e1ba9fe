# SPDX-License-Identifier: Apache-2.0
"""A control group for each amphora: its processes are found again, outlive the agent's service, and have limits.

Version 2 keeps memory and CPU in the one tree; where version 1 has these controllers, each has a tree of its own.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec import Struct

PERIOD_US = 100_000
CONTROLLERS = ("memory", "cpu")


class Tree(Struct, frozen=True):
    """Where a hierarchy is mounted, and of which version it is."""

    top: Path
    version: int


Trees = Mapping[str, Tree]
"""By controller, and the one in which processes are found again by the empty name."""


def trees(mounts: str, controllers: Callable[[Path], Iterable[str]]) -> dict[str, Tree]:
    """What /proc/mounts offers; *controllers* tells those of a version 2 tree."""
    found: dict[str, Tree] = {}
    for line in mounts.splitlines():
        _, where, kind, options, *_ = line.split()
        words = options.split(",")
        if kind == "cgroup2" and "rw" in words:
            found |= dict.fromkeys(["", *controllers(Path(where))], Tree(Path(where), 2))
        elif kind == "cgroup" and "rw" in words:
            found |= dict.fromkeys(set(words) & set(CONTROLLERS), Tree(Path(where), 1))
    if "" not in found and "memory" in found:
        found[""] = found["memory"]
    return {name: tree for name, tree in found.items() if name in ("", *CONTROLLERS)}


def here() -> dict[str, Tree]:
    """This host's trees."""
    return trees(Path("/proc/mounts").read_text(), _controllers)


def _controllers(top: Path) -> list[str]:
    return (top / "cgroup.controllers").read_text().split()


def folder(amphora_id: str, name: str = "", known: Trees | None = None) -> Path | None:
    """The amphora's group in the tree of that controller."""
    tree = (here() if known is None else known).get(name)
    return tree.top / "statera" / amphora_id if tree else None


def adopt(amphora_id: str, pids: Iterable[int], known: Trees | None = None) -> bool:
    """Put the processes into the amphora's groups; False where this host gives us none, which is no harm."""
    known = here() if known is None else known
    groups = {folder(amphora_id, name, known) for name in known} - {None}
    members = [*pids]
    try:
        for group in filter(None, groups):
            group.mkdir(parents=True, exist_ok=True)
            for pid in members:
                # A process that has ended meanwhile needs no group.
                with contextlib.suppress(ProcessLookupError):
                    (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False
    return bool(groups)


def processes(amphora_id: str) -> list[int]:
    """The group's processes; none when there is no group."""
    group = folder(amphora_id)
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()] if group else []
    except FileNotFoundError:
        return []


def remove(amphora_id: str) -> bool:
    """Remove the groups, whose processes must have ended; whether there were any."""
    known, found = here(), False
    for group in filter(None, {folder(amphora_id, name, known) for name in known}):
        with contextlib.suppress(OSError):
            group.rmdir()
            found = True
    return found


KNOBS: Mapping[tuple[str, int], Callable[[float], dict[str, str]]] = {
    ("memory", 2): lambda limit: {"memory.max": str(int(limit) << 20) if limit else "max"},
    ("memory", 1): lambda limit: {"memory.limit_in_bytes": str(int(limit) << 20) if limit else "-1"},
    ("cpu", 2): lambda limit: {"cpu.max": f"{round(limit * PERIOD_US) if limit else 'max'} {PERIOD_US}"},
    ("cpu", 1): lambda limit: {
        "cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(round(limit * PERIOD_US) if limit else -1)},
}
"""What to write for a limit in megabytes or CPUs, 0 for none, by controller and version."""

USAGE = {1: "memory.usage_in_bytes", 2: "memory.current"}


def limit(amphora_id: str, limits: Mapping[str, float], known: Trees | None = None) -> dict[str, str]:
    """Hold the amphora to the limits by controller, 0 for none; for each that does not hold, why.

    Repeating is harmless. Memory that is in use is never taken away: that would kill.
    """
    known = here() if known is None else known
    failures = {}
    for name, value in limits.items():
        try:
            _limit(amphora_id, name, value, known=known)
        except OSError as error:
            failures[name] = error.strerror or str(error)
    return failures


def _limit(amphora_id: str, name: str, value: float, *, known: Trees) -> None:
    group = folder(amphora_id, name, known)
    if group is None:
        if value:
            raise OSError(0, f"this host has no control groups for {name}")
        return
    version = known[name].version
    if version == 2:
        _delegate(known[name].top, group.parent, name)
    group.mkdir(parents=True, exist_ok=True)
    if name == "memory" and value and int((group / USAGE[version]).read_text()) > int(value) << 20:
        raise OSError(0, f"more than {value:g} MB are in use")
    for knob, text in KNOBS[name, version](value).items():
        (group / knob).write_text(text)


def _delegate(top: Path, ours: Path, name: str) -> None:
    """In version 2 a controller is handed down from group to group."""
    ours.mkdir(exist_ok=True)
    for group in (top, ours):
        handed = group / "cgroup.subtree_control"
        if name not in handed.read_text().split():
            handed.write_text(f"+{name}")


COUNTS: Mapping[tuple[str, int], tuple[str, str]] = {
    ("memory", 2): ("memory.events", "oom_kill"),
    ("memory", 1): ("memory.oom_control", "oom_kill"),
    ("cpu", 2): ("cpu.stat", "nr_throttled"),
    ("cpu", 1): ("cpu.stat", "nr_throttled"),
}
"""In which file, and behind which word, the kernel counts what a limit did."""


class Hits(Struct, frozen=True, kw_only=True):
    """Since the group was made: processes ended for memory, and periods in which there was not enough CPU time."""

    killed: int = 0
    throttled: int = 0


def hits(amphora_id: str, known: Trees) -> Hits:
    """What the kernel counted; nought where it counts nothing."""
    return Hits(killed=_count(amphora_id, "memory", known), throttled=_count(amphora_id, "cpu", known))


def _count(amphora_id: str, name: str, known: Trees) -> int:
    group = folder(amphora_id, name, known)
    if group is None:
        return 0
    file, word = COUNTS[name, known[name].version]
    with contextlib.suppress(OSError):
        for line in (group / file).read_text().splitlines():
            if line.startswith(f"{word} "):
                return int(line.split()[1])
    return 0
