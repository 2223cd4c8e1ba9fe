# SPDX-License-Identifier: Apache-2.0
"""How near our figures are to what the machine can do at best with the same server, database or program, in turns."""

import contextlib
import os
import signal
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
from sqlalchemy import text

from benchmarks import machine, rig
from benchmarks.bench import Bench, answers, timed
from benchmarks.by_hand import Shape, configuration
from benchmarks.client import Document, body_of, until
from benchmarks.client import member as a_member
from benchmarks.peers.api import READS, fill
from benchmarks.peers.asking import asked
from benchmarks.peers.compare import Figure, Report, conclude
from benchmarks.peers.sides import THREADS, VERSIONS, WORKERS, Side, serving, statera, two_databases
from benchmarks.terminal import Tick, ticking

FLEET = 1_000
LISTS = ("list 1,000 load balancers", "show a load balancer")


class Form(Struct, frozen=True, kw_only=True):
    turns: int
    seconds: float


LONG, SHORT = Form(turns=7, seconds=1.0), Form(turns=3, seconds=0.5)


Number = Callable[[], float]


def of_turns(what: str, unit: str, form: Form, *, ours: Number, floor: Number) -> Figure:
    """A B, A B …"""
    turns = [(ours(), floor()) for _ in range(form.turns)]
    return Figure(what=what, unit=unit, ours=tuple(our for our, _ in turns), theirs=tuple(best for _, best in turns))


def of_api(form: Form, folder: Path, tick: Tick) -> Iterator[Figure]:
    """Answers of the api beside those of an application that has them ready, and beside its rows alone."""
    with two_databases("mariadb") as (url, _), statera(url, folder) as side:
        tick(f"fill the api with {FLEET} load balancers")
        world = fill(side, FLEET)
        for what in LISTS:
            tick(what)
            yield from of_answers(what, READS[what](world), side, form, folder)
            select = partial(select_ms, side, SELECTS[what], id=world.small)
            yield of_turns(f"{what}, answer; floor: a bare SELECT", "ms", form, floor=select,
                           ours=partial(answer_ms, side, READS[what](world), form))
        side.engine.dispose()


def of_answers(what: str, path: str, side: Side, form: Form, folder: Path) -> Iterator[Figure]:
    with bare(side, path, folder) as other:
        for clients in (1, 16):
            yield of_turns(f"{what}, {clients} at once; floor: the same bytes from a bare WSGI application", "/s", form,
                           ours=partial(rate, side, path, form, clients=clients),
                           floor=partial(rate, other, path, form, clients=clients))


def rate(side: Side, path: str, form: Form, *, clients: int) -> float:
    return asked(side, path, clients=clients, seconds=form.seconds).rate


def answer_ms(side: Side, path: str, form: Form) -> float:
    return asked(side, path, clients=1, seconds=form.seconds).median_ms


SELECTS = {
    "list 1,000 load balancers": "SELECT * FROM load_balancers WHERE deleted_at IS NULL ORDER BY created_at LIMIT 1000",
    "show a load balancer": "SELECT * FROM load_balancers WHERE id = :id",
}


def select_ms(side: Side, statement: str, **values: str) -> float:
    """The rows as the driver gives them."""
    with side.engine.connect() as connection:
        connection.execute(text(statement), values).fetchall()
        return 1000 * timed(lambda: connection.execute(text(statement), values).fetchall())


@contextlib.contextmanager
def bare(side: Side, path: str, folder: Path) -> Iterator[Side]:
    """The same bytes from the same WSGI server."""
    [port] = rig.free_ports(1)
    file = folder / "answer"
    with urllib.request.urlopen(side.url + path) as answer:
        file.write_bytes(answer.read())
    argv = [rig.command("granian"), "--interface", "wsgi", "--port", str(port), "--workers", str(WORKERS),
            "--blocking-threads", str(THREADS), "--log-level", "warning", "benchmarks.bare_wsgi:application"]
    with serving(argv, port, folder / "bare.log", {"BARE_ANSWER": str(file)}) as pid:
        yield Side(name="bare", url=f"http://127.0.0.1:{port}", engine=side.engine, process=pid, configuration=file)


def of_host(form: Form, folder: Path, tick: Tick) -> Iterator[Figure]:
    """What becomes of wishes beside the bare commands that the same needs."""
    with rig.playground(folder) as playground:
        bench = Bench(*playground, tick)
        tick("create")
        yield of_turns("create → first answer; floor: namespace, legs and HAProxy by hand", "ms", form,
                       ours=partial(create_ms, bench), floor=partial(by_hand_ms, bench, folder))
        with bench.balancer() as made:
            yield from of_changes(bench, made, form, folder)
            tick("memory")
            [master] = bench.cloud.haproxies(made["id"]).values()
            with by_hand(bench, folder, members=2) as hand:
                yield of_turns("memory of an idle amphora; floor: a HAProxy by hand", "MB", form,
                               ours=partial(megabytes, rig.family([master])), floor=partial(megabytes, [hand.pid]))


