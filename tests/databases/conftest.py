# SPDX-License-Identifier: Apache-2.0
"""A fresh database for each test, on SQLite and on real PostgreSQL and MariaDB servers of this run's own.

A server is started once, on a unix socket or a free port, in a folder of its own, and stopped at the end.
A server program that is not installed fails the test and names the package: it is never skipped.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, delete, insert, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.migrations.upgrade import upgrade
from statera.store.tables import load_balancers, metadata
from statera.store.wake import announce

START_SECONDS = 60


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty database of each kind."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/statera.db"
    return _create_database(request.getfixturevalue(backend))


@pytest.fixture
def new_store(database_url: str) -> Iterator[Store]:
    """A store of its own, with the schema as the migrations make it."""
    store = Store(database_url)
    upgrade(store)
    yield store
    store.close()


@pytest.fixture(scope="session")
def ready(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """From a kind to the URL of a database that has the schema, made at the first call."""

    @cache
    def url_of(backend: str) -> str:
        if backend == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('ready')}/statera.db"
        else:
            url = _create_database(request.getfixturevalue(backend))
        store = Store(url)
        upgrade(store)
        store.close()
        return url

    return url_of


@pytest.fixture
def store(backend: str, ready: Callable[[str], str]) -> Iterator[Store]:
    """A store with the schema and no rows; faster than `new_store`, and shared one after the other."""
    store = Store(ready(backend))
    with store.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    yield store
    store.close()


def _create_database(server: str) -> str:
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
                pytest.fail(f"the server does not answer: {error}\n{log.read_text()}")
            time.sleep(0.05)
        else:
            return engine.dispose()


def _door(folder: Path) -> Path:
    """The server's unix socket, or where one will be."""
    return next((path for path in folder.iterdir() if path.is_socket()), folder / "s")


def _program(name: str, package: str, folders: str) -> Path:
    places = sorted(Path("/").glob(f"{folders.lstrip('/')}/{name}"))
    if not places:
        pytest.fail(f"{name} is not installed: apt-get install {package}")
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
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def load_balancer(store: Store) -> Callable[..., str]:
    """Write down a load balancer as the API would and return its id."""
    return lambda **facts: _add_load_balancer(store, **facts)


def _add_load_balancer(store: Store, **facts: object) -> str:
    id = str(uuid4())
    values = {
        "id": id, "project_id": "p", "provider": "amphora", "topology": "SINGLE", "created_at": utc_now(),
        "vip_subnet_id": str(uuid4()), "vip_network_id": str(uuid4()), "vip_address": "198.51.100.5", "due_ms": 1,
    }
    with store.write() as connection:
        connection.execute(insert(load_balancers).values(**(values | facts)))
        announce(connection)
    return id
