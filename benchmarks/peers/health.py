# SPDX-License-Identifier: Apache-2.0
"""What a health manager spends on a report: ours come over TLS links, the peer's in datagrams; one database server."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import click
from msgspec import Struct
from oslo_config import cfg
from sqlalchemy import MetaData, insert, select, text, update

from benchmarks import machine
from benchmarks.client import is_open, until
from benchmarks.peers import upstream
from benchmarks.peers.api import V2, small
from benchmarks.peers.compare import Figure, Report, conclude
from benchmarks.peers.copies import copy_load_balancer
from benchmarks.peers.sides import ROOT, VERSIONS, Side, both, stopped
from benchmarks.rig import command, family, free_ports, processor_seconds, pss_bytes
from benchmarks.terminal import ticking
from statera.agent.identity import Identity
from statera.config import Settings, load
from statera.fleet.authority import Authority
from statera.fleet.enrolment import join
from statera.store import nodes
from statera.store.engine import Store
from statera.store.secrets import ensure_sealer
from statera.store.tables import amphorae
from statera.wire import Join

NODES, QUIET_SECONDS, TURNS = 10, 2.0, 3
PER_SECOND = 400
"""Heartbeats that the peer is sent: more than it can work off, so that it is never idle."""

KEY = "bench"
Ids = dict[str, str]


class Cost(Struct, frozen=True):
    """What one run of so many reports took: the processors' time, wall time, and rows written."""

    reports: int
    processor_seconds: float
    seconds: float
    rows: float
    memory: int


def fleet(side: Side, size: int) -> list[Ids]:
    """So many load balancers with an amphora each; the ids that belong together."""
    api = side.api()
    made = api.post(f"{V2}/loadbalancers", small("fleet"))["loadbalancer"]
    side.settle()
    api.close()
    ours = side.name == "Statera"
    schema = MetaData()
    schema.reflect(side.engine)
    with side.engine.begin() as connection:
        connection.execute(insert(amphorae if ours else schema.tables["amphora"]).values(
            id=str(uuid4()), load_balancer_id=made["id"], **(OUR_AMPHORA if ours else THEIR_AMPHORA)))
    copy_load_balancer(side.engine, "load_balancers" if ours else "load_balancer", made["id"], copies=size - 1)
    return ids_of(side, schema, ours=ours)


OUR_AMPHORA = {
    "role": "STANDALONE", "born_version": 1, "leaving": False, "replace": False, "applied_version": 0, "gone": False,
    "created_at": datetime(2026, 1, 1), "ports": [{
        "port_id": str(uuid4()), "network_id": str(uuid4()), "subnet_id": str(uuid4()), "cidr": "192.0.2.0/24",
        "ip_address": "192.0.2.7", "gateway_ip": None, "bridge": "st-bench"}],
}
THEIR_AMPHORA = {"role": "STANDALONE", "status": "ALLOCATED", "lb_network_ip": "127.0.0.1", "cert_busy": False}


def ids_of(side: Side, schema: MetaData, *, ours: bool) -> list[Ids]:
    """The ids of each amphora, its listener, its pool and one of its members."""
    names = ("amphorae", "listeners", "pools", "members") if ours else ("amphora", "listener", "pool", "member")
    amphora, listener, pool, member = (schema.tables[name].c for name in names)
    wanted = (
        select(amphora.id, listener.id, pool.id, member.id)
        .join_from(amphora.id.table, listener.id.table, listener.load_balancer_id == amphora.load_balancer_id)
        .join(pool.id.table, pool.load_balancer_id == amphora.load_balancer_id)
        .join(member.id.table, member.pool_id == pool.id)
    )
    with side.engine.connect() as connection:
        rows = {row[0]: row for row in connection.execute(wanted)}
    return [dict(zip(("amphora", "listener", "pool", "member"), row, strict=True)) for row in rows.values()]