def of_changes(bench: Bench, made: Document, form: Form, folder: Path) -> Iterator[Figure]:
    path = bench.members_of(made)
    bench.tick("member")
    yield of_turns("add a member → its first answer; floor: HAProxy's own reload", "ms", form,
                   ours=partial(member_ms, bench, made, path), floor=partial(reload_ms, bench, folder, members=2))
    bench.tick("batch")
    yield of_turns("batch of 500 members → ACTIVE; floor: HAProxy's own reload with as many", "ms", form,
                   ours=partial(batch_ms, bench, made, path), floor=partial(reload_ms, bench, folder, members=500))


def megabytes(pids: Sequence[int]) -> float:
    return rig.pss_bytes(pids) / 1e6


def create_ms(bench: Bench) -> float:
    began = time.monotonic()
    made = bench.create(monitor=False)
    until(lambda: body_of(made["vip_address"], timeout_seconds=0.05), seconds=30)
    took = time.monotonic() - began
    bench.api.wait_for(made["id"], "ACTIVE")
    bench.delete(made)
    return 1000 * took


def by_hand_ms(bench: Bench, folder: Path) -> float:
    began = time.monotonic()
    with by_hand(bench, folder, members=2):
        return 1000 * (time.monotonic() - began)


MAC = "02:00:5e:00:02:01"
"""The same each time: neighbours would look for the last one's for a while."""


class Hand(Struct, frozen=True):
    """A HAProxy in a namespace of its own."""

    namespace: str
    file: Path
    pidfile: Path

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    def argv(self, *options: str) -> list[str]:
        return rig.inside(self.namespace, "haproxy", "-D", "-f", str(self.file), "-p", str(self.pidfile), *options)


@contextlib.contextmanager
def by_hand(bench: Bench, folder: Path, *, members: int) -> Iterator[Hand]:
    """One that answers on the network."""
    tag, address = uuid4().hex[:6], bench.network.address(201)
    name, prefix = f"byhand-{tag}", bench.network.cidr.partition("/")[2]
    hand = Hand(name, folder / f"{name}.cfg", folder / f"{name}.pid")
    servers = [f"{server}:{port}" for server in bench.network.servers[:50] for port in rig.PORTS[1:]][:members]
    hand.file.write_text(configuration(address, 80, Shape(servers=servers)))
    try:
        batch(f"netns add {name}", f"link add hand{tag} type veth peer name eth0 address {MAC} netns {name}",
              f"link set hand{tag} master {bench.network.bridge} up")
        batch(f"addr add {address}/{prefix} dev eth0", "link set eth0 up", "link set lo up", namespace=name)
        subprocess.run(hand.argv(), check=True)
        until(lambda: body_of(address, timeout_seconds=0.05))
        yield hand
    finally:
        if hand.pidfile.exists():
            os.kill(hand.pid, signal.SIGKILL)
        rig.ip("netns", "del", name)


def batch(*lines: str, namespace: str | None = None) -> None:
    """What `ip` does in one go."""
    inside = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *inside, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


def reload_ms(bench: Bench, folder: Path, *, members: int) -> float:
    """How long a new HAProxy takes until it has the old one's place."""
    with by_hand(bench, folder, members=members) as hand:
        argv = hand.argv("-sf", str(hand.pid))
        return 1000 * timed(lambda: subprocess.run(argv, check=True))


def member_ms(bench: Bench, made: Document, path: str) -> float:
    address = bench.network.servers[7]
    began = time.monotonic()
    new = bench.api.post(path, {"member": a_member(address)})["member"]
    answers(made, address)
    took = time.monotonic() - began
    bench.api.delete(f"{path}/{new['id']}")
    bench.api.wait_for(made["id"], "ACTIVE")
    return 1000 * took


def batch_ms(bench: Bench, made: Document, path: str) -> float:
    many = [a_member(address, port) for address in bench.network.servers[:50] for port in rig.PORTS[1:]][:500]
    began = time.monotonic()
    bench.api.put(path, {"members": many})
    bench.api.wait_for(made["id"], "ACTIVE")
    took = time.monotonic() - began
    bench.api.put(path, {"members": [a_member(address) for address in bench.network.servers[:2]]})
    bench.api.wait_for(made["id"], "ACTIVE")
    return 1000 * took


PARTS = {"api": of_api, "host": of_host}


@click.command()
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="This part alone; may be repeated.")
@click.option("--short", is_flag=True, help="Fewer and shorter turns.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON, page and picture there.")
def main(only: Sequence[str], short: bool, docs: Path | None) -> None:
    """Our figures beside the least that the machine needs for the same. Needs root, HAProxy and h2load."""
    figures, facts = list[Figure](), machine.facts(HAProxy=["haproxy", "-v"], **VERSIONS["mariadb"])
    with ticking("start") as tick:
        for part in only or PARTS:
            with tempfile.TemporaryDirectory(prefix="st-bench-") as folder:
                figures += PARTS[part](SHORT if short else LONG, Path(folder), tick)
    conclude(Report(name="limits", title="How near the floor is", sides=("Statera", "the floor"), facts=facts,
                    figures=tuple(figures)), docs)


if __name__ == "__main__":
    main()
