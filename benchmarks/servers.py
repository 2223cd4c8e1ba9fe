# SPDX-License-Identifier: Apache-2.0
"""Real PostgreSQL and MariaDB servers of this run's own, each on a unix socket in a folder of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

START_SECONDS = 60


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server's first database."""
    with _folder("postgres") as folder:
        port = _free_port()
        programs = _program("initdb", "postgresql", "/usr/lib/postgresql/*/bin").parent
        _run(_as("postgres", [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "statera", "-N"]))
        server = _as("postgres", [
            programs / "postgres", "-D", folder / "data", "-k", folder, "-p", port, "-c", "listen_addresses=",
            "-c", "fsync=off", "-c", "max_connections=200",
        ])
        url = f"postgresql+psycopg://statera@/postgres?host={folder}&port={port}"
        with _serving(server, url, folder / "log"):
            yield url


@contextmanager
def mariadb() -> Iterator[str]:
    """The URL of a MariaDB server's first database."""
    with _folder("mysql") as folder:
        install = _program("mariadb-install-db", "mariadb-server", "/usr/bin")
        _run(_as("mysql", [
            install, "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal",
            "--skip-test-db", "--skip-name-resolve",
        ]))
        server = _as("mysql", [
            _program("mariadbd", "mariadb-server", "/usr/sbin"), "--no-defaults", f"--datadir={folder}/data",
            f"--socket={folder}/s", "--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--max-connections=200",
            "--innodb-buffer-pool-size=64M",
        ])
        url = f"mysql+pymysql://root@/mysql?unix_socket={folder}/s"
        with _serving(server, url, folder / "log"):
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
def _folder(user: str) -> Iterator[Path]:
    """A new folder with a short name (sockets go into it) that belongs to the server's user."""
    folder = Path(tempfile.mkdtemp(prefix=f"st-{user}-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, user, user)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def _serving(command: Sequence[str], url: str, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _await_answer(url, server, log)
        yield
    finally:
        server.terminate()
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
