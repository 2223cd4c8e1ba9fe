# SPDX-License-Identifier: Apache-2.0
"""Requests to both APIs: lists, shows, status trees and writes, on the same rows of the same database server."""

import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from sqlalchemy import text

from benchmarks.client import Api, Document
from benchmarks.client import member as a_member
from benchmarks.peers.compare import Figure, Report, conclude, machine
from benchmarks.peers.copies import copy_load_balancer
from benchmarks.peers.sides import PROJECT, Side, both

TURNS, BATCH, BIG = 5, 500, 2_000
SECONDS, LONGEST_SECONDS = 1.0, 20.0
"""Of each measurement; the longer one where a request takes long."""

ROOTS = {"Statera": "load_balancers"}
"""The table of load balancers; upstream's has the other number."""

V2 = "/v2/lbaas"


class World(Struct, kw_only=True):
    """One side with its rows: the last load balancer of many, and one with a big tree."""

    side: Side
    small: str = ""
    big: str = ""
    marker: str = ""


Ask = Callable[[World], str]
READS: dict[str, Ask] = {
    "list 10 load balancers": lambda world: f"{V2}/loadbalancers?limit=10",
    "list 100 load balancers": lambda world: f"{V2}/loadbalancers?limit=100",
    "list 1,000 load balancers": lambda world: f"{V2}/loadbalancers?limit=1000",
    "list 1,000 listeners": lambda world: f"{V2}/listeners?limit=1000",
    "list by name": lambda world: f"{V2}/loadbalancers?name=small-7",
    "list by provisioning_status and project": lambda world:
        f"{V2}/loadbalancers?provisioning_status=ERROR&project_id={PROJECT}",
    "list 100 members of a pool of 2,000": lambda world: f"{V2}/pools/{world.big}/members?limit=100",
    "a page of 100 behind the 800th": lambda world: f"{V2}/loadbalancers?limit=100&marker={world.marker}",
    "show a load balancer": lambda world: f"{V2}/loadbalancers/{world.small}",
    "status tree of a small one": lambda world: f"{V2}/loadbalancers/{world.small}/status",
    "show a pool of 2,000 members": lambda world: f"{V2}/pools/{world.big}",
}
TARGETS = {"list 1,000 load balancers": 8.0}
CLIENTS = (1, 16)


