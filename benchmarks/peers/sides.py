# SPDX-License-Identifier: Apache-2.0
"""Both programs' APIs on one database server each, with the same WSGI server, workers and threads."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from sqlalchemy.engine import Engine, create_engine, make_url

from benchmarks import servers
from benchmarks.client import Api, answers, until
from benchmarks.peers import upstream
from benchmarks.rig import command, family, free_ports, peak_bytes, processor_seconds, pss_bytes
from tests.certificates import Authority

ROOT = Path(__file__).parents[2]
WORKERS, THREADS = 1, 8
PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


class Side(Struct, frozen=True, kw_only=True):
    """A running api. *unlock* is SQL that does what a controller would: ends deletions and, theirs, allows writes."""

    name: str
    url: str
    engine: Engine
    process: int
    configuration: Path
    unlock: tuple[str, ...] = ()

    @property
    def pids(self) -> list[int]:
        return family([self.process])

    def api(self) -> Api:
        return Api(self.url, "bench", "", patience_seconds=300)

    def processor_seconds(self) -> float:
        return processor_seconds(self.pids)

    def memory(self) -> int:
        """Bytes, what processes share counted in parts."""
        return pss_bytes(self.pids)

    def peak_memory(self) -> int:
        """Bytes that each process had at most, summed up."""
        return peak_bytes(self.pids)

    def settle(self) -> None:
        with self.engine.begin() as connection:
            for statement in self.unlock:
                connection.exec_driver_sql(statement)


@contextlib.contextmanager
def statera(url: str, folder: Path) -> Iterator[Side]:
    """Our octavia-api with the noop drivers, on an empty database of its own."""
    [port] = free_ports(1)
    file = folder / "statera.conf"
    file.write_text(f"""\
[DEFAULT]
state_path = {folder}/statera
[database]
connection = {url}
[api_settings]
bind_port = {port}
auth_strategy = noauth
workers = {WORKERS}
threads = {THREADS}
[controller_worker]
compute_driver = noop
network_driver = noop
[certificates]
cert_manager = noop
""")
    options = ["--config-file", str(file)]
    run([command("octavia-db-manage"), *options, "upgrade", "head"], folder / "statera.log")
    with serving([command("octavia-api"), *options], port, folder / "statera.log") as pid:
        yield Side(name="Statera", url=f"http://127.0.0.1:{port}", engine=create_engine(url), process=pid,
                   configuration=file, unlock=PURGE)


@contextlib.contextmanager
def octavia(url: str, folder: Path, broker: str = "fake://") -> Iterator[Side]:
    """The peer's api on an empty database of its own; with its noop provider, unless a *broker* leads to a worker."""
    [port] = free_ports(1)
    write_authority(folder)
    file, programs = folder / "octavia.conf", upstream.programs()
    provider = "noop_driver" if broker == "fake://" else "amphora"
    file.write_text(f"""\
[DEFAULT]
transport_url = {broker}
use_stderr = false
log_file = {folder}/octavia-api.log
[database]
connection = {url}
[api_settings]
auth_strategy = noauth
enabled_provider_drivers = {provider}:A driver.
default_provider_driver = {provider}
pagination_max_limit = 100000
[controller_worker]
amphora_driver = amphora_noop_driver
compute_driver = compute_noop_driver
network_driver = network_noop_driver
image_driver = image_noop_driver
volume_driver = volume_noop_driver
amp_flavor_id = bench
amp_image_tag = bench
amp_boot_network_list = bench
client_ca = {folder}/ca.pem
[certificates]
cert_manager = noop_cert_manager
ca_certificate = {folder}/ca.pem
ca_private_key = {folder}/ca.key
[oslo_messaging]
topic = octavia
""")
    migrate = [str(programs / "octavia-db-manage"), "--config-file", str(file), "upgrade", "head"]
    create = [str(programs / "python"), str(Path(__file__).with_name("peer_schema.py")), url]
    run(migrate if make_url(url).get_backend_name() == "mysql" else create, folder / "octavia.log")
    serve = [
        str(programs / "granian"), "--interface", "wsgi", "--port", str(port), "--workers", str(WORKERS),
        "--blocking-threads", str(THREADS), "--log-level", "warning", "benchmarks.peers.peer_wsgi:application",
    ]
    settings = {"OCTAVIA_CONF": str(file), "PYTHONPATH": str(ROOT)}
    with serving(serve, port, folder / "octavia.log", settings) as pid:
        yield Side(
            name=upstream.RELEASE.replace("==", " ").capitalize(), url=f"http://127.0.0.1:{port}",
            engine=create_engine(url), process=pid, configuration=file, unlock=UNLOCK)


def write_authority(folder: Path) -> None:
    """The peer signs certificates of amphorae even when these are pretended."""
    authority = Authority("bench")
    (folder / "ca.pem").write_text(authority.pem)
    (folder / "ca.key").write_text(authority.key_pem)


PURGE = ("DELETE FROM members WHERE deleting",)
UNLOCK = (
    "DELETE FROM member WHERE provisioning_status = 'PENDING_DELETE'",
    "UPDATE load_balancer SET provisioning_status = 'DELETED' WHERE provisioning_status = 'PENDING_DELETE'",
    *(f"UPDATE {table} SET provisioning_status = 'ACTIVE' WHERE provisioning_status LIKE 'PENDING%%'"
      for table in ("load_balancer", "listener", "pool", "member", "health_monitor", "l7policy", "l7rule")),
)
"""Nobody answers the noop provider, so everything would stay PENDING and refuse every further write."""

VERSIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "mariadb": {"MariaDB": ["mariadbd", "--version"]},
    "postgresql": {"PostgreSQL": ["dpkg-query", "-Wf${Version}", "postgresql-15"]},
}
"""Commands that tell them."""


DATABASES: Mapping[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "mariadb": servers.mariadb, "postgresql": servers.postgresql,
}
"""Those that both run on: the peer's API does not start on SQLite."""


@contextlib.contextmanager
def two_databases(kind: str) -> Iterator[list[str]]:
    """Two empty ones on a server of their own."""
    with DATABASES[kind]() as url:
        yield [_utf8(servers.create_database(url)) for _ in range(2)]


@contextlib.contextmanager
def both(database: str, folder: Path, broker: str = "fake://") -> Iterator[tuple[Side, Side]]:
    """The two sides, each with a database on the same server."""
    with two_databases(database) as urls, statera(urls[0], folder) as ours, octavia(
            urls[1], folder, broker) as theirs:
        yield ours, theirs
        for side in (ours, theirs):
            side.engine.dispose()


def _utf8(url: str) -> str:
    parsed = make_url(url)
    options = {"charset": "utf8mb4"} if parsed.get_backend_name() == "mysql" else {}
    return parsed.update_query_dict(options).render_as_string(hide_password=False)


@contextlib.contextmanager
def serving(argv: list[str], port: int, log: Path, settings: Mapping[str, str] | None = None) -> Iterator[int]:
    """The process of a server that answers on the port; ended afterwards."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env=os.environ | (settings or {}), cwd=ROOT)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}"), seconds=60, otherwise=lambda: log.read_text()[-2000:])
        yield process.pid
    finally:
        stopped(process)


def stopped(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it started; who does not go in time is killed."""
    pids = family([process.pid])
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(30)


def run(argv: list[str], log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(argv, stdout=output, stderr=output, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} failed: {log.read_text()[-2000:]}")
