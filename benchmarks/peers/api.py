# SPDX-License-Identifier: Apache-2.0
"""Requests to both APIs: lists, shows, status trees and writes, on the same rows of the same database server."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import click
from msgspec import Struct
from sqlalchemy import text

from benchmarks import machine
from benchmarks.client import Api, Document
from benchmarks.client import member as a_member
from benchmarks.peers.asking import Asked, asked
from benchmarks.peers.compare import Figure, Report, conclude
from benchmarks.peers.copies import copy_load_balancer
from benchmarks.peers.sides import DATABASES, PROJECT, THREADS, VERSIONS, WORKERS, Side, both
from benchmarks.terminal import Tick, ticking

BATCH, BIG = 500, 2_000


class Form(Struct, frozen=True, kw_only=True):
    """How much of it: a turn of reads lasts *seconds*, and none begins after *patience_seconds*; a write is done as
    often as the table says times *share*."""

    turns: int
    patience_seconds: float
    seconds: float
    share: float
    reads: Sequence[str]

ROOTS = {"Statera": "load_balancers"}
"""The table of load balancers; upstream's has the other number."""

V2 = "/v2/lbaas"


class World(Struct, kw_only=True):
    """One side with its rows: the last load balancer of many, a pool of many members, and one for batches."""

    side: Side
    small: str = ""
    big: str = ""
    exchanged: str = ""
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
LONG = Form(turns=5, patience_seconds=8.0, seconds=1.0, share=1.0, reads=tuple(READS))
SHORT = Form(turns=3, patience_seconds=2.0, seconds=0.4, share=0.5, reads=(
    "list 10 load balancers", "list 1,000 load balancers", "list by provisioning_status and project",
    "a page of 100 behind the 800th", "show a load balancer", "status tree of a small one",
    "show a pool of 2,000 members"))


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
    world.big, world.exchanged = (pool_of(api, side, name) for name in ("big", "exchanged"))
    for first in range(0, BIG, BATCH):
        api.put(f"{V2}/pools/{world.big}/members?additive_only=true", {"members": addresses(first)})
        side.settle()
    listed = api.get(f"{V2}/loadbalancers?limit={min(fleet, 900)}")["loadbalancers"]
    world.marker = listed[min(len(listed) - 1, 799)]["id"]
    api.close()
    analyze(side)
    return world


def pool_of(api: Api, side: Side, name: str) -> str:
    """The id of the pool of a new load balancer."""
    made = api.post(f"{V2}/loadbalancers", small(name))["loadbalancer"]
    side.settle()
    return str(api.get(f"{V2}/pools?loadbalancer_id={made['id']}")["pools"][0]["id"])


def addresses(first: int) -> list[Document]:
    """Members for a batch."""
    return [a_member(f"198.18.{(first + n) // 250}.{(first + n) % 250 + 1}", 8000) for n in range(BATCH)]


def analyze(side: Side) -> None:
    """Let the database count its rows, as it does by itself on a server that lives longer."""
    with side.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if side.engine.dialect.name in ("postgresql", "sqlite"):
            connection.execute(text("ANALYZE"))


def reads(worlds: Sequence[World], form: Form, tick: Tick) -> Iterator[Figure]:
    """Each read by one and by sixteen clients."""
    for what in form.reads:
        for clients in CLIENTS:
            tick(f"{what}, {clients}")
            measure = partial(asking, ask=READS[what], clients=clients, seconds=form.seconds)
            yield from of_asked(what, clients, in_turns(worlds, form, measure))


def at_once(worlds: Sequence[World], form: Form, tick: Tick) -> Iterator[Figure]:
    """Creations by sixteen clients."""
    for what, body in CREATIONS.items():
        tick(f"{what}, {CLIENTS[-1]}")
        measure = partial(asking, ask=lambda world: f"{V2}/loadbalancers", clients=CLIENTS[-1], seconds=form.seconds,
                          body=body)
        yield from of_asked(what, CLIENTS[-1], in_turns(worlds, form, measure))


