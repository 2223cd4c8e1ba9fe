# SPDX-License-Identifier: Apache-2.0
"""A real health manager, real agents' links, TLS over loopback and SQLite; only what a node carries is pretended."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import Connection, insert, select, update

from statera.agent.identity import Identity
from statera.agent.link import Link
from statera.agent.outbox import Outbox
from statera.config import Agent, Default, HealthManager, Settings
from statera.fleet.authority import Authority
from statera.fleet.enrolment import join
from statera.fleet.service import Service
from statera.store import nodes, tables
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.secrets import Sealer, ensure_sealer
from statera.store.wake import Waker
from statera.wire import Applied, Join, LocalNetwork, Report, Roster, Spec

NETWORK = LocalNetwork(id="net-1", bridge="st-net1", gateways=("10.0.0.1/24",))


class FakeHost:
    """Carries what it is told in no time; *refuses* makes it fail instead."""

    def __init__(self, emit: Callable[[object], None], running: dict[str, int] | None = None) -> None:
        self.emit = emit
        self.specs: dict[str, Spec] = {}
        self.rosters: list[Roster] = []
        self.put_at: dict[tuple[str, int], float] = {}
        self.refuses: str | None = None
        self._running = running or {}
        self.reports: list[Report] = []

    def running(self) -> dict[str, int]:
        return self._running

    async def roster(self, roster: Roster) -> None:
        self.rosters.append(roster)

    async def put(self, spec: Spec) -> None:
        self.put_at[spec.amphora_id, spec.version] = time.monotonic()
        self.specs[spec.amphora_id] = spec
        if self.refuses is None:
            self._running[spec.amphora_id] = spec.version
        self.emit(Applied(amphora_id=spec.amphora_id, version=spec.version, failure=self.refuses))

    async def full_report(self) -> None:
        for report in self.reports:
            self.emit(report)


class Tree:
    """The ids of one load balancer: a listener, a pool, a member and an amphora for each node given."""

    def __init__(self, count: int) -> None:
        self.lb, self.listener, self.pool, self.member = (str(uuid4()) for _ in range(4))
        self.amphorae = [str(uuid4()) for _ in range(count)]


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.settings = Settings(
            default=Default(host="hm-1", state_path=str(self.state)),
            health_manager=HealthManager(bind_ip="127.0.0.1", grace_seconds=1.0, beat_seconds=0.2, report_seconds=0.1),
        )
        self.state.mkdir()
        self.store = Store(self.settings.database_url)
        tables.metadata.create_all(self.store.engine)
        self.authority = Authority(self.store, ensure_sealer(self.settings.master_key), self.settings)
        self.port = free_port()

    def configure(self, **health_manager: object) -> None:
        changed = msgspec.structs.replace(self.settings.health_manager, **health_manager)
        self.settings = msgspec.structs.replace(self.settings, health_manager=changed)

    def identity(self, name: str, days: float = 7.0) -> Identity:
        """An enrolled node's."""
        identity = Identity(self.folder / name)
        identity.prepare()
        identity.keep(join(self.store, self.authority, Join(token=self.token(), name=name, csr=identity.csr()), days))
        return identity

    def token(self, name: str | None = None, seconds: int = 60) -> str:
        with self.store.write() as connection:
            return nodes.make_token(connection, name, seconds)

    @asynccontextmanager
    async def service(self, sweep_seconds: float = 0.5, sealer: Sealer | None = None) -> AsyncIterator[Service]:
        service = Service(
            self.settings, self.store, wake=Waker(self.store), networks=lambda _: (NETWORK,),
            sweep_seconds=sweep_seconds, sealer=sealer)
        await service.start(self.port)
        try:
            yield service
        finally:
            await service.stop()

    @asynccontextmanager
    async def node(self, identity: Identity, running: dict[str, int] | None = None) -> AsyncIterator[FakeHost]:
        outbox = Outbox()
        host = FakeHost(outbox.put, running)
        settings = msgspec.structs.replace(self.settings, agent=Agent(endpoints=[f"127.0.0.1:{self.port}"]))
        task = asyncio.create_task(Link(settings, identity, host, outbox).run())
        try:
            yield host
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def balance(self, *node_ids: str) -> Tree:
        """A wish for a load balancer that is placed already on the nodes; two make a pair."""
        tree = Tree(len(node_ids))
        with self.store.write() as connection:
            plant(connection, tree, node_ids)
        return tree

    def wish(self, tree: Tree, **member: object) -> int:
        """Change the member; returns the new version."""
        lb = tables.load_balancers
        with self.store.write() as connection:
            connection.execute(update(lb).where(lb.c.id == tree.lb).values(
                version=lb.c.version + 1, wanted_version=lb.c.version + 1))
            version = connection.execute(select(lb.c.version).where(lb.c.id == tree.lb)).scalar_one()
            connection.execute(update(tables.members).where(tables.members.c.id == tree.member).values(
                wanted_version=version, **member))
        return int(version)

    def change(self, table: object, row_id: str, **values: object) -> None:
        with self.store.write() as connection:
            connection.execute(update(table).where(table.c.id == row_id).values(**values))

    def row(self, table: object, row_id: str) -> object:
        with self.store.read() as connection:
            return connection.execute(select(table).where(table.c.id == row_id)).one()

    def lb(self, tree: Tree) -> object:
        return self.row(tables.load_balancers, tree.lb)

    def status(self, table: object, row_id: str) -> str:
        return str(self.row(table, row_id).reported_status)

    def events(self, reason: str) -> list[str]:
        with self.store.read() as connection:
            return list(connection.execute(
                select(tables.events.c.message).where(tables.events.c.reason == reason)).scalars())


def plant(connection: Connection, tree: Tree, node_ids: tuple[str, ...]) -> None:
    now = utc_now()
    common = {"load_balancer_id": tree.lb, "project_id": "p", "created_at": now, "created_version": 1,
              "wanted_version": 1}
    connection.execute(insert(tables.load_balancers).values(
        id=tree.lb, project_id="p", provider="amphora", created_at=now, settled_version=1, vip_address="10.0.0.100",
        topology="SINGLE" if len(node_ids) == 1 else "ACTIVE_STANDBY", vip_subnet_id="sub-1"))
    connection.execute(insert(tables.pools).values(
        id=tree.pool, protocol="HTTP", lb_algorithm="ROUND_ROBIN", **common))
    connection.execute(insert(tables.members).values(
        id=tree.member, pool_id=tree.pool, address="10.0.0.20", protocol_port=80, weight=1, **common))
    connection.execute(insert(tables.listeners).values(
        id=tree.listener, protocol="HTTP", protocol_port=80, default_pool_id=tree.pool, timeout_client_data=1,
        timeout_member_connect=1, timeout_member_data=1, timeout_tcp_inspect=0, **common))
    roles = ["STANDALONE"] if len(node_ids) == 1 else ["MASTER", "BACKUP"]
    for number, (amphora_id, role, node_id) in enumerate(zip(tree.amphorae, roles, node_ids, strict=True)):
        connection.execute(insert(tables.amphorae).values(
            id=amphora_id, load_balancer_id=tree.lb, role=role, born_version=1, node_id=node_id, created_at=now,
            ports=[{"port_id": str(uuid4()), "network_id": "net-1", "subnet_id": "sub-1", "cidr": "10.0.0.0/24",
                    "ip_address": f"10.0.0.{10 + number}", "gateway_ip": "10.0.0.1", "bridge": "st-net1"}]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Return as soon as *condition* holds; fail when it does not come to hold."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    yield world
    world.store.close()


@pytest.fixture(name="until")
def _until() -> Callable[..., object]:
    return until