def enrol(side: Side, folder: Path, ids: Sequence[Ids]) -> Mapping[str, list[Ids]]:
    """Spread the amphorae over nodes that have certificates; who carries what."""
    settings = settings_of(side)
    store = Store(settings.database_url)
    authority = Authority(store, ensure_sealer(settings.master_key), settings)
    carried: dict[str, list[Ids]] = {}
    for number in range(NODES):
        name, mine = f"{folder.name}-{number}", list(ids[number::NODES])
        identity = Identity(folder / name)
        identity.prepare()
        with store.write() as connection:
            token = nodes.make_token(connection, name, 600)
        joined = join(store, authority, Join(token=token, name=name, csr=identity.csr()), 7.0)
        identity.keep(joined)
        place(store, joined.node_id, mine)
        carried[name] = mine
    store.close()
    return carried


def place(store: Store, node_id: str, ids: Sequence[Ids]) -> None:
    with store.write() as connection:
        connection.execute(update(amphorae).where(amphorae.c.id.in_([one["amphora"] for one in ids])).values(
            node_id=node_id))


def settings_of(side: Side) -> Settings:
    return load(cfg.ConfigOpts(), ["--config-file", str(side.configuration)], prog="bench")


@contextlib.contextmanager
def health_manager(argv: Sequence[str], log: Path) -> Iterator[int]:
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, cwd=ROOT)
    try:
        yield process.pid
    finally:
        stopped(process)


