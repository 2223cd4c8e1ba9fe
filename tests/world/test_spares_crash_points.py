# SPDX-License-Identifier: Apache-2.0
"""Every process may die while machines are kept ready, taken, lost, made anew and given up; no server is left behind.

The cloud is that of `test_crash_points`, with the real `nova` driver and a Nova that keeps its servers in memory.
"""

from time import monotonic

import pytest
from mortal import Mortal
from msgspec.structs import replace
from sqlalchemy import update

from statera.commands import orphans
from statera.commands.spares import Pool
from statera.config import ControllerWorker
from statera.controller.queue import Queue
from statera.controller.world import World
from statera.store import nodes, reports, spares, tables
from statera.store.engine import Store
from statera.wire import Hello
from tests.contract.compute.test_nova import Town, driver
from tests.world.test_crash_points import MANAGER, PROJECT, SUBNET, Cloud, lives, prepare

STRIDE = 53
"""Of so many points of death one is tried; runs begin at different ones, so together they try all."""


class Machines(Cloud):
    """Each amphora has a machine of its own, and some are kept ready."""

    def __init__(self, store, *, dies_at):
        self.town = Town()
        super().__init__(store, dies_at=dies_at)

    def start(self):
        super().start()
        self.compute = Mortal(driver(self.town), self.fuse)
        world = World(store=self.store, compute=self.compute, network=self.network, replacements_per_minute=0)
        self.queue = Queue(world, replace(ControllerWorker(), lease_seconds=5), owner="w")

    def restart(self):
        super().restart()
        with self.store.engine.begin() as connection:
            connection.execute(update(tables.turns).values(until_ms=0))

    def node_acts(self):
        """Machines that have booted join; then they do as they are told."""
        joined = False
        for server in self.town.servers.values():
            with self.store.write() as connection:
                if nodes.find(connection, server["name"]) is None:
                    reports.connected(connection, MANAGER, nodes.ensure(connection, server["name"]), Hello(
                        agent_version="1"))
                    joined = True
        return super().node_acts() or joined

    def look_after_spares(self, size=1):
        """As many rounds as it takes: machines boot between two of them."""
        pool = Pool(self.store, self.compute, size=size, per_minute=0, now=monotonic)
        for _ in range(5):
            pool.round()
            self.settle()
        return [(spare.is_ready, spare.image_id) for spare in self.spares()]

    def spares(self):
        with self.store.read() as connection:
            return spares.load(connection)

    def take(self):
        """A load balancer comes; nothing looks after spares meanwhile."""
        self.create()
        return self.serving()

    def serving(self):
        with self.store.read() as connection:
            mine = tables.amphorae.c
            statement = tables.amphorae.select().where(
                mine.deleted_at.is_(None), ~mine.leaving, mine.load_balancer_id.is_not(None))
            return [row.id for row in connection.execute(statement)]

    def lose(self, amphora_id):
        """The machine dies for good."""
        name = f"amphora-{amphora_id}"
        with self.store.write() as connection:
            if nodes.find(connection, name):
                connection.execute(update(tables.nodes).where(tables.nodes.c.name == name).values(manager_id=None))
                reports.give_up(connection, name)
        self.settle()
        return self.serving()

    def servers(self):
        return sorted(server["name"] for server in self.town.servers.values())

    def orphans(self):
        list(orphans.end(self.store, found := orphans.look(self.store, [self.compute])))
        return len(found)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("spares") / "prepared.db")


def named(*ids):
    return sorted(f"amphora-{id}" for id in ids)


def live_through(cloud):
    assert cloud.live(cloud.look_after_spares) == [(True, "image")]
    [spare] = cloud.spares()
    assert cloud.servers() == named(spare.id)
    assert cloud.live(cloud.take) == [spare.id]
    assert cloud.servers() == named(spare.id)
    assert {server["metadata"].get("load_balancer_id") for server in cloud.town.servers.values()} != {None}

    assert cloud.live(cloud.look_after_spares) == [(True, "image")]
    [second] = cloud.spares()
    assert cloud.live(lambda: cloud.lose(spare.id)) == [second.id]
    assert cloud.servers() == named(second.id)

    assert cloud.live(cloud.look_after_spares) == [(True, "image")]
    cloud.town.images = [{"id": "newer"}]
    assert cloud.live(cloud.look_after_spares) == [(True, "newer")]
    [third] = cloud.spares()
    assert cloud.servers() == named(second.id, third.id)
    assert cloud.live(cloud.orphans) == 0

    assert cloud.live(lambda: cloud.look_after_spares(size=0)) == []
    assert cloud.servers() == named(second.id)
    assert cloud.live(cloud.delete) == []
    assert (cloud.town.servers, cloud.town.groups) == ({}, {})
    assert cloud.live(cloud.left_behind) == {}


def test_whenever_everything_dies_spares_are_kept_and_no_machine_is_left_behind(prepared, tmp_path):
    for cloud in lives(Machines, prepared, tmp_path, stride=STRIDE):
        live_through(cloud)
    print(f"\ndied at every {STRIDE}th of {cloud.dies_at} points")
    assert cloud.dies_at > 100


@pytest.fixture
def cloud(prepared, tmp_path):
    """One in which nobody dies, with a machine that is ready."""
    path = tmp_path / "world.db"
    path.write_bytes(prepared.read_bytes())
    cloud = Machines(Store(f"sqlite:///{path}"), dies_at=0)
    assert cloud.look_after_spares() == [(True, "image")]
    yield cloud
    cloud.store.close()


def test_a_failover_that_somebody_wished_takes_no_spare(cloud):
    """A rotation, which is the same, is there to get what is newest."""
    cloud.take()
    cloud.look_after_spares()
    [spare] = cloud.spares()
    before = cloud.serving()
    assert cloud.fail_over() == ["ACTIVE"] * 3
    assert set(cloud.serving()).isdisjoint([*before, spare.id])
    assert [one.id for one in cloud.spares()] == [spare.id]


def test_a_flavor_with_a_size_of_its_own_has_a_machine_of_its_own(cloud):
    large = "aaaaaaaa-0000-4000-8000-000000000001"
    with cloud.store.write() as connection:
        connection.execute(tables.flavor_profiles.insert().values(
            id=large, name="large", provider_name="amphora", flavor_data='{"compute_flavor": "large"}'))
        connection.execute(tables.flavors.insert().values(id=large, name="large", flavor_profile_id=large))
    answer = cloud.call("POST", "/loadbalancers", loadbalancer={
        "vip_subnet_id": SUBNET, "project_id": PROJECT, "flavor_id": large})
    assert answer.status_code == 201, answer.text
    cloud.settle()
    [spare] = cloud.spares()
    [own] = cloud.serving()
    sizes = {server["name"]: server["flavor"]["id"] for server in cloud.town.servers.values()}
    assert sizes == {f"amphora-{spare.id}": "small", f"amphora-{own}": "large"}


def test_what_a_hypervisors_host_calls_a_port_is_not_told_to_the_machine(cloud):
    """Neutron says it of a port that Nova has plugged; inside the machine the hardware address finds it."""
    made = cloud.network.ensure_amphora_port
    cloud.network.ensure_amphora_port = lambda *args, **options: replace(
        made(*args, **options), host="hypervisor", device="tap0", switch="br-int")
    [amphora_id] = cloud.take()
    with cloud.store.read() as connection:
        [row] = connection.execute(tables.amphorae.select().where(tables.amphorae.c.id == amphora_id))
    assert {(port["host"], port["device"], port["switch"]) for port in row.ports} == {(None, None, None)}