def small(name: str) -> Document:
    """A load balancer as they come: a listener, a pool of two, a monitor."""
    pool = {"name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "members": [a_member("192.0.2.10"), a_member("192.0.2.11")],
            "healthmonitor": {"type": "HTTP", "delay": 5, "timeout": 2, "max_retries": 2}}
    listener = {"name": "listener", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    return {"loadbalancer": {
        "name": name, "vip_subnet_id": str(uuid4()), "project_id": PROJECT, "listeners": [listener]}}


def fill(side: Side, fleet: int) -> World:
    """Rows to read: *fleet* small load balancers and one whose pool has 2,000 members."""
    api, root = side.api(), ROOTS.get(side.name, "load_balancer")
    world = World(side=side)
    world.small = api.post(f"{V2}/loadbalancers", small("small"))["loadbalancer"]["id"]
    side.settle()
    if fleet > 1:
        copy_load_balancer(side.engine, root, world.small, copies=fleet - 1)
    made = api.post(f"{V2}/loadbalancers", small("big"))["loadbalancer"]
    side.settle()
    world.big = api.get(f"{V2}/pools?loadbalancer_id={made['id']}")["pools"][0]["id"]
    for first in range(0, BIG, BATCH):
        many = [a_member(f"198.18.{(first + n) // 250}.{(first + n) % 250 + 1}", 8000) for n in range(BATCH)]
        api.put(f"{V2}/pools/{world.big}/members?additive_only=true", {"members": many})
        side.settle()
    listed = api.get(f"{V2}/loadbalancers?limit={min(fleet, 900)}")["loadbalancers"]
    world.marker = listed[min(len(listed) - 1, 799)]["id"]
    api.close()
    analyze(side)
    return world


def analyze(side: Side) -> None:
    """Let the database count its rows, as it does by itself on a server that lives longer."""
    with side.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if side.engine.dialect.name in ("postgresql", "sqlite"):
            connection.execute(text("ANALYZE"))


def reads(worlds: Sequence[World], tick: Callable[[str], None]) -> Iterator[Figure]:
    """Each read by one and by sixteen clients."""
    for what, path in READS.items():
        for clients in CLIENTS:
            tick(f"{what}, {clients}")
            rates = in_turns(worlds, lambda world, ask=path, many=clients: rate(world.side.url + ask(world), many))
            name = f"{what}, {clients} client{'s' if clients > 1 else ''}"
            yield Figure(what=name, unit="/s", ours=rates[0], theirs=rates[1], target=TARGETS.get(what))


def rate(url: str, clients: int) -> float:
    """Requests per second; all must be answered with 200."""
    seconds = min(LONGEST_SECONDS, max(SECONDS, 2 * clients * first_answer(url)))
    argv = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout", "60s", url]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, f"{url}: {said}"
    return float(said.partition("Requests/sec:")[2].split()[0])


def first_answer(url: str) -> float:
    began = time.monotonic()
    with urllib.request.urlopen(url) as answer:
        answer.read()
    return time.monotonic() - began


def in_turns(worlds: Sequence[World], measure: Callable[[World], float]) -> tuple[tuple[float, ...], ...]:
    """A B, A B …"""
    values = [[measure(world) for world in worlds] for _ in range(TURNS)]
    return tuple(zip(*values, strict=True))


def writes(worlds: Sequence[World], tick: Callable[[str], None]) -> Iterator[Figure]:
    """One request after the other, each answer timed; what the other side needs between two is not."""
    for what, (act, times) in WRITES_OF.items():
        tick(what)
        runs = [in_ms(world, act, times) for world in worlds]
        yield Figure(what=f"{what}, median", unit="ms", ours=fifths(runs[0]), theirs=fifths(runs[1]))
        yield Figure(what=f"{what}, slowest", unit="ms", ours=(max(runs[0]),), theirs=(max(runs[1]),))


def in_ms(world: World, act: "Act", times: int) -> list[float]:
    api = world.side.api()
    took = []
    for turn in range(times):
        request = act(api, world, turn)
        world.side.settle()
        began = time.monotonic()
        request()
        took.append(1000 * (time.monotonic() - began))
        world.side.settle()
    api.close()
    return took


def fifths(values: Sequence[float]) -> tuple[float, ...]:
    """Medians of five parts of the run: their spread is the run's own."""
    size = len(values) // 5
    return tuple(statistics.median(values[part * size:(part + 1) * size]) for part in range(5))


Act = Callable[[Api, World, int], Callable[[], object]]


def create(api: Api, world: World, turn: int) -> Callable[[], object]:
    wanted = {"loadbalancer": {"name": f"new-{turn}", "vip_subnet_id": str(uuid4()), "project_id": PROJECT}}
    return partial(api.post, f"{V2}/loadbalancers", wanted)


def create_tree(api: Api, world: World, turn: int) -> Callable[[], object]:
    return partial(api.post, f"{V2}/loadbalancers", small(f"tree-{turn}"))


def update(api: Api, world: World, turn: int) -> Callable[[], object]:
    wanted = {"loadbalancer": {"description": f"turn {turn}"}}
    return partial(api.put, f"{V2}/loadbalancers/{world.small}", wanted)


def add_member(api: Api, world: World, turn: int) -> Callable[[], object]:
    wanted = {"member": a_member(f"203.0.113.{turn + 1}", 8080)}
    return partial(api.post, f"{V2}/pools/{world.big}/members", wanted)


def batch(api: Api, world: World, turn: int) -> Callable[[], object]:
    """Two thousand members are exchanged for five hundred at first, then one half of those for others."""
    many = [a_member(f"198.18.{n // 250 + turn % 2}.{n % 250 + 1}", 8000) for n in range(BATCH)]
    return partial(api.put, f"{V2}/pools/{world.big}/members", {"members": many})


def delete(api: Api, world: World, turn: int) -> Callable[[], object]:
    [made] = api.get(f"{V2}/loadbalancers?name=tree-{turn}")["loadbalancers"]
    return partial(api.delete, f"{V2}/loadbalancers/{made['id']}?cascade=true")


WRITES_OF: dict[str, tuple[Act, int]] = {
    "create a load balancer": (create, 40), "create a whole tree": (create_tree, 40),
    "update a load balancer": (update, 40), "add a member": (add_member, 20), "delete with cascade": (delete, 40),
    f"batch of {BATCH} members": (batch, 5),
}


def statements(worlds: Sequence[World], tick: Callable[[str], None]) -> Iterator[Figure]:
    """SQL statements of one request, counted by the server; MariaDB alone tells them."""
    if worlds[0].side.engine.dialect.name != "mysql":
        return
    for what, path in READS.items():
        tick(f"statements: {what}")
        counts = [float(questions(world, path(world))) for world in worlds]
        yield Figure(what=f"SQL statements: {what}", unit="", ours=(counts[0],), theirs=(counts[1],))


def questions(world: World, path: str) -> int:
    """Statements that the server was asked during ten requests, for each of them."""
    api = world.side.api()
    api.get(path)
    before = asked(world)
    for _ in range(10):
        api.get(path)
    after = asked(world)
    api.close()
    return round((after - before - 1) / 10)


def asked(world: World) -> int:
    with world.side.engine.connect() as connection:
        return int(connection.execute(text("SHOW GLOBAL STATUS LIKE 'Questions'")).one()[1])


def footprint(worlds: Sequence[World], tick: Callable[[str], None]) -> Iterator[Figure]:
    """Processor time of a request and memory after all of it."""
    tick("processor time")
    path = READS["list 100 load balancers"]
    costs = in_turns(worlds, lambda world: cost_ms(world, path(world)))
    yield Figure(what="processor time of listing 100", unit="ms", ours=costs[0], theirs=costs[1])
    held = [world.side.memory() / 1e6 for world in worlds]
    yield Figure(what="memory of the api after it all", unit="MB", ours=(held[0],), theirs=(held[1],))


def cost_ms(world: World, path: str) -> float:
    api, before = world.side.api(), world.side.processor_seconds()
    for _ in range(20):
        api.get(path)
    api.close()
    return 1000 * (world.side.processor_seconds() - before) / 20


PARTS = {"reads": reads, "statements": statements, "writes": writes, "footprint": footprint}


@click.command()
@click.option("--database", type=click.Choice(["mariadb", "postgresql", "sqlite"]), default="mariadb",
              show_default=True, help="The server that both use.")
@click.option("--fleet", type=click.IntRange(1), default=1000, show_default=True, help="Load balancers there are.")
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="This part alone; may be repeated.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(database: str, fleet: int, only: Sequence[str], docs: Path | None) -> None:
    """Both APIs beside each other. Installs the peer from the package registry at the first run; needs wrk."""
    figures: list[Figure] = []
    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, \
            tempfile.TemporaryDirectory(prefix="st-bench-") as folder:
        task = progress.add_task("start both", total=None)
        facts = machine({"wrk": ["wrk", "-v"]})
        with both(database, Path(folder)) as sides:
            progress.update(task, description=f"fill both with {fleet} load balancers")
            worlds = [fill(side, fleet) for side in sides]
            for part in only or PARTS:
                figures += PARTS[part](worlds, lambda text: progress.update(task, description=text))
            names = (sides[0].name, sides[1].name)
    report = Report(title=f"The API on {database} with {fleet:,} load balancers", sides=names, facts=facts,
                    figures=tuple(figures))
    conclude(report, docs, f"api-{database}-{fleet}")


if __name__ == "__main__":
    main()
