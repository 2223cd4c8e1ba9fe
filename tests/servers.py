# SPDX-License-Identifier: Apache-2.0
"""Real processes to be started, killed, frozen and started again, and database servers that listen on TCP."""

import glob
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from benchmarks import servers
from benchmarks.client import until
from benchmarks.rig import inside

STOP_SECONDS = 30.0
UNDER_FAKETIME = (
    "env", f"LD_PRELOAD={next(iter(glob.glob('/usr/lib/*/faketime/libfaketimeMT.so.1')), '')}",
    "FAKETIME_DONT_FAKE_MONOTONIC=1")
"""Only the wall clock is moved: waits go by the other one, and the library does not know all of them. The program
`faketime` would stand between us and the process that signals are for."""


class Process:
    """A command in a network namespace, with all that it forks; what it says is appended to *log*."""

    def __init__(self, argv: Sequence[object], log: Path, *, namespace: str | None = None, user: str = "root") -> None:
        words = [str(word) for word in argv]
        self.clock: str | None = None  # as FAKETIME takes it
        if user != "root":
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *words]
        self._argv = inside(namespace, *words) if namespace else words
        self.log, self._began = log, 0
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, unless it runs."""
        if self.is_running:
            return
        self._began = len(self.said())
        with self.log.open("ab") as log:
            skewed = [*UNDER_FAKETIME, f"FAKETIME={self.clock}"] if self.clock else []
            self._running = subprocess.Popen(
                [*skewed, *self._argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def is_running(self) -> bool:
        return self._running is not None and self._running.poll() is None

    @property
    def pid(self) -> int:
        assert self._running is not None, self._argv
        return self._running.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it as an operator would, and wait; repeating is harmless."""
        if not self.is_running:
            return
        self.thaw()
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        try:
            self._running.wait(STOP_SECONDS) if self._running else None
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it and its children without a word."""
        self._signal(signal.SIGKILL)
        if self._running is not None:
            self._running.wait(STOP_SECONDS)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def said_lately(self) -> str:
        """What it said since its last start."""
        return self.said()[self._began:]

    def _signal(self, number: signal.Signals) -> None:
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, number)


class Database:
    """A database server that is only reachable by TCP at *address*, in a folder of its own."""

    def __init__(self, kind: str, folder: Path, *, address: str, namespace: str | None = None) -> None:
        self.kind, self.folder, self.address, self.namespace = kind, folder, address, namespace
        self._way = servers.KINDS[kind]
        self.url = self._way.url(folder, address)
        self.process = Process(
            self._way.argv(folder, address), folder / "log", namespace=namespace, user=self._way.user)

    def start(self) -> None:
        """Begin, with an empty database at the first time, and wait until it answers here."""
        if not (self.folder / "data").exists():
            self._way.prepare(self.folder)
        self.process.start()
        until(self._answers, seconds=60, step_seconds=0.1, otherwise=self.process.said)

    def stop(self) -> None:
        """End it at once, as a host does that goes down in order: whoever is connected is cut off."""
        self.process.stop(self._way.stop)

    def _answers(self) -> bool:
        engine = create_engine(self.url)
        try:
            engine.connect().close()
        except OperationalError:
            return False
        finally:
            engine.dispose()
        return True


@contextmanager
def database(kind: str, *, address: str = "127.0.0.1", namespace: str | None = None) -> Iterator[Database]:
    """A running server that is gone afterwards."""
    with servers.folder_of(servers.KINDS[kind].user) as folder:
        server = Database(kind, folder, address=address, namespace=namespace)
        try:
            server.start()
            yield server
        finally:
            server.process.kill()