def asking(world: World, *, ask: Ask, clients: int, seconds: float, body: Document | None = None) -> Asked:
    return asked(world.side, ask(world), clients=clients, seconds=seconds, body=body)


def of_asked(what: str, clients: int, turns: Sequence[Sequence[Asked]]) -> Iterator[Figure]:
    """Each number of both sides."""
    name = f"{what}, {clients} client{'s' if clients > 1 else ''}"
    for kind, (unit, number) in NUMBERS.items():
        ours, theirs = (tuple(number(turn[side]) for turn in turns) for side in range(2))
        yield Figure(what=f"{name}{kind}", unit=unit, ours=ours, theirs=theirs,
                     target=None if kind else TARGETS.get(what), plotted=not kind)


NUMBERS: dict[str, tuple[str, Callable[[Asked], float]]] = {
    "": ("/s", lambda it: it.rate),
    ": median": ("ms", lambda it: it.median_ms),
    ": p99": ("ms", lambda it: it.p99_ms),
    ": processor": ("ms", lambda it: max(it.cpu_ms, 0.01)),
}


def in_turns(worlds: Sequence[World], form: Form, measure: Callable[[World], Asked]) -> list[list[Asked]]:
    """A B, A B …"""
    began, values = time.monotonic(), list[list[Asked]]()
    while len(values) < form.turns and (not values or time.monotonic() < began + form.patience_seconds):
        values.append([measure(world) for world in worlds])
    return values


def writes(worlds: Sequence[World], form: Form, tick: Tick) -> Iterator[Figure]:
    """One request after the other, each answer timed; what the other side needs between two is not."""
    for what, (act, times) in WRITES_OF.items():
        tick(what)
        runs = [in_ms(world, act, max(3, int(times * form.share))) for world in worlds]
        yield Figure(what=f"{what}: median", unit="ms", ours=fifths(runs[0]), theirs=fifths(runs[1]))
        yield Figure(what=f"{what}: slowest", unit="ms", ours=(max(runs[0]),), theirs=(max(runs[1]),))


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
    """Medians of five parts of the run: their spread is the run's own. Few values stand for themselves."""
    size = len(values) // 5
    if not size:
        return tuple(values)
    return tuple(statistics.median(values[part * size:(part + 1) * size]) for part in range(5))


Act = Callable[[Api, World, int], Callable[[], object]]


def alone(name: str) -> Document:
    """A load balancer without children."""
    return {"loadbalancer": {"name": name, "vip_subnet_id": str(uuid4()), "project_id": PROJECT}}


CREATIONS = {"create a load balancer": alone("alone"), "create a whole tree": small("whole")}


def create(api: Api, world: World, turn: int) -> Callable[[], object]:
    return partial(api.post, f"{V2}/loadbalancers", alone(f"new-{turn}"))


def create_tree(api: Api, world: World, turn: int) -> Callable[[], object]:
    return partial(api.post, f"{V2}/loadbalancers", small(f"tree-{turn}"))


def update(api: Api, world: World, turn: int) -> Callable[[], object]:
    wanted = {"loadbalancer": {"description": f"turn {turn}"}}
    return partial(api.put, f"{V2}/loadbalancers/{world.small}", wanted)


def add_member(api: Api, world: World, turn: int) -> Callable[[], object]:
    wanted = {"member": a_member(f"203.0.{turn // 250}.{turn % 250 + 1}", 8080)}
    return partial(api.post, f"{V2}/pools/{world.big}/members", wanted)


