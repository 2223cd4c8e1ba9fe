# SPDX-License-Identifier: Apache-2.0
"""All of Statera in one thread on a clock that only tests move: real api, workers, store and parts of health managers.

Pretended are only the nodes, which carry what they are told, and the connections, which break when told. A process
may die or sleep at any call and any commit.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import uuid4

from falcon import testing
from mortal import Death, Mortal, MortalStore
from msgspec import structs
from oslo_config import cfg
from sqlalchemy import event, insert, select

from statera.api.app import build
from statera.config import ControllerWorker, HealthManager, Settings, load, register
from statera.controller.queue import Queue
from statera.controller.world import World
from statera.drivers.compute.hosts import Hosts
from statera.drivers.network.local import LocalNetworks
from statera.errors import DriverError
from statera.fleet.dispatch import Dispatcher
from statera.fleet.intake import Intake
from statera.fleet.judge import Judge
from statera.fleet.ledger import Ledger
from statera.fleet.session import Session
from statera.fleet.verdict import Patience
from statera.store import nodes, reports, tables
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.migrations.upgrade import upgrade
from statera.store.networks import NetworkBook, local_networks
from statera.store.sweep import rouse
from statera.wire import Applied, Counters, Gone, Hello, Put, Report, Roster, Spec, Up, decode_down

Answer = TypeVar("Answer")
LEASE_SECONDS = 30
TENANTS = ("11112222333344445555666677778888", "99998888777766665555444433332222")
SUBNETS = ("dddddddd-0000-4000-8000-000000000001", "dddddddd-0000-4000-8000-000000000002")
EPOCH_DAY = 2_461_000.5


class Clock:
    """*now* is everybody's monotonic clock; *jump* is how far the database's own clock has jumped."""

    def __init__(self) -> None:
        self.start = self.now = time.monotonic()
        self.jump = 0.0

    def julianday(self, _when: str) -> float:
        return EPOCH_DAY + (self.now - self.start + self.jump) / 86_400


class Fate:
    """What strikes a process at its *at*-th touch of the outside; 0 is never."""

    def __init__(self) -> None:
        self.at = 0
        self.strike: Callable[[], None] = lambda: None
        self.error: DriverError | None = None

    def arm(self, at: int, strike: Callable[[], None]) -> None:
        self.at, self.strike = at, strike

    def burn(self) -> None:
        self.at -= 1
        if self.at == 0:
            self.strike()


def die() -> None:
    raise Death


class Moody:
    """A driver that fails as long as its fate says so."""

    def __init__(self, driver: Any, fate: Fate) -> None:
        self._driver, self._fate = driver, fate

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._driver, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **options: Any) -> Any:
            if self._fate.error is not None:
                raise self._fate.error
            return attribute(*args, **options)

        return call


class Inline(Executor):
    """Does it at once, in the caller's thread."""

    def submit(self, act: Callable[..., Answer], /, *args: Any, **options: Any) -> "Future[Answer]":
        done: Future[Answer] = Future()
        try:
            done.set_result(act(*args, **options))
        except BaseException as error:
            done.set_exception(error)
        return done


class Wire:
    """The manager's end of a connection: what is sent lies in the node's inbox until the node acts."""

    def __init__(self, node: "Node") -> None:
        self.node, self.is_open = node, True

    async def send_frame(self, data: bytes, _kind: Any) -> None:
        self.node.inbox.append(data)

    async def close(self, **_why: Any) -> bool:
        self.is_open = False
        return True


