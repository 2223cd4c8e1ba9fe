# SPDX-License-Identifier: Apache-2.0
"""Programs of an amphora: run one in its namespace, find it again by its pid file, end it, hear of its death."""

import asyncio
import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from statera.agent.namespace import netns_path, processes
from statera.agent.programs import program
from statera.errors import TryAgain

PATIENCE_SECONDS = 30
APPEARS_SECONDS = 3.0


async def run(argv: Sequence[str], *, amphora_id: str | None = None, stdin: bytes = b"") -> None:
    """Run a program to its end, in the amphora's namespace if one is named; raise `TryAgain` with what it said."""
    child = await asyncio.create_subprocess_exec(
        *_enter(amphora_id), program(argv[0]), *argv[1:], start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await child.communicate(stdin)
    except TimeoutError:
        raise TryAgain("PROGRAM_STUCK", f"{' '.join(argv)}: not done after {PATIENCE_SECONDS} s") from None
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode != 0:
        raise TryAgain("PROGRAM_FAILED", f"{' '.join(argv)}: exit status {child.returncode}: {gist(output)}")


def _enter(amphora_id: str | None) -> list[str]:
    return [program("nsenter"), f"--net={netns_path(amphora_id)}", "--"] if amphora_id else []


def gist(output: bytes) -> str:
    """What a program complained about, in a few lines that are the same if it fails the same way once more."""
    lines = output.decode(errors="replace").split("\n")
    loud = [line for line in lines if "ALERT" in line or "rror" in line] or lines
    plain = (re.sub(r"^\[\w+] +\(\d+\) : | \(\d+\)(?= exited)", "", line) for line in loud[:4])
    return " ".join(" ".join(plain).split())[:600]


def find(pid_file: Path, marker: str) -> int | None:
    """The live process that the file names, if its command line holds *marker*: a pid may have a new owner."""
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if runs(pid, marker) else None


def runs(pid: int, marker: str) -> bool:
    """Whether the process lives and has *marker* in its command line."""
    try:
        return marker.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def daemon(argv: Sequence[str], pid_file: Path, marker: str, *, amphora_id: str) -> int:
    """Start a program that goes into the background and leaves its pid in the file; returns that.

    Raise `TryAgain` when it cannot start, and at once when it has ended again already.
    """
    pid_file.unlink(missing_ok=True)
    await run(argv, amphora_id=amphora_id)
    deadline = time.monotonic() + APPEARS_SECONDS
    while (pid := find(pid_file, marker)) is None and not _has_died(pid_file) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    if pid is None:
        raise TryAgain("DIED_EARLY", f"{argv[0]} ended right after its start")
    return pid


async def detached(argv: Sequence[str], pid_file: Path, marker: str, *, amphora_id: str, output: Path) -> int:
    """Start a program that leaves its pid in the file and goes on without us; what it says goes to *output*.

    Raise `TryAgain` with that when it ends before. Whoever shortens *output* may do so at any time.
    """
    pid_file.unlink(missing_ok=True)
    former = set(processes(amphora_id))
    output.unlink(missing_ok=True)
    with open(output, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        launcher = await asyncio.create_subprocess_exec(
            *_enter(amphora_id), program("setsid"), "--fork", program(argv[0]), *argv[1:],
            stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file)
        await launcher.wait()
    deadline = time.monotonic() + APPEARS_SECONDS
    while (pid := find(pid_file, marker)) is None and time.monotonic() < deadline:
        if former.issuperset(processes(amphora_id)):
            break
        await asyncio.sleep(0.01)
    if pid is None and (pid := find(pid_file, marker)) is None:
        raise TryAgain("DIED_EARLY", f"{Path(argv[0]).name} does not start: {gist(output.read_bytes())}")
    return pid


def _has_died(pid_file: Path) -> bool:
    """Whether the file names a process that is no more; one that executes itself anew only lacks a command line."""
    pid = pid_file.read_text().strip() if pid_file.exists() else ""
    return pid.isdigit() and not Path(f"/proc/{pid}").exists()


def children(pid: int) -> list[int]:
    """A process's children, none when it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process; one that has ended is success."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end(pids: Iterable[int], *, patience_seconds: float = 2.0) -> list[int]:
    """Ask the processes to end, kill those that will not, and return, when all have gone, which there were."""
    watched: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            watched[os.pidfd_open(pid)] = pid
    for number, patience in ((signal.SIGTERM, patience_seconds), (signal.SIGKILL, 5.0)):
        alive = _until_gone(watched, 0.0)
        for pid in alive:
            send(pid, number)
        if not _until_gone(watched, patience):
            break
    for fd in watched:
        os.close(fd)
    return list(watched.values())


def _until_gone(watched: dict[int, int], patience_seconds: float) -> list[int]:
    deadline = time.monotonic() + patience_seconds
    alive = set(watched)
    while alive:
        ended, _, _ = select.select(list(alive), [], [], max(0.0, deadline - time.monotonic()))
        alive -= set(ended)
        if not ended:
            break
    return [watched[fd] for fd in alive]


class Watch:
    """Calls back at once when a process that is not our child ends."""

    def __init__(self, pid: int, died: Callable[[], None]) -> None:
        """Raise `ProcessLookupError` when it has ended already."""
        self.pid = pid
        self._died = died
        self._fd: int | None = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._fd, self._ended)

    @property
    def alive(self) -> bool:
        return self._fd is not None

    def close(self) -> None:
        """Stop watching; repeating is harmless."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _ended(self) -> None:
        self.close()
        self._died()
