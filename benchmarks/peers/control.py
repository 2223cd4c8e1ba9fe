# SPDX-License-Identifier: Apache-2.0
"""From a wish to ACTIVE on both sides, with api, worker, database and (theirs) message broker, and no real amphora."""

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
from msgspec import Struct

from benchmarks import machine, rig
from benchmarks.client import Document, is_open, until
from benchmarks.client import member as a_member
from benchmarks.peers import upstream
from benchmarks.peers.api import V2, small
from benchmarks.peers.compare import Figure, Report, conclude
from benchmarks.peers.sides import DATABASES, VERSIONS, Side, both, stopped
from benchmarks.rig import command, free_ports
from benchmarks.terminal import Tick, ticking

MEMBERS = 15
POLL_SECONDS, PATIENCE_SECONDS = 0.01, 300.0


class Form(Struct, frozen=True):
    """How many load balancers are made at once, and how often."""

    turns: Mapping[int, int]


LONG, SHORT = Form({1: 10, 10: 3, 100: 2}), Form({1: 5, 10: 2, 30: 1})
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
        until(lambda: is_open("127.0.0.1", port), seconds=90, otherwise=lambda: (home / "log").read_text()[-2000:])
        yield f"rabbit://guest:guest@127.0.0.1:{port}/"
    finally:
        for process in (server, epmd):
            stopped(process)


@contextlib.contextmanager
def workers(sides: Sequence[Side], folder: Path) -> Iterator[None]:
    """Each side's worker."""
    programs = ["octavia-worker", str(upstream.programs() / "octavia-worker")]
    with contextlib.ExitStack() as stack:
        for side, program in zip(sides, [command(programs[0]), programs[1]], strict=True):
            log = stack.enter_context((folder / f"worker-{side.name}.log").open("ab"))
            worker = subprocess.Popen([program, "--config-file", str(side.configuration)], stdout=log, stderr=log)
            stack.callback(stopped, worker)
        try:
            yield
        except AssertionError as error:
            said = "".join(file.read_text()[-3000:] for file in folder.glob("*.log"))
            raise AssertionError(said) from error


def created(side: Side, count: int) -> list[float]:
    """Milliseconds from the first request until each of so many is seen ACTIVE, the last at the end."""
    made: list[Document] = []
    began = time.monotonic()

    def one() -> None:
        api = side.api()
        made.append(api.post(f"{V2}/loadbalancers", small("made"))["loadbalancer"])
        api.close()

    rig.in_parallel({str(number): one for number in range(count)})
    return [1000 * (at - began) for at in seen_active(side, [each["id"] for each in made])]


def seen_active(side: Side, ids: Sequence[str]) -> list[float]:
    """When each of them was. One question at a time: who waits must not be what the others wait for."""
    api, waiting, seen = side.api(), deque(ids), list[float]()

    def is_over() -> bool:
        status = api.status(waiting[0])
        assert status != "ERROR", waiting[0]
        if status == "ACTIVE":
            seen.append(time.monotonic())
            waiting.popleft()
        waiting.rotate(-1)
        return not waiting

    until(is_over, seconds=PATIENCE_SECONDS, step_seconds=POLL_SECONDS, otherwise=lambda: f"{len(waiting)} wait")
    api.close()
    return seen


def members(side: Side) -> list[float]:
    """Milliseconds from each request for a member until its load balancer is ACTIVE again."""
    api, took = side.api(), []
    made = api.post(f"{V2}/loadbalancers", small("members"))["loadbalancer"]
    seen_active(side, [made["id"]])
    pool = api.get(f"{V2}/pools?loadbalancer_id={made['id']}")["pools"][0]["id"]
    for turn in range(MEMBERS):
        began = time.monotonic()
        api.post(f"{V2}/pools/{pool}/members", {"member": a_member(f"203.0.113.{turn + 1}")})
        seen_active(side, [made["id"]])
        took.append(1000 * (time.monotonic() - began))
    api.close()
    return took


def figures(sides: Sequence[Side], form: Form, tick: Tick) -> Iterator[Figure]:
    for count, turns in form.turns.items():
        runs = []
        for turn in range(turns):
            tick(f"create {count} at once, {turn + 1}")
            runs.append([created(side, count) for side in sides])
        yield from of_runs(f"{count} whole tree{'s' if count > 1 else ''} at once", runs)
    tick("members")
    took = [members(side) for side in sides]
    yield Figure(what="a member → ACTIVE again", unit="ms", ours=tuple(took[0]), theirs=tuple(took[1]))


def of_runs(what: str, runs: Sequence[Sequence[list[float]]]) -> Iterator[Figure]:
    """The last of each run, and where there are several the middle one."""
    parts: dict[str, Callable[[list[float]], float]] = {f"{what} → all ACTIVE": max}
    if len(runs[0][0]) > 1:
        parts |= {f"{what} → half of them ACTIVE": statistics.median}
    for name, part in parts.items():
        ours, theirs = zip(*([part(seen) for seen in turn] for turn in runs), strict=True)
        yield Figure(what=name, unit="ms", ours=ours, theirs=theirs)


@click.command()
@click.option("--database", type=click.Choice(list(DATABASES)), default="mariadb", show_default=True,
              help="The server that both use.")
@click.option("--short", is_flag=True, help="Fewer turns, and fewer at once.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON, page and picture there.")
def main(database: str, short: bool, docs: Path | None) -> None:
    """Wishes until they are ACTIVE, with the noop drivers of both sides. Needs rabbitmq-server."""
    facts = machine.facts(**VERSIONS[database], RabbitMQ=["dpkg-query", "-Wf${Version}", "rabbitmq-server"])
    with ticking("broker, apis and workers start") as tick, tempfile.TemporaryDirectory(prefix="st-bench-") as name, \
            broker(Path(name)) as url, both(database, Path(name), url) as sides, workers(sides, Path(name)):
        tick("workers start")
        listening = Path(name) / "octavia-api.log"  # whoever asks before is not heard
        until(lambda: "Starting V2 consumer" in listening.read_text(), seconds=120, step_seconds=0.1)
        for side in sides:
            created(side, 1)
        found = tuple(figures(sides, SHORT if short else LONG, tick))
        names = (sides[0].name, sides[1].name)
    conclude(Report(name=f"control-plane-{database}", title=f"From a wish to ACTIVE on {database}", sides=names,
                    facts=facts, figures=found), docs)


if __name__ == "__main__":
    main()
