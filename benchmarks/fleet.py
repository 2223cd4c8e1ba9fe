# SPDX-License-Identifier: Apache-2.0
"""Ten thousand load balancers: real controllers and a real database, nodes with real links, amphorae that pretend."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
from msgspec import Struct
from oslo_config import cfg
from sqlalchemy import func, select, text, update
from sqlalchemy.engine import make_url

from benchmarks import machine, rig, servers
from benchmarks.client import Api, answers, until
from benchmarks.peers.api import V2, small
from benchmarks.peers.copies import copy_load_balancer
from benchmarks.rows import Row, Sheet, conclude, measured, write
from benchmarks.terminal import Tick, ticking
from statera.agent.identity import Identity
from statera.config import Settings, load
from statera.fleet.authority import Authority
from statera.fleet.enrolment import join
from statera.store import nodes as enrolled
from statera.store.clock import now_ms
from statera.store.engine import Store
from statera.store.secrets import ensure_sealer
from statera.store.seen import is_heard
from statera.store.tables import amphorae, events, load_balancers, managers, nodes
from statera.store.wake import announce
from statera.wire import Join

PER_NODE = 100
DEAD_SHARE = 0.1
FROZEN_SECONDS = 12.0
"""Longer than a node may be away, shorter than doubt lasts."""

DATABASES = {"mariadb": servers.mariadb, "postgresql": servers.postgresql}
SERVICES = {"worker": "octavia-worker", "health_manager": "octavia-health-manager", "api": "octavia-api"}
STARTED = ("worker", "health_manager")
"""What is stopped and started in the course of things; the api is asked once it is there again."""

ROWS_WRITTEN = {
    "mysql": "SELECT SUM(variable_value) FROM information_schema.global_status WHERE variable_name IN "
             "('HANDLER_WRITE', 'HANDLER_UPDATE', 'HANDLER_DELETE')",
    "postgresql": "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database "
                  "WHERE datname = current_database()",
}


class Spent(Struct, frozen=True, kw_only=True):
    """What had been used up at a moment: processors' and statements by service, rows of the database."""

    at: float
    processor_seconds: Mapping[str, float]
    statements: Mapping[str, float]
    rows: float