def ours(side: Side, folder: Path, ids: Sequence[Ids], rounds: int) -> Cost:
    """Our health manager, ten nodes, everything they carry in each round."""
    place_of = folder / f"nodes-{uuid4().hex[:6]}"
    carried, [port] = enrol(side, place_of, ids), free_ports(1)
    file = folder / "health.conf"
    file.write_text(side.configuration.read_text() + f"\n[health_manager]\nbind_port = {port}\n")
    wanted = {"endpoint": f"127.0.0.1:{port}", "folder": str(place_of), "rounds": rounds, "nodes": carried}
    with health_manager([command("octavia-health-manager"), "--config-file", str(file)], folder / "hm.log") as pid:
        until(lambda: is_open("127.0.0.1", port), seconds=60, otherwise=(folder / "hm.log").read_text)
        rest(pid)
        sender = subprocess.Popen([sys.executable, "-m", "benchmarks.peers.node_reports"], cwd=ROOT, text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        orders, said = sender.stdin, sender.stdout
        assert orders is not None
        assert said is not None
        print(json.dumps(wanted), file=orders, flush=True)
        try:
            assert said.readline() == "ready\n"
            return spent(side, pid, len(ids) * rounds, lambda: (print(file=orders, flush=True), said.readline()))
        finally:
            orders.close()
            sender.wait(30)


def theirs(side: Side, folder: Path, ids: Sequence[Ids], rounds: int) -> Cost:
    """The peer's health manager and as many heartbeats."""
    [port] = free_ports(1)
    file = folder / "their-health.conf"
    file.write_text(side.configuration.read_text() + f"""
[health_manager]
bind_ip = 127.0.0.1
bind_port = {port}
heartbeat_key = {KEY}
heartbeat_timeout = 3600
health_update_threads = 2
stats_update_threads = 2
""")
    programs = upstream.programs()
    wanted = {"port": port, "key": KEY, "rounds": rounds, "per_second": PER_SECOND, "amphorae": ids}
    argv = [str(programs / "octavia-health-manager"), "--config-file", str(file)]
    with health_manager(argv, folder / "their-hm.log") as pid:
        until(lambda: is_bound(port), seconds=60, otherwise=(folder / "their-hm.log").read_text)
        rest(pid)
        argv = [str(programs / "python"), str(Path(__file__).with_name("peer_heartbeats.py"))]
        cost = spent(side, pid, len(ids) * rounds, lambda: subprocess.run(
            argv, input=json.dumps(wanted), text=True, check=True))
    assert cost.rows >= cost.reports, f"of {cost.reports} heartbeats came {cost.rows:.0f} rows: some were lost"
    return cost


def is_bound(port: int) -> bool:
    """Whether somebody takes datagrams there."""
    return f":{port:04X} " in Path("/proc/net/udp").read_text()


def spent(side: Side, pid: int, reports: int, send: Callable[[], object]) -> Cost:
    """Have everything sent and wait until the health manager rests again."""
    rows, began, spent_before = written(side), time.monotonic(), processor_seconds(family([pid]))
    send()
    rested = rest(pid)
    memory = pss_bytes(family([pid]))
    return Cost(
        reports=reports, processor_seconds=processor_seconds(family([pid])) - spent_before,
        seconds=rested - began, rows=written(side) - rows, memory=memory)


def rest(pid: int) -> float:
    """When it stopped working: it used next to no time since then."""
    pause, used, since = threading.Event(), -1.0, time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        now = processor_seconds(family([pid]))
        if now - used > 0.05:
            used, since = now, time.monotonic()
        pause.wait(0.2)
    return since


def written(side: Side) -> float:
    """Rows that the database has inserted, updated and deleted so far."""
    with side.engine.connect() as connection:
        rows = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Handler_%'")).all()
    return sum(float(value) for name, value in rows if name in WRITES)


WRITES = ("Handler_write", "Handler_update", "Handler_delete")


NUMBERS: dict[str, tuple[str, Callable[[Cost], float]]] = {
    "reports for each second of a processor": ("/s", lambda cost: cost.reports / cost.processor_seconds),
    "reports per second on this machine": ("/s", lambda cost: cost.reports / cost.seconds),
    "rows written for 1,000 reports": ("", lambda cost: 1000 * max(cost.rows, 0.001) / cost.reports),
    "memory of the health manager": ("MB", lambda cost: cost.memory / 1e6),
}
TARGETS = {"reports for each second of a processor": 25.0}


def figures(costs: Sequence[tuple[Cost, Cost]]) -> Iterator[Figure]:
    """The same numbers of both sides, turn by turn."""
    for what, (unit, number) in NUMBERS.items():
        ours, theirs = (tuple(number(turn[side]) for turn in costs) for side in range(2))
        yield Figure(what=what, unit=unit, ours=ours, theirs=theirs, target=TARGETS.get(what))


@click.command()
@click.option("--fleet", "size", type=click.IntRange(10), default=500, show_default=True, help="Amphorae.")
@click.option("--rounds", type=click.IntRange(1), default=40, show_default=True, help="Reports of each of ours.")
@click.option("--their-rounds", type=click.IntRange(1), default=2, show_default=True, help="The same of the peer's.")
@click.option("--short", is_flag=True, help="Two turns of 200 amphorae, and one report of each of the peer's.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON, page and picture there.")
def main(size: int, rounds: int, their_rounds: int, short: bool, docs: Path | None) -> None:
    """Both health managers on MariaDB, each fed more than it can work off; every report has news of traffic."""
    facts, costs = machine.facts(**VERSIONS["mariadb"]), []
    turns, size, their_rounds = (2, min(size, 200), 1) if short else (TURNS, size, their_rounds)
    with ticking("start both") as tick, tempfile.TemporaryDirectory(prefix="st-bench-") as name, \
            both("mariadb", Path(name)) as sides:
        tick(f"fill both with {size} load balancers")
        ids = [fleet(side, size) for side in sides]
        for turn in range(turns):
            tick(f"turn {turn + 1}: ours")
            our = ours(sides[0], Path(name), ids[0], rounds)
            tick(f"turn {turn + 1}: theirs")
            costs.append((our, theirs(sides[1], Path(name), ids[1], their_rounds)))
        names = (sides[0].name, sides[1].name)
    conclude(Report(name="health", title="Health managers", sides=names, facts=facts, figures=tuple(figures(costs))),
             docs)


if __name__ == "__main__":
    main()