@dataclass
class Node:
    """A machine: *carried* is on its disk; it is *up* while its agent runs, *cut* while nobody hears it."""

    name: str
    id: str
    carried: dict[str, Spec] = field(default_factory=dict)
    counted: dict[tuple[str, str], int] = field(default_factory=dict)
    inbox: list[bytes] = field(default_factory=list)
    wire: Wire | None = None
    up: bool = True
    cut: bool = False
    dead: bool = False
    refuses: bool = False
    owed: dict[str, Spec] = field(default_factory=dict)

    @property
    def connects(self) -> bool:
        return self.up and not self.cut and not self.dead and (self.wire is None or not self.wire.is_open)

    def hello(self) -> Hello:
        self.inbox.clear()
        self.owed.clear()
        return Hello(agent_version="1", hostname=self.name,
                     running={id: spec.version for id, spec in self.carried.items()})

    def die(self) -> None:
        self.dead, self.carried = True, {}

    def act(self, random: Random) -> list[Up]:
        """Obey what has come, and say what became of it and how all fares."""
        said: list[Up] = []
        inbox, self.inbox = self.inbox, []
        for message in map(decode_down, inbox):
            if isinstance(message, Roster):
                for amphora_id in (self.carried.keys() | self.owed.keys()) - set(message.amphorae):
                    self.carried.pop(amphora_id, None)
                    self.owed.pop(amphora_id, None)
                    said.append(Gone(amphora_id=amphora_id))
            elif isinstance(message, Put):
                self.owed[message.spec.amphora_id] = message.spec
        for spec in list(self.owed.values()):
            said.append(self._apply(spec))
        return [*said, *(self._report(spec, random) for spec in self.carried.values())]

    def _apply(self, spec: Spec) -> Applied:
        if self.refuses:
            return Applied(amphora_id=spec.amphora_id, version=spec.version, failure="no room on this disk")
        del self.owed[spec.amphora_id]
        self.carried[spec.amphora_id] = spec
        return Applied(amphora_id=spec.amphora_id, version=spec.version)

    def _report(self, spec: Spec, random: Random) -> Report:
        counters = {}
        for listener in spec.listeners:
            key = spec.amphora_id, listener.id
            self.counted[key] = self.counted.get(key, 0) + max(0, random.randrange(-300, 100))
            counters[listener.id] = Counters(bytes_in=self.counted[key], total_connections=self.counted[key])
        return Report(
            amphora_id=spec.amphora_id, full=True, vrrp="MASTER" if spec.role != "BACKUP" else "BACKUP",
            listeners={listener.id: "OPEN" for listener in spec.listeners}, counters=counters,
            pools={pool.id: "UP" for pool in spec.pools},
            members={f"{pool.id}/{member.id}": "UP" for pool in spec.pools for member in pool.members})


class Manager:
    """One health manager: the real dispatcher, intake, ledger and judge around connections that are pretended."""

    def __init__(self, store: Store, clock: Clock, grace_seconds: float = 6.0) -> None:
        self.id, self._store, self._clock = str(uuid4()), store, clock
        self.sessions: dict[str, Session] = {}
        self._nodes: dict[str, Node] = {}
        threads = Inline()
        self.ledger = Ledger(store, threads)
        self.dispatcher = Dispatcher(
            store, self.id, HealthManager(), sessions=self.sessions, ledger=self.ledger, networks=local_networks,
            threads=threads)
        self.intake = Intake(self.id, self.dispatcher, self.ledger, None, 7.0, totals_seconds=0.0)  # type: ignore[arg-type]
        self.judge = Judge(
            store, self.id, "host", heard_at=self._heard_at, part=self._part, threads=threads,
            patience=Patience(grace_seconds=grace_seconds))

    async def start(self) -> None:
        await self.judge.hold(self._clock.now)

    async def connect(self, node: Node) -> None:
        """As the endpoint does when a node has said hello."""
        wire = node.wire = Wire(node)
        session = Session(node.id, wire, node.hello(), self._clock.now)  # type: ignore[arg-type]
        self.sessions[node.id], self._nodes[node.id] = session, node
        with self._store.write() as connection:
            known = reports.connected(connection, self.id, node.id, session.hello)
        if known:
            await self.dispatcher.welcome(session)
        else:
            wire.is_open = False

    async def hear(self, random: Random) -> None:
        """Let every node act that is connected here, and notice connections that are over."""
        for node_id, session in list(self.sessions.items()):
            node = self._nodes[node_id]
            if not node.up or node.dead or not session._socket.is_open:
                self._over(node_id, session)
            elif not node.cut:
                session.heard_at = self._clock.now
                for message in node.act(random):
                    self.intake.take(session, message)

    async def work(self, *, sweeps: bool) -> None:
        """Everything that goes on by itself, once."""
        storing = asyncio.create_task(self.intake.store_totals(0))
        for _ in range(3):
            await asyncio.sleep(0)
        storing.cancel()
        await self.ledger.flush()
        await self.judge.hold(self._clock.now)
        await (self.dispatcher.sweep() if sweeps else self.dispatcher.look())
        await self._deliver()

    async def _deliver(self) -> None:
        sending = [asyncio.create_task(session.deliver()) for session in self.sessions.values()]
        for _ in range(3):
            await asyncio.sleep(0)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    def _over(self, node_id: str, session: Session) -> None:
        self.intake.forget(session)
        del self.sessions[node_id]
        self._nodes[node_id].wire = None
        self.judge.note_departure(node_id, session.heard_at)

    def die(self) -> None:
        """All that was only in memory is lost; nodes notice that the connection broke."""
        for node in self._nodes.values():
            if node.wire is not None and node.id in self.sessions:
                node.wire = None

    def _heard_at(self) -> dict[str, float]:
        return {node_id: session.heard_at for node_id, session in self.sessions.items()}

    def _part(self, node_ids: Any, _why: str) -> None:
        for node_id in self.sessions.keys() & set(node_ids):
            self.sessions[node_id]._socket.is_open = False