class Fleet:
    """The database, the controllers and the nodes of one run."""

    def __init__(self, url: str, folder: Path, *, load_balancers: int, tick: Tick) -> None:
        self.url, self.folder, self.size, self.tick = url, folder, load_balancers, tick
        self.nodes = max(10, 2 * load_balancers // PER_NODE)
        self.dead = max(1, int(self.nodes * DEAD_SHARE))
        self.configuration = folder / "octavia.conf"
        self.ports = dict(zip(("api", "nodes", *(f"metrics of {name}" for name in SERVICES)), rig.free_ports(5),
                              strict=True))
        self.configuration.write_text(CONFIGURATION.format(
            folder=folder, url=url, budget=4 * PER_NODE * self.dead, **{
                name.replace(" ", "_"): port for name, port in self.ports.items()}))
        self.store = Store(url)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.past: list[str] = []
        self.living: subprocess.Popen[bytes] | None = None
        self.dying: subprocess.Popen[bytes] | None = None

    # Processes.

    def start(self, *names: str) -> None:
        for name in names:
            self.processes[name] = self._spawn([rig.command(SERVICES[name]), "--config-file", str(self.configuration)])

    def stop(self, *names: str) -> None:
        """From now on only health managers count that start later."""
        with self.store.read() as connection:
            self.past = list(connection.execute(select(managers.c.id)).scalars())
        for name in names:
            self.processes[name].terminate()
        for name in names:
            self.processes.pop(name).wait(60)

    def start_nodes(self) -> None:
        """Those that live to the end in one process, the others in another."""
        names = [f"node-{number}" for number in range(self.nodes)]
        self.dying, self.living = (self._pretend(some) for some in (names[:self.dead], names[self.dead:]))

    def _pretend(self, names: Sequence[str]) -> subprocess.Popen[bytes]:
        wanted = {"configuration": str(self.configuration), "folder": str(self.folder / "nodes"), "nodes": names}
        process = self._spawn([sys.executable, "-m", "benchmarks.fleet_nodes"])
        self._tell(process, json.dumps(wanted))
        return process

    def traffic(self, amphorae_of_each: int) -> None:
        for process in (self.living, self.dying):
            if process is not None and process.poll() is None:
                self._tell(process, str(amphorae_of_each))

    def signal_nodes(self, number: signal.Signals) -> None:
        for process in (self.living, self.dying):
            if process is not None:
                process.send_signal(number)

    def kill_some(self) -> None:
        assert self.dying is not None
        self.dying.kill()
        self.dying.wait()

    def end(self) -> None:
        """End everything, however far it came."""
        pretended = [process for process in (self.living, self.dying) if process is not None]
        for process in [*self.processes.values(), *pretended]:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self.store.close()

    def _spawn(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=Path(__file__).parents[1])

    @staticmethod
    def _tell(process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()

    # Rows.

    def enrol(self) -> None:
        """Give every node a certificate, as when it joins."""
        settings = self._settings()
        authority = Authority(self.store, ensure_sealer(settings.master_key), settings)
        for number in range(self.nodes):
            name = f"node-{number}"
            identity = Identity(self.folder / "nodes" / name)
            identity.prepare()
            with self.store.write() as connection:
                token = enrolled.make_token(connection, name, 600)
            identity.keep(join(self.store, authority, Join(token=token, name=name, csr=identity.csr()), 7.0))

    def make_first(self) -> str:
        """One load balancer, made by all parts as any is; its rows are what the others' are copied from."""
        api = self.api()
        made: str = api.post(f"{V2}/loadbalancers", small("fleet"))["loadbalancer"]["id"]
        api.wait_for(made, "ACTIVE", seconds=60)
        api.close()
        return made

    def copy(self, load_balancer_id: str) -> None:
        """As many as there are to be, their amphorae spread over all nodes, the two of a pair apart."""
        copy_load_balancer(self.store.engine, "load_balancers", load_balancer_id, copies=self.size - 1)
        with self.store.read() as connection:
            ids = connection.execute(select(nodes.c.id).order_by(nodes.c.name)).scalars().all()
            placed = connection.execute(
                select(amphorae.c.id).order_by(amphorae.c.load_balancer_id, amphorae.c.role)).scalars().all()
        for number, node_id in enumerate(ids):
            with self.store.write() as connection:
                connection.execute(update(amphorae).where(amphorae.c.id.in_(placed[number::len(ids)])).values(
                    node_id=node_id))
        with self.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            analyze = "ANALYZE" if self.store.backend == "postgresql" else "ANALYZE TABLE load_balancers, amphorae"
            connection.execute(text(analyze))

    def _settings(self) -> Settings:
        return load(cfg.ConfigOpts(), ["--config-file", str(self.configuration)], prog="bench")

    # What there is to see.

    def api(self) -> Api:
        return Api(self.api_url, "bench", "")

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    def pids(self) -> dict[str, list[int]]:
        """The processes of each service, the database's too."""
        place = make_url(self.url).query.get("host") or str(Path(str(make_url(self.url).query["unix_socket"])).parent)
        database = [pid for pid, words in rig.processes(str(place)) if "bench" not in " ".join(words)]
        ours = {name: rig.family([process.pid]) for name, process in self.processes.items()}
        return {**ours, "database": sorted({*rig.family(database)})}

    def spent(self) -> Spent:
        with self.store.read() as connection:
            rows = float(connection.execute(text(ROWS_WRITTEN[self.store.engine.dialect.name])).scalar_one())
        return Spent(
            at=time.monotonic(), rows=rows, statements={name: self._statements(name) for name in self.processes},
            processor_seconds={name: rig.processor_seconds(pids) for name, pids in self.pids().items()})

    def _statements(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[f'metrics of {name}']}/metrics", timeout=30) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("statera_database_statements_total"))

    def count(self, statement: object) -> int:
        with self.store.read() as connection:
            return int(connection.execute(statement).scalar_one())  # type: ignore[call-overload]

    def connected(self) -> int:
        newest = nodes.c.manager_id.not_in(self.past)
        return self.count(select(func.count()).select_from(nodes).where(is_heard(), newest))

    def not_vouched_for(self) -> int:
        alive = select(managers.c.id).where(managers.c.alive_until_ms > now_ms(), managers.c.id.not_in(self.past))
        lb = load_balancers.c
        return self.count(select(func.count()).select_from(load_balancers).where(
            func.coalesce(lb.manager_id, "").not_in(alive)))

    def under_way(self) -> int:
        return self.count(select(func.count()).select_from(load_balancers).where(load_balancers.c.unsettled == 1))

    def due(self) -> int:
        lb = load_balancers.c
        return self.count(select(func.count()).select_from(load_balancers).where(lb.due_ms <= now_ms()))

    def stranded(self) -> int:
        """Amphorae that stay though nobody hears their node, or that are on none."""
        heard = select(nodes.c.id).where(is_heard())
        own = amphorae.c
        return self.count(select(func.count()).select_from(amphorae).where(
            ~own.leaving, own.deleted_at.is_(None), func.coalesce(own.node_id, "").not_in(heard)))

    def replaced(self) -> int:
        return self.count(select(func.count()).select_from(amphorae).where(amphorae.c.leaving))

    def doubts(self) -> int:
        return self.count(select(func.count()).select_from(events).where(events.c.reason == "fleet_silent"))


CONFIGURATION = """\
[DEFAULT]
state_path = {folder}/state
[database]
connection = {url}
[api_settings]
bind_port = {api}
auth_strategy = noauth
[controller_worker]
loadbalancer_topology = ACTIVE_STANDBY
compute_driver = hosts
network_driver = noop
replacements_per_minute = {budget}
[certificates]
cert_manager = noop
[health_manager]
bind_port = {nodes}
[agent]
endpoints = 127.0.0.1:{nodes}
[metrics]
api_port = {metrics_of_api}
worker_port = {metrics_of_worker}
health_manager_port = {metrics_of_health_manager}
"""


# What happens to the fleet, each part as lines of the table.


def begin(fleet: Fleet) -> Iterator[Row]:
    """Fill the database, then let nodes come that have nothing yet."""
    fleet.tick(f"enrol {fleet.nodes} nodes")
    fleet.enrol()
    fleet.start(*SERVICES)
    fleet.start_nodes()
    fleet.tick("the first load balancer")
    wait(lambda: fleet.connected() == fleet.nodes and answers(fleet.api_url), 120)
    first = fleet.make_first()
    fleet.stop(*STARTED)
    began = time.monotonic()
    fleet.tick(f"copy it {fleet.size - 1:,} times")
    fleet.copy(first)
    yield Row(what=f"rows of {fleet.size:,} load balancers, inserted", values=(time.monotonic() - began,), unit="s")
    fleet.tick("nodes get all their specs")
    began = time.monotonic()
    fleet.start(*STARTED)
    sent = wait(lambda: fleet.connected() == fleet.nodes and fleet.not_vouched_for() == 0, 300)
    yield Row(what=f"controllers start → {fleet.nodes} nodes connected, all vouched for", values=(sent,), unit="s")
    rested = rest(fleet)
    yield Row(what=f"… → {2 * fleet.size:,} specs are run", values=(rested - began,), unit="s")


def rest(fleet: Fleet) -> float:
    """When the health manager stopped working hard: it used less than a tenth of a processor since then."""
    pause, pid = threading.Event(), fleet.processes["health_manager"].pid
    used, since, until_ = rig.processor_seconds(rig.family([pid])), time.monotonic(), time.monotonic() + 300
    while time.monotonic() - since < 4.0 and time.monotonic() < until_:
        pause.wait(1.0)
        now = rig.processor_seconds(rig.family([pid]))
        if now - used > 0.35:
            since = time.monotonic()
        used = now
    return since


def steady(fleet: Fleet, *, seconds: float, busy: int) -> Iterator[Row]:
    """Nothing happens but traffic."""
    what = f"{busy * fleet.nodes:,} amphorae busy" if busy else "at rest"
    fleet.traffic(busy)
    pause = threading.Event()
    pause.wait(5.0)
    before = fleet.spent()
    pause.wait(seconds)
    yield from between(before, fleet.spent(), what)
    if not busy:
        for name, pids in fleet.pids().items():
            yield Row(what=f"{what}: memory of {name}", values=(rig.pss_bytes(pids) / 1e6,), unit="MB")


def between(before: Spent, after: Spent, what: str) -> Iterator[Row]:
    """What each used for each second."""
    seconds = after.at - before.at
    for name, used in after.processor_seconds.items():
        yield Row(what=f"{what}: processor of {name}", unit="% of one",
                  values=(100 * (used - before.processor_seconds.get(name, 0.0)) / seconds,))
    for name, said in after.statements.items():
        yield Row(what=f"{what}: statements of {name}", unit="/s",
                  values=((said - before.statements.get(name, 0.0)) / seconds,))
    yield Row(what=f"{what}: rows written", values=((after.rows - before.rows) / seconds,), unit="/s")


def passes(fleet: Fleet) -> Iterator[Row]:
    """One worker looks at every load balancer, and finds nothing to do."""
    fleet.traffic(0)
    before, began = fleet.spent(), time.monotonic()
    with fleet.store.write() as connection:
        connection.execute(update(load_balancers).values(due_ms=now_ms()))
        announce(connection)
    wait(lambda: fleet.due() == 0, 600)
    took, after = time.monotonic() - began, fleet.spent()
    used = after.processor_seconds["worker"] - before.processor_seconds["worker"]
    yield Row(what="passes of a worker that find nothing to do", values=(fleet.size / took,), unit="/s")
    yield Row(what="its processor for each pass", values=(1000 * used / fleet.size,), unit="ms")


def frozen(fleet: Fleet) -> Iterator[Row]:
    """All nodes fall silent at once, which is more likely our fault than theirs, and come back."""
    fleet.traffic(0)
    before = fleet.replaced()
    fleet.signal_nodes(signal.SIGSTOP)
    threading.Event().wait(FROZEN_SECONDS)
    fleet.signal_nodes(signal.SIGCONT)
    back = wait(lambda: fleet.connected() == fleet.nodes and fleet.not_vouched_for() == 0, 120)
    replaced = fleet.replaced() - before
    yield Row(what="all nodes silent at once: amphorae replaced", values=(replaced,), unit="", target="0",
              failed=replaced > 0)
    yield Row(what="all nodes silent at once: doubts said", values=(fleet.doubts(),), unit="", target="≥ 1",
              failed=fleet.doubts() == 0)
    yield Row(what="they speak again → everything vouched for", values=(back,), unit="s")


def failover(fleet: Fleet, *, busy: int) -> Iterator[Row]:
    """A tenth of the nodes dies at once, while as many amphorae of each are *busy*."""
    fleet.traffic(busy)
    threading.Event().wait(5.0)
    before, began, lost = fleet.spent(), time.monotonic(), fleet.replaced()
    fleet.kill_some()
    noticed = wait(lambda: fleet.count(select(func.count()).select_from(nodes).where(nodes.c.lost_ms.is_not(None)))
                   == fleet.dead, 60)
    settled = wait(lambda: fleet.stranded() == 0 and fleet.under_way() == 0, 600) + noticed
    after, replaced = fleet.spent(), fleet.replaced() - lost
    what = f"{fleet.dead} of {fleet.nodes} nodes die, {busy * fleet.nodes:,} amphorae busy"
    yield Row(what=f"{what} → all lost", values=(noticed,), unit="s")
    yield Row(what=f"… → their amphorae replaced, all ACTIVE ({replaced:,})", values=(settled,), unit="s")
    yield Row(what="amphorae replaced", values=(replaced / (time.monotonic() - began - noticed),), unit="/s")
    for name, used in after.processor_seconds.items():
        yield Row(what=f"processor of {name} for each replaced", unit="ms",
                  values=(1000 * (used - before.processor_seconds[name]) / max(1, replaced),))
    for name, said in after.statements.items():
        yield Row(what=f"statements of {name} for each replaced", unit="",
                  values=((said - before.statements[name]) / max(1, replaced),))


def restart(fleet: Fleet) -> Iterator[Row]:
    """All controllers end and start."""
    fleet.stop(*SERVICES)
    began = time.monotonic()
    fleet.start(*SERVICES)
    living = fleet.nodes - fleet.dead
    connected = wait(lambda: fleet.connected() == living, 120)
    vouched = wait(lambda: fleet.not_vouched_for() == 0, 120) + connected
    yield Row(what="controllers start anew → all nodes connected", values=(connected,), unit="s")
    yield Row(what="… → everything vouched for", values=(vouched,), unit="s")
    yield Row(what="… → all reports taken in", values=(rest(fleet) - began,), unit="s")
    wait(lambda: answers(fleet.api_url), 60)
    api = fleet.api()
    began = time.monotonic()
    api.get(f"{V2}/loadbalancers?limit=100&operating_status=ONLINE")
    yield Row(what="list of 100 that are ONLINE", values=(1000 * (time.monotonic() - began),), unit="ms")
    api.close()


def told(part: Callable[[], Iterator[Row]], tick: Tick) -> Iterator[Row]:
    """The part's rows, each said at once: a run takes long."""
    for row in part():
        tick(f"{row.what}: {row.shown[0]} {row.unit}")
        yield row


def wait(claim: Callable[[], bool], seconds: float) -> float:
    """Look often, but not so often that looking is what is measured."""
    return until(claim, seconds=seconds, step_seconds=0.5)


@contextlib.contextmanager
def a_fleet(database: str, folder: Path, *, size: int, tick: Tick) -> Iterator[Fleet]:
    with DATABASES[database]() as server:
        fleet = Fleet(servers.create_database(server), folder, load_balancers=size, tick=tick)
        subprocess.run([rig.command("octavia-db-manage"), "--config-file", str(fleet.configuration), "upgrade", "head"],
                       check=True, capture_output=True)
        try:
            yield fleet
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(folder / 'log').read_text()[-3000:]}") from error
        finally:
            fleet.end()


@click.command()
@click.option("--load-balancers", "size", type=click.IntRange(50), default=10_000, show_default=True)
@click.option("--short", is_flag=True, help="1,000 load balancers for less time.")
@click.option("--database", type=click.Choice(list(DATABASES)), default="mariadb", show_default=True)
@click.option("--busy", type=click.IntRange(0), default=5, show_default=True,
              help="How many amphorae of each node have traffic.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all values there too.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(size: int, short: bool, database: str, busy: int, file: Path | None, docs: Path | None) -> None:
    """A fleet at rest, frozen, struck and started anew: two amphorae for each load balancer, a hundred on a node."""
    size, seconds = (1_000, 20.0) if short else (size, 60.0)
    facts = machine.facts(database=["mariadbd" if database == "mariadb" else "psql", "--version"])
    facts["controllers"] = "one of each, on the same processors as the nodes and the database"
    rows: list[Row] = []
    with ticking("start") as tick, tempfile.TemporaryDirectory(prefix="st-fleet-") as folder, \
            a_fleet(database, Path(folder), size=size, tick=tick) as fleet:
        parts: dict[str, Callable[[Fleet], Iterator[Row]]] = {
            "begin": begin, "at rest": partial(steady, seconds=seconds, busy=0),
            f"{busy * fleet.nodes:,} amphorae busy": partial(steady, seconds=seconds / 2, busy=busy),
            "passes": passes, "silence": frozen,
            "failover": partial(failover, busy=PER_NODE if short else busy), "start anew": restart,
        }
        for name, part in parts.items():
            tick(name)
            rows += measured(name, partial(told, partial(part, fleet), tick))
            sheet = Sheet(name="fleet", title=f"A fleet of {size:,} load balancers", facts=facts, rows=tuple(rows))
            if docs is not None:
                write(sheet, docs)
            if any(row.failed for row in rows):
                break  # what follows would not be the same fleet any more
    conclude(sheet, file=file, docs=docs)


if __name__ == "__main__":
    main()
