# SPDX-License-Identifier: Apache-2.0
"""From a wish to ACTIVE on both sides, with api, worker, database and (theirs) message broker, and no real amphora."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from benchmarks import rig
from benchmarks.client import Api, Document, until
from benchmarks.client import member as a_member
from benchmarks.peers import upstream
from benchmarks.peers.api import V2, small
from benchmarks.peers.compare import Figure, Report, conclude, machine
from benchmarks.peers.sides import Side, both
from benchmarks.rig import command, free_ports

AT_ONCE = (1, 10, 50)
TURNS, MEMBERS = 3, 15
BROKER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[str]:
    """The transport URL of a RabbitMQ of this run's own."""
    port, names, distribution = free_ports(3)
    home = folder / "rabbit"
    home.mkdir()
    (home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    (home / "plugins").write_text("[].\n")
    settings = {
        "HOME": str(home), "RABBITMQ_NODENAME": f"bench{port}@localhost", "RABBITMQ_MNESIA_BASE": f"{home}/db",
        "RABBITMQ_LOG_BASE": str(home), "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins", "ERL_EPMD_PORT": str(names),
        "RABBITMQ_DIST_PORT": str(distribution), "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    with (home / "log").open("ab") as log:
        epmd = subprocess.Popen(["epmd", "-port", str(names), "-address", "127.0.0.1"], stdout=log, stderr=log)
        server = subprocess.Popen([BROKER], stdout=log, stderr=log, env=os.environ | settings)
    try:
        until(lambda: _listens(port), seconds=90, otherwise=lambda: (home / "log").read_text()[-2000:])
        yield f"rabbit://guest:guest@127.0.0.1:{port}/"
    finally:
        for process in (server, epmd):
            process.terminate()
            process.wait(60)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def workers(sides: Sequence[Side], folder: Path) -> Iterator[None]:
    """Each side's worker."""
    programs = ["octavia-worker", str(upstream.programs() / "octavia-worker")]
    with contextlib.ExitStack() as stack:
        for side, program in zip(sides, [command(programs[0]), programs[1]], strict=True):
            log = stack.enter_context((folder / f"worker-{side.name}.log").open("ab"))
            worker = subprocess.Popen([program, "--config-file", str(side.configuration)], stdout=log, stderr=log)
            stack.callback(worker.wait, 60)
            stack.callback(worker.terminate)
        try:
            yield
        except AssertionError as error:
            said = "".join(file.read_text()[-3000:] for file in folder.glob("*.log"))
            raise AssertionError(said) from error


def created(side: Side, count: int) -> float:
    """Milliseconds from the first request until all so many are ACTIVE."""
    made: list[Document] = []
    began = time.monotonic()

    def one() -> None:
        api = side.api()
        made.append(api.post(f"{V2}/loadbalancers", small("made"))["loadbalancer"])
        settled(api, made[-1]["id"])
        api.close()

    rig.in_parallel({str(number): one for number in range(count)})
    return 1000 * (time.monotonic() - began)


def settled(api: Api, id: str) -> None:
    until(lambda: api.status(id) in ("ACTIVE", "ERROR"), seconds=300)
    assert api.status(id) == "ACTIVE"


def members(side: Side) -> list[float]:
    """Milliseconds from each request for a member until its load balancer is ACTIVE again."""
    api, took = side.api(), []
    made = api.post(f"{V2}/loadbalancers", small("members"))["loadbalancer"]
    settled(api, made["id"])
    pool = api.get(f"{V2}/pools?loadbalancer_id={made['id']}")["pools"][0]["id"]
    for turn in range(MEMBERS):
        began = time.monotonic()
        api.post(f"{V2}/pools/{pool}/members", {"member": a_member(f"203.0.113.{turn + 1}")})
        settled(api, made["id"])
        took.append(1000 * (time.monotonic() - began))
    api.close()
    return took


def figures(sides: Sequence[Side], tick: Callable[[str], None]) -> Iterator[Figure]:
    for count in AT_ONCE:
        turns = []
        for turn in range(TURNS):
            tick(f"create {count} at once, {turn + 1}")
            turns.append([created(side, count) for side in sides])
        ours, theirs = zip(*turns, strict=True)
        yield Figure(what=f"{count} whole tree{'s' if count > 1 else ''} at once → all ACTIVE", unit="ms", ours=ours,
                     theirs=theirs)
    tick("members")
    took = [members(side) for side in sides]
    yield Figure(what="a member → ACTIVE again", unit="ms", ours=tuple(took[0]), theirs=tuple(took[1]))


@click.command()
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(docs: Path | None) -> None:
    """Wishes until they are ACTIVE, on MariaDB, with the noop drivers of both sides. Needs rabbitmq-server."""
    facts: Mapping[str, str] = machine({"MariaDB": ["mariadbd", "--version"]})
    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, \
            tempfile.TemporaryDirectory(prefix="st-bench-") as name, broker(Path(name)) as url, \
            both("mariadb", Path(name), url) as sides, workers(sides, Path(name)):
        task = progress.add_task("workers start")
        until(lambda: "Starting V2 consumer" in (Path(name) / "octavia-api.log").read_text(), seconds=120)
        found = tuple(figures(sides, lambda text: progress.update(task, description=text)))
        names = (sides[0].name, sides[1].name)
    conclude(Report(title="From a wish to ACTIVE, without real amphorae", sides=names, facts=dict(facts),
                    figures=found), docs, "control-plane")


if __name__ == "__main__":
    main()
