# SPDX-License-Identifier: Apache-2.0
"""How answers slow down as a fleet grows: the same requests to both APIs with more and more load balancers."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks import machine
from benchmarks.client import Api
from benchmarks.peers import plots
from benchmarks.peers.api import ROOTS, V2, Ask, World, analyze, create_tree, small
from benchmarks.peers.compare import Figure, Report, conclude
from benchmarks.peers.copies import copy_load_balancer
from benchmarks.peers.sides import DATABASES, PROJECT, VERSIONS, Side, both
from benchmarks.terminal import ticking

REPEATS = 5
SHORT_SIZES = "100,1000,3000"
ASKS: dict[str, Ask] = {
    "list 100": lambda world: f"{V2}/loadbalancers?limit=100",
    "list by status": lambda world: f"{V2}/loadbalancers?provisioning_status=ERROR&project_id={PROJECT}",
    "list by name": lambda world: f"{V2}/loadbalancers?name=small-7",
    "a page behind the middle": lambda world: f"{V2}/loadbalancers?limit=100&marker={world.marker}",
    "show": lambda world: f"{V2}/loadbalancers/{world.small}",
}
CREATE = "create a whole tree"


def first(side: Side) -> World:
    """A side with one load balancer."""
    api = side.api()
    made = api.post(f"{V2}/loadbalancers", small("small"))["loadbalancer"]["id"]
    side.settle()
    api.close()
    return World(side=side, small=made, marker=made)


def grow(world: World, *, by: int) -> None:
    copy_load_balancer(world.side.engine, ROOTS.get(world.side.name, "load_balancer"), world.small, copies=by)
    analyze(world.side)


def answers_ms(world: World, size: int) -> dict[str, list[float]]:
    """Each question's answers, one after the other."""
    api = world.side.api()
    took = {what: [ms(api, path(world)) for _ in range(REPEATS + 1)][1:] for what, path in ASKS.items()}
    took[CREATE] = []
    for turn in range(REPEATS):
        act = create_tree(api, world, size + turn)
        began = time.monotonic()
        act()
        took[CREATE].append(1000 * (time.monotonic() - began))
        world.side.settle()
    api.close()
    return took


def ms(api: Api, path: str) -> float:
    began = time.monotonic()
    api.get(path)
    return 1000 * (time.monotonic() - began)


@click.command()
@click.option("--database", type=click.Choice(list(DATABASES)), default="mariadb", show_default=True,
              help="The server that both use.")
@click.option("--sizes", default="100,1000,10000", show_default=True, help="Load balancers, growing.")
@click.option("--short", is_flag=True, help="The same, up to 3,000.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON, page and pictures there.")
def main(database: str, sizes: str, short: bool, docs: Path | None) -> None:
    """Both APIs with more and more load balancers."""
    steps = [int(size) for size in (SHORT_SIZES if short else sizes).split(",")]
    facts, found = machine.facts(**VERSIONS[database]), dict[int, list[dict[str, list[float]]]]()
    with ticking("start both") as tick, tempfile.TemporaryDirectory(prefix="st-bench-") as folder, \
            both(database, Path(folder)) as sides:
        worlds, there = [first(side) for side in sides], 1
        for size in steps:
            tick(f"{size} load balancers")
            for world in worlds:
                grow(world, by=size - there)
            found[size] = [answers_ms(world, size) for world in worlds]
            there = size + REPEATS
        names = (sides[0].name, sides[1].name)
    report = Report(name=f"growth-{database}", title=f"Answers while a fleet grows, on {database}", sides=names,
                    facts=facts, figures=tuple(figures(found)),
                    pictures={"how answers slow down": f"growth-{database}-lines.svg"})
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        draw(found, names, docs / f"growth-{database}-lines.svg")
    conclude(report, docs)


def figures(found: dict[int, list[dict[str, list[float]]]]) -> list[Figure]:
    return [
        Figure(what=f"{what}, of {size:,}", unit="ms", ours=tuple(ours[what]), theirs=tuple(theirs[what]))
        for what in (*ASKS, CREATE) for size, (ours, theirs) in found.items()
    ]


def draw(found: dict[int, list[dict[str, list[float]]]], names: Sequence[str], file: Path) -> None:
    lines = {
        what: {name: {size: statistics.median(both[number][what]) for size, both in found.items()}
               for number, name in enumerate(names)}
        for what in (*ASKS, CREATE)
    }
    plots.growth(lines, file, unit="ms")


if __name__ == "__main__":
    main()
