# SPDX-License-Identifier: Apache-2.0
"""A control group for each amphora: its processes are found again, and outlive the agent's own service."""

import contextlib
from collections.abc import Iterable
from pathlib import Path


def root(mounts: str) -> Path | None:
    """Where the unified hierarchy is mounted according to /proc/mounts; None when it is not."""
    for line in mounts.splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    return None


def folder(amphora_id: str) -> Path | None:
    top = root(Path("/proc/mounts").read_text())
    return top / "statera" / amphora_id if top else None


def adopt(amphora_id: str, pids: Iterable[int]) -> bool:
    """Put the processes into the amphora's group; False where this host gives us no groups, which is no harm."""
    group = folder(amphora_id)
    if group is None:
        return False
    try:
        group.mkdir(parents=True, exist_ok=True)
        for pid in pids:
            # A process that has ended meanwhile needs no group.
            with contextlib.suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False
    return True


def processes(amphora_id: str) -> list[int]:
    """The group's processes; none when there is no group."""
    group = folder(amphora_id)
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()] if group else []
    except FileNotFoundError:
        return []


def remove(amphora_id: str) -> bool:
    """Remove the group, whose processes must have ended; whether there was one."""
    group = folder(amphora_id)
    try:
        if group:
            group.rmdir()
    except OSError:
        return False
    return group is not None