class Stepped:
    """The whole world. One is made per process and put back to its beginning by `reset`."""

    def __init__(self, folder: Path) -> None:
        self.path, self._prepared = folder / "world.db", folder / "prepared.db"
        self.clock = Clock()
        self.loop = asyncio.new_event_loop()
        self.store = Store(f"sqlite:///{self.path}")
        event.listen(self.store.engine, "connect", self._on_connect)
        upgrade(self.store)
        self._furnish()
        conf = cfg.ConfigOpts()
        register(conf)
        settings = load(conf, [], prog="octavia-api", files=[])
        api = structs.replace(settings.api_settings, auth_strategy="noauth")
        self.settings: Settings = structs.replace(settings, api_settings=api)
        self.api_fate = Fate()
        mortal = MortalStore(self.store, self.api_fate)
        self.client = testing.TestClient(labelled(build(
            self.settings, conf, mortal, LocalNetworks(NetworkBook(mortal)))))
        self.pair_flavor = self._flavor("ACTIVE_STANDBY")
        self._copy(self.path, self._prepared)

    def reset(self, seed: int, *, workers: int, managers: int, hosts: int) -> None:
        """The beginning of a new history."""
        self._copy(self._prepared, self.path)
        self.random = Random(seed)
        self.clock.jump = 0.0
        self.api_fate.at = 0
        self.fates = [Fate() for _ in range(workers)]
        self.asleep = [0.0] * workers
        self.queues = [self._worker(fate) for fate in self.fates]
        self.managers = [self.run(self._manager()) for _ in range(managers)]
        self.nodes: list[Node] = []
        self.ticks, self.cursor = 0, ""
        for _ in range(hosts):
            self.add_node()

    def close(self) -> None:
        self.store.close()
        self.loop.close()

    # Who there is.

    def add_node(self) -> Node:
        name = f"n{len(self.nodes)}"
        with self.store.write() as connection:
            self.nodes.append(Node(name, nodes.ensure(connection, name)))
        return self.nodes[-1]

    def _worker(self, fate: Fate) -> Queue:
        store = MortalStore(self.store, fate)
        network = Mortal(Moody(LocalNetworks(NetworkBook(store)), fate), fate)
        world = World(store=store, compute=Mortal(Moody(Hosts(), fate), fate), network=network)
        return Queue(world, ControllerWorker(lease_seconds=LEASE_SECONDS), owner=f"w-{uuid4()}")

    async def _manager(self) -> Manager:
        manager = Manager(self.store, self.clock)
        await manager.start()
        return manager

    def restart_manager(self, number: int) -> None:
        self.managers[number].die()
        self.managers[number] = self.run(self._manager())

    # What goes on.

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes; everybody does what there is to do."""
        self.clock.now += seconds
        self.ticks += 1
        self.run(self._fleet())
        if self.ticks % 5 == 0:  # a worker's own sweep, for what got lost
            with self.store.write() as connection:
                self.cursor = rouse(connection, self.cursor)
        for number in range(len(self.queues)):
            self.worker_runs(number)

    def worker_runs(self, number: int) -> None:
        """Passes until nothing is due; a death ends them, and a new process goes on with the next tick."""
        if self.asleep[number] > self.clock.now:
            return
        try:
            for _ in range(30):
                if self.queues[number].run_once() is None:
                    return
        except Death:
            self.fates[number].at = 0
            self.queues[number] = self._worker(self.fates[number])

    async def _fleet(self) -> None:
        for number, node in enumerate(self.nodes):
            if node.connects:
                await self.managers[(number + self.ticks) % len(self.managers)].connect(node)
        for manager in self.managers:
            await manager.work(sweeps=self.ticks % 10 == 0)
            await manager.hear(self.random)
            await manager.ledger.flush()

    def run(self, what: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(what)

    # How callers see it.

    def call(self, verb: str, path: str, *, root: str = "/v2.0/lbaas", key: str | None = None, **body: Any) -> Any:
        """The answer to a request, sent again when the api dies over it."""
        headers = {"Idempotency-Key": key} if key else {}
        for _ in range(20):
            try:
                return self.client.simulate_request(verb, f"{root}{path}", json=body or None, headers=headers)
            except Death:
                self.api_fate.at = 0
        raise AssertionError("the api dies for ever")

    @property
    def is_writing(self) -> bool:
        """Whether somebody is in the middle of a transaction."""
        return self.store.engine.pool.checkedout() > 0  # type: ignore[attr-defined]

    def rows(self, table: Any, *where: Any) -> Sequence[Any]:
        with self.store.read() as connection:
            return connection.execute(select(table).where(*where)).all()

    def _flavor(self, topology: str) -> str:
        profile = self.call("POST", "/flavorprofiles", flavorprofile={
            "name": topology, "provider_name": "amphora",
            "flavor_data": f'{{"loadbalancer_topology": "{topology}"}}'}).json["flavorprofile"]
        flavor = {"name": topology, "flavor_profile_id": profile["id"]}
        return str(self.call("POST", "/flavors", flavor=flavor).json["flavor"]["id"])

    def _on_connect(self, connection: Any, _record: Any) -> None:
        connection.create_function("julianday", 1, self.clock.julianday)
        connection.execute("PRAGMA synchronous=OFF")

    def _copy(self, source: Path, target: Path) -> None:
        with sqlite3.connect(source) as there, sqlite3.connect(target) as here:
            there.backup(here)
        there.close()
        here.close()

    def _furnish(self) -> None:
        with self.store.write() as connection:
            for number, (tenant, subnet) in enumerate(zip(TENANTS, SUBNETS, strict=True)):
                network = f"eeeeeeee-0000-4000-8000-00000000000{number}"
                connection.execute(insert(tables.networks).values(
                    id=network, project_id=tenant, name="net", bridge=f"st-{number}", created_at=utc_now()))
                connection.execute(insert(tables.subnets).values(
                    id=subnet, network_id=network, project_id=tenant, name="sub", cidr=f"10.{number}.0.0/24",
                    ip_version=4, gateway_ip=f"10.{number}.0.1", created_at=utc_now(),
                    allocation_pools=[{"start": f"10.{number}.0.100", "end": f"10.{number}.0.250"}]))


def labelled(app: Any) -> Any:
    """Falcon's client wants every answer but 204 to have a type; an empty one of Octavia's has none."""
    def answer(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: Any, *rest: Any) -> Any:
            typed = any(name.lower() == "content-type" for name, _ in headers) or status.startswith("204")
            return start_response(status, headers if typed else [*headers, ("Content-Type", "text/plain")], *rest)

        return app(environ, start)

    return answer
