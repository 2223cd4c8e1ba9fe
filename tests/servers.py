# SPDX-License-Identifier: Apache-2.0
"""Real processes to be started, killed, frozen and started again, and database servers that listen on TCP."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

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
        self.url = URLS[kind].format(address=address)
        self.process = Process(
            COMMANDS[kind](folder, address), folder / "log", namespace=namespace, user=USERS[kind])

    def start(self) -> None:
        """Begin, with an empty database at the first time, and wait until it answers here."""
        if not (self.folder / "data").exists():
            PREPARATIONS[self.kind](self.folder)
        self.process.start()
        until(self._answers, seconds=60, step_seconds=0.1, otherwise=self.process.said)

    def stop(self) -> None:
        """End it at once, as a host does that goes down in order: whoever is connected is cut off."""
        self.process.stop(signal.SIGINT if self.kind == "postgresql" else signal.SIGTERM)

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
    folder = Path(tempfile.mkdtemp(prefix="st-db-", dir="/tmp"))
    shutil.chown(folder, USERS[kind], USERS[kind])
    server = Database(kind, folder, address=address, namespace=namespace)
    try:
        server.start()
        yield server
    finally:
        server.process.kill()
        shutil.rmtree(folder)


def _postgresql(folder: Path, address: str) -> list[object]:
    return [_program("/usr/lib/postgresql/*/bin/postgres", "postgresql"), "-D", folder / "data", "-k", folder,
            "-c", f"listen_addresses={address}", "-c", "fsync=off", "-c", "max_connections=300"]


def _mariadb(folder: Path, address: str) -> list[object]:
    return [_program("/usr/sbin/mariadbd", "mariadb-server"), "--no-defaults", f"--datadir={folder}/data",
            f"--socket={folder}/s", f"--init-file={folder}/init.sql", f"--bind-address={address}",
            "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--max-connections=300",
            "--innodb-buffer-pool-size=64M"]


def _prepare_postgresql(folder: Path) -> None:
    initdb = _program("/usr/lib/postgresql/*/bin/initdb", "postgresql")
    _run("postgres", initdb, "-D", folder / "data", "-A", "trust", "-U", "statera", "-N")
    with (folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 0.0.0.0/0 trust\n")


def _prepare_mariadb(folder: Path) -> None:
    (folder / "init.sql").write_text(FIRST_WORDS)
    install = _program("/usr/bin/mariadb-install-db", "mariadb-server")
    _run("mysql", install, "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal",
         "--skip-test-db", "--skip-name-resolve")


FIRST_WORDS = """\
CREATE DATABASE IF NOT EXISTS statera;
CREATE USER IF NOT EXISTS statera;
GRANT ALL ON *.* TO statera;
"""
URLS = {
    "postgresql": "postgresql+psycopg://statera@{address}/postgres",
    "mariadb": "mysql+pymysql://statera@{address}/statera",
}
USERS = {"postgresql": "postgres", "mariadb": "mysql"}
COMMANDS = {"postgresql": _postgresql, "mariadb": _mariadb}
PREPARATIONS = {"postgresql": _prepare_postgresql, "mariadb": _prepare_mariadb}


def _program(pattern: str, package: str) -> str:
    found = sorted(glob.glob(pattern))
    assert found, f"{pattern} is missing: apt-get install {package}"
    return found[-1]


def _run(user: str, *argv: object) -> None:
    pwd.getpwnam(user)
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *map(str, argv)]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/tmp")
    assert done.returncode == 0, done.stdout + done.stderr
