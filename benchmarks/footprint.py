# SPDX-License-Identifier: Apache-2.0
"""What it takes to be there: memory, file descriptors and the time until commands and services answer."""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from benchmarks import by_hand, jobs, machine, rig
from benchmarks.bench import Bench
from benchmarks.by_hand import Shape
from benchmarks.client import Document
from benchmarks.rig import Cloud
from benchmarks.rows import Row, Sheet, conclude, measured
from benchmarks.terminal import ticking

FLEETS, SHORT_FLEETS = (1, 10, 100), (1, 10)
COMMANDS, STARTS = 7, 3
IDLE_SECONDS, BUSY_SECONDS = 3.0, 6
CLIENTS = 200


def commands(bench: Bench) -> Iterator[Row]:
    """What a command takes before it does anything, beside Python alone."""
    status = [rig.command("statera"), "status", "--state", str(bench.cloud.state)]
    for what, argv, target in (
        ("python -c pass", [sys.executable, "-c", "pass"], None),
        ("statera --help", [rig.command("statera"), "--help"], 150.0),
        ("statera lb --help", [rig.command("statera"), "lb", "--help"], None),
        ("statera status", status, None),
    ):
        bench.tick(what)
        took = tuple(1000 * timed(argv) for _ in range(COMMANDS))
        yield Row(what=what, values=took, target=f"≤ {target:g} median" if target else "",
                  failed=target is not None and statistics.median(took) > target)


def timed(argv: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def start(bench: Bench) -> Iterator[Row]:
    """All of it, until the api answers and the host is a node."""
    fresh, again = [], []
    for turn in range(STARTS):
        bench.tick(f"statera up, {turn + 1}")
        cloud = Cloud(bench.cloud.state.parent / f"start-{turn}")
        fresh.append(1000 * cloud.start())
        cloud.stop()
        again.append(1000 * cloud.start())
        cloud.purge()
    yield Row(what="statera up, new folder → ready", values=tuple(fresh))
    yield Row(what="statera up, again → ready", values=tuple(again))


def amphorae(bench: Bench, fleets: Sequence[int]) -> Iterator[Row]:
    """One amphora after the other, up to the last of *fleets*."""
    made: list[Document] = []
    yield from held(bench, 0)
    for size in fleets:
        bench.tick(f"{size} amphorae")
        made += jobs.side_by_side(bench, range(len(made), size), lambda api, number: api.post(
            "/v2/lbaas/loadbalancers", bench.request(name=f"idle-{number}"))["loadbalancer"])
        for one in made:
            bench.api.wait_for(one["id"], "ACTIVE", seconds=120)
        threading.Event().wait(IDLE_SECONDS)
        yield from idle(bench, made)
        yield from held(bench, size)
    yield from busy(bench, made[0])


def idle(bench: Bench, made: Sequence[Document]) -> Iterator[Row]:
    """Everything that runs in the amphorae's namespaces."""
    inside = [inhabitants(amphora_id) for one in made for amphora_id in bench.cloud.haproxies(one["id"])]
    memory = tuple(megabytes(pids) for pids in inside)
    yield Row(what=f"memory of an idle amphora, of {len(made)}", values=memory, unit="MB", target="≤ 25",
              failed=statistics.median(memory) > 25)
    yield Row(what=f"file descriptors of an idle amphora, of {len(made)}", unit="",
              values=tuple(float(descriptors(pids)) for pids in inside))


def held(bench: Bench, size: int) -> Iterator[Row]:
    """What the services hold that carry so many."""
    agent = bench.cloud.service("statera-agent")
    assert agent is not None
    tree = [pid for pid in rig.family([parent(agent)]) if namespace(pid) == namespace(agent)]
    yield Row(what=f"memory of the agent with {size} amphorae", values=(megabytes([agent]),), unit="MB")
    yield Row(what=f"file descriptors of the agent with {size} amphorae", values=(descriptors([agent]),), unit="")
    yield Row(what=f"memory of all of statera up with {size} amphorae", values=(megabytes(tree),), unit="MB")


def busy(bench: Bench, made: Document) -> Iterator[Row]:
    """The same amphora and a HAProxy by hand with the same listener, each at rest and under load."""
    shape = Shape(servers=[f"{address}:80" for address in bench.network.servers[:2]])
    [amphora_id] = bench.cloud.haproxies(made["id"])
    with by_hand.haproxy(made, amphora_id, shape, folder=bench.cloud.state.parent) as hand:
        theirs = rig.family([hand])
        ours = [pid for pid in inhabitants(amphora_id) if pid not in theirs]
        yield Row(what="memory of an idle HAProxy by hand", values=(megabytes(theirs),), unit="MB")
        yield Row(what="file descriptors of an idle HAProxy by hand", values=(descriptors(theirs),), unit="")
        for name, port, pids in (("amphora", 80, ours), ("HAProxy by hand", by_hand.PORT, theirs)):
            bench.tick(f"{name} with {CLIENTS} clients")
            memory, files = under_load(made["vip_address"], port, pids)
            yield Row(what=f"memory of a busy {name}, {CLIENTS} clients", values=(memory,), unit="MB")
            yield Row(what=f"file descriptors of a busy {name}", values=(files,), unit="")


def under_load(address: str, port: int, pids: Sequence[int]) -> tuple[float, int]:
    """Memory and descriptors in the midst of requests on kept connections."""
    argv = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{BUSY_SECONDS}s", f"http://{address}:{port}/"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as wrk:
        threading.Event().wait(BUSY_SECONDS / 2)
        found = megabytes(pids), descriptors(pids)
        wrk.wait(BUSY_SECONDS + 30)
    return found


def inhabitants(amphora_id: str) -> list[int]:
    """The processes in the amphora's namespace."""
    wanted = os.stat(f"/run/netns/amphora-{amphora_id}").st_ino
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if namespace(pid) == wanted]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def megabytes(pids: Sequence[int]) -> float:
    return rig.pss_bytes(pids) / 1e6


def descriptors(pids: Sequence[int]) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


@click.command()
@click.option("--short", is_flag=True, help="No more than ten amphorae.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all values there too.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(short: bool, file: Path | None, docs: Path | None) -> None:
    """Measure memory, file descriptors and starting times on this host. Needs root, HAProxy and wrk."""
    rows: list[Row] = []
    facts = machine.facts(HAProxy=["haproxy", "-v"])
    with ticking("statera up") as tick, tempfile.TemporaryDirectory(prefix="st-bench-") as folder, \
            rig.playground(Path(folder)) as playground:
        bench = Bench(*playground, tick)
        parts: dict[str, Callable[[Bench], Iterator[Row]]] = {
            "commands": commands, "start": start,
            "amphorae": partial(amphorae, fleets=SHORT_FLEETS if short else FLEETS),
        }
        for name, part in parts.items():
            rows += measured(name, partial(part, bench))
    conclude(Sheet(name="footprint", title="What it takes to be there", facts=facts, rows=tuple(rows)),
             file=file, docs=docs)


if __name__ == "__main__":
    main()