def batch(api: Api, world: World, turn: int) -> Callable[[], object]:
    """One half of the members is exchanged; there are two at first."""
    if turn == 0:
        api.put(f"{V2}/pools/{world.exchanged}/members", {"members": addresses(BATCH // 2)})
    return partial(api.put, f"{V2}/pools/{world.exchanged}/members", {"members": addresses(turn % 2 * BATCH // 2)})


def delete(api: Api, world: World, turn: int) -> Callable[[], object]:
    """One of those that were made before."""
    made = api.get(f"{V2}/loadbalancers?name=tree-{turn}")["loadbalancers"]
    made = made or [api.post(f"{V2}/loadbalancers", small(f"tree-{turn}"))["loadbalancer"]]
    return partial(api.delete, f"{V2}/loadbalancers/{made[0]['id']}?cascade=true")


WRITES_OF: dict[str, tuple[Act, int]] = {
    "create a load balancer": (create, 40), "create a whole tree": (create_tree, 40),
    "update a load balancer": (update, 40), "add a member": (add_member, 20), "delete with cascade": (delete, 40),
    f"batch of {BATCH} members": (batch, 5),
}


def statements(worlds: Sequence[World], form: Form, tick: Tick) -> Iterator[Figure]:
    """SQL statements of one request, counted by the server; MariaDB alone tells them."""
    if worlds[0].side.engine.dialect.name != "mysql":
        return
    acts = {what: reading(READS[what]) for what in form.reads} | {what: act for what, (act, _) in WRITES_OF.items()}
    for what, act in acts.items():
        tick(f"statements: {what}")
        counts = [float(questions(world, act)) for world in worlds]
        yield Figure(what=f"SQL statements: {what}", unit="", ours=(counts[0],), theirs=(counts[1],))


def reading(ask: Ask) -> "Act":
    return lambda api, world, _turn: partial(api.get, ask(world))


def questions(world: World, act: "Act") -> int:
    """Statements that the server was asked for one request: the fewest, as others may ask, too."""
    api, counts = world.side.api(), []
    for turn in range(1_000, 1_003):
        request = act(api, world, turn)
        world.side.settle()
        before = asked_so_far(world)
        request()
        counts.append(asked_so_far(world) - before - 1)
        world.side.settle()
    api.close()
    return min(counts)


def asked_so_far(world: World) -> int:
    with world.side.engine.connect() as connection:
        return int(connection.execute(text("SHOW GLOBAL STATUS LIKE 'Questions'")).one()[1])


def memory(worlds: Sequence[World], form: Form, tick: Tick) -> Iterator[Figure]:
    """What the api's processes hold after all of it, and held at most."""
    now, peak = ([number(world.side) / 1e6 for world in worlds] for number in (Side.memory, Side.peak_memory))
    yield Figure(what="memory of the api after it all", unit="MB", ours=(now[0],), theirs=(now[1],))
    yield Figure(what="most memory of the api", unit="MB", ours=(peak[0],), theirs=(peak[1],))


PARTS = {"reads": reads, "writes": writes, "at-once": at_once, "statements": statements, "memory": memory}


@click.command()
@click.option("--database", type=click.Choice(list(DATABASES)), default="mariadb", show_default=True,
              help="The server that both use.")
@click.option("--fleet", type=click.IntRange(1), default=1000, show_default=True, help="Load balancers there are.")
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="This part alone; may be repeated.")
@click.option("--short", is_flag=True, help="Fewer requests, and not all kinds.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON, page and picture there.")
def main(database: str, fleet: int, only: Sequence[str], short: bool, docs: Path | None) -> None:
    """Both APIs beside each other. Installs the peer from the package registry at the first run; needs h2load."""
    figures, form = list[Figure](), SHORT if short else LONG
    facts = machine.facts(**VERSIONS[database], h2load=["h2load", "--version"])
    with ticking("start both") as tick, tempfile.TemporaryDirectory(prefix="st-bench-") as folder, \
            both(database, Path(folder)) as sides:
        tick(f"fill both with {fleet} load balancers")
        worlds = [fill(side, fleet) for side in sides]
        for part in only or PARTS:
            figures += PARTS[part](worlds, form, tick)
        names = (sides[0].name, sides[1].name)
    facts["of each side"] = f"{WORKERS} worker of granian with {THREADS} threads"
    conclude(Report(name=f"api-{database}-{fleet}", title=f"The API on {database} with {fleet:,} load balancers",
                    sides=names, facts=facts, figures=tuple(figures)), docs)


if __name__ == "__main__":
    main()
