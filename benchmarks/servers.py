# SPDX-License-Identifier: Apache-2.0
"""Real PostgreSQL and MariaDB servers of this run's own, each in a folder of its own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

from msgspec import Struct
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

START_SECONDS = 60
CONNECTIONS = 300


class Kind(Struct, frozen=True, kw_only=True):
    """A server's own *user*, how an empty folder is prepared for it, the command that serves there, the signal that
    ends it without waiting for clients, and the URL of the first database: on a unix socket in the folder where the
    address is empty, else at that address alone."""

    user: str
    prepare: Callable[[Path], None]
    argv: Callable[[Path, str], list[object]]
    stop: signal.Signals
    on_socket: str
    on_address: str

    def url(self, folder: Path, address: str) -> str:
        return self.on_address.format(address=address) if address else self.on_socket.format(folder=folder)


def _prepare_postgresql(folder: Path) -> None:
    initdb = _program("initdb", "postgresql", POSTGRESQL)
    _run(_as("postgres", [initdb, "-D", folder / "data", "-A", "trust", "-U", "statera", "-N"]))
    with (folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 0.0.0.0/0 trust\n")


def _serve_postgresql(folder: Path, address: str) -> list[object]:
    return [
        _program("postgres", "postgresql", POSTGRESQL), "-D", folder / "data", "-k", folder, "-c",
        f"listen_addresses={address}", "-c", "fsync=off", "-c", f"max_connections={CONNECTIONS}",
    ]


def _prepare_mariadb(folder: Path) -> None:
    (folder / "init.sql").write_text(FIRST_WORDS)
    install = _program("mariadb-install-db", "mariadb-server", "/usr/bin")
    _run(_as("mysql", [
        install, "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal",
        "--skip-test-db", "--skip-name-resolve",
    ]))


def _serve_mariadb(folder: Path, address: str) -> list[object]:
    return [
        _program("mariadbd", "mariadb-server", "/usr/sbin"), "--no-defaults", f"--datadir={folder}/data",
        f"--socket={folder}/s", f"--init-file={folder}/init.sql", "--skip-name-resolve",
        f"--bind-address={address}" if address else "--skip-networking", "--innodb-flush-log-at-trx-commit=0",
        f"--max-connections={CONNECTIONS}", "--innodb-buffer-pool-size=64M",
    ]


POSTGRESQL = "/usr/lib/postgresql/*/bin"
FIRST_WORDS = """\
CREATE DATABASE IF NOT EXISTS statera;
CREATE USER IF NOT EXISTS statera;
GRANT ALL ON *.* TO statera;
"""
KINDS = {
    "postgresql": Kind(
        user="postgres", prepare=_prepare_postgresql, argv=_serve_postgresql, stop=signal.SIGINT,
        on_socket="postgresql+psycopg://statera@/postgres?host={folder}",
        on_address="postgresql+psycopg://statera@{address}/postgres"),
    "mariadb": Kind(
        user="mysql", prepare=_prepare_mariadb, argv=_serve_mariadb, stop=signal.SIGTERM,
        on_socket="mysql+pymysql://root@/mysql?unix_socket={folder}/s",
        on_address="mysql+pymysql://statera@{address}/statera"),
}


def postgresql() -> AbstractContextManager[str]:
    """The URL of a PostgreSQL server's first database."""
    return _server(KINDS["postgresql"])


def mariadb() -> AbstractContextManager[str]:
    """The URL of a MariaDB server's first database."""
    return _server(KINDS["mariadb"])


@contextmanager
def _server(kind: Kind) -> Iterator[str]:
    with folder_of(kind.user) as folder:
        kind.prepare(folder)
        url = kind.url(folder, "")
        with _serving(kind, url, folder):
            yield url


def create_database(server: str) -> str:
    """The URL of a new database on the server; it ends with the server."""
    name = f"t{uuid4().hex[:12]}"
    _say(make_url(server), f"CREATE DATABASE {name}")
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _say(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@contextmanager
def folder_of(user: str) -> Iterator[Path]:
    """A new folder with a short name (sockets go into it) that belongs to the server's user."""
    folder = Path(tempfile.mkdtemp(prefix=f"st-{user}-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, user, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _serving(kind: Kind, url: str, folder: Path) -> Iterator[None]:
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(_as(kind.user, kind.argv(folder, "")), stdout=output, stderr=output)
    try:
        _await_answer(url, server, log)
        yield
    finally:
        server.send_signal(kind.stop)
        server.wait(START_SECONDS)


def _await_answer(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    engine = create_engine(url)
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as door:  # PyMySQL leaves sockets open that could not connect
                door.connect(str(_door(log.parent)))
            engine.connect().close()
        except (OSError, OperationalError) as error:
            if time.monotonic() > until or server.poll() is not None:
                raise AssertionError(f"the server does not answer: {error}\n{log.read_text()}") from error
            time.sleep(0.05)
        else:
            return engine.dispose()


def _door(folder: Path) -> Path:
    """The server's unix socket, or where one will be."""
    return next((path for path in folder.iterdir() if path.is_socket()), folder / "s")


def _program(name: str, package: str, folders: str) -> Path:
    places = sorted(Path("/").glob(f"{folders.lstrip('/')}/{name}"))
    if not places:
        raise AssertionError(f"{name} is not installed: apt-get install {package}")
    return places[-1]


def _as(user: str, command: Sequence[object]) -> list[str]:
    """The command run as the server's own user: neither server wants to be root."""
    words = [str(word) for word in command]
    if os.geteuid() != 0 or user == pwd.getpwuid(0).pw_name:
        return words
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *words]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
