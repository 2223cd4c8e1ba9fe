# SPDX-License-Identifier: Apache-2.0
"""A worker may die at any call and at any commit: the next pass goes on, and nothing is left over."""

from itertools import count
from uuid import uuid4

import pytest
from mortal import Death, Fuse, MortalStore
from sqlalchemy import func, insert, select, update

from statera.controller.reconcile import reconcile
from statera.controller.world import World
from statera.drivers.compute.hosts import Hosts
from statera.drivers.network.noop import NoopNetwork
from statera.store import passes, reports
from statera.store.clock import now_ms
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.tables import amphorae, load_balancers, managers, members, nodes, pools
from statera.wire import Applied

lb = load_balancers.c


class Ports(NoopNetwork):
    """A cloud that remembers which ports there are, and whose calls may be the last."""

    def __init__(self):
        super().__init__()
        self.ports, self.vips, self.fuse = {}, set(), Fuse(0)

    def ensure_amphora_port(self, amphora_id, subnet_id, vips=(), *, berth=None):
        self.fuse.burn()
        port = self.ports.setdefault((amphora_id, subnet_id), super().ensure_amphora_port(amphora_id, subnet_id, vips))
        self.fuse.burn()
        return port

    def release_amphora_ports(self, amphora_id, keep=()):
        self.fuse.burn()
        self.ports = {key: port for key, port in self.ports.items() if key[0] != amphora_id or key[1] in keep}
        self.fuse.burn()

    def release_vip(self, load_balancer_id):
        self.fuse.burn()
        self.vips.discard(load_balancer_id)
        self.fuse.burn()


class Life:
    """One load balancer, the fleet that serves it, and workers that die once."""

    def __init__(self, store, id, *, dies_at):
        self.store, self.id, self.network, self.fuse = store, id, Ports(), Fuse(dies_at)
        self.network.fuse = self.fuse
        self.network.vips.add(id)
        self.world = World(store=MortalStore(store, self.fuse), compute=Hosts(), network=self.network)

    def wish(self, **values):
        """What the API does for a wish that changes infrastructure."""
        with self.store.write() as connection:
            connection.execute(
                update(load_balancers).where(lb.id == self.id).ordered_values(
                    (lb.infra_version, lb.version + 1), (lb.wanted_version, lb.version + 1),
                    *((lb[name], lb.version + 1 if value is ... else value) for name, value in values.items()),
                    (lb.version, lb.version + 1), (lb.due_ms, now_ms())))

    def settle(self):
        """Passes and nodes take turns until nobody has anything to do."""
        for _ in range(30):
            if not self.worker() and not self.fleet():
                return
        raise AssertionError("it never settles")

    def worker(self):
        try:
            with self.world.store.write() as connection:
                lease = passes.claim(connection, "worker", seconds=30)
            return lease and reconcile(lease, self.world)
        except Death:
            with self.store.write() as connection:  # the lease ends
                connection.execute(update(load_balancers).where(lb.lease_until_ms > 0)
                                   .values(lease_until_ms=0, due_ms=1))
            return "died"

    def fleet(self):
        """Every node does what the store says."""
        with self.store.write() as connection:
            version = connection.execute(select(lb.version).where(lb.id == self.id)).scalar_one()
            mine = select(amphorae).where(amphorae.c.load_balancer_id == self.id, amphorae.c.deleted_at.is_(None),
                                          amphorae.c.node_id.is_not(None))
            busy = [row for row in connection.execute(mine)
                    if (not row.gone if row.leaving else row.applied_version < version)]
            for row in busy:
                if row.leaving:
                    reports.gone(connection, row.node_id, row.id)
                else:
                    reports.applied(connection, row.node_id, Applied(amphora_id=row.id, version=version))
        return busy

    def facts(self):
        with self.store.read() as connection:
            return connection.execute(select(load_balancers).where(lb.id == self.id)).one()

    def serving(self):
        with self.store.read() as connection:
            mine = (amphorae.c.load_balancer_id == self.id, amphorae.c.deleted_at.is_(None))
            return connection.execute(select(amphorae).where(*mine)).all()

    def whole(self):
        """Create, a member in another subnet, failover, delete."""
        self.settle()
        assert len(self.serving()) == 2
        self.add_member()
        self.settle()
        assert {len(amphora.ports) for amphora in self.serving()} == {2}
        before = {amphora.id for amphora in self.serving()}
        self.wish(failover_version=...)
        self.settle()
        assert before.isdisjoint(amphora.id for amphora in self.serving())
        assert self.facts().done_version == self.facts().version
        assert len(self.network.ports) == 4
        self.wish(deleting=True)
        self.settle()

    def add_member(self):
        self.wish()
        pool_id, common = str(uuid4()), {"load_balancer_id": self.id, "project_id": "p", "created_at": utc_now(),
                                         "created_version": 2, "wanted_version": 2}
        with self.store.write() as connection:
            connection.execute(insert(pools).values(id=pool_id, protocol="HTTP", lb_algorithm="ROUND_ROBIN", **common))
            connection.execute(insert(members).values(
                id=str(uuid4()), pool_id=pool_id, address="10.1.0.1", protocol_port=80, subnet_id="blue", **common))


@pytest.fixture
def two_nodes(store: Store):
    with store.write() as connection:
        connection.execute(insert(managers).values(id="m", host="h", alive_until_ms=now_ms() + 10**7))
        for name in ("one", "two"):
            connection.execute(insert(nodes).values(id=name, name=name, manager_id="m", created_at=utc_now()))


def test_whenever_the_worker_dies_the_next_pass_goes_on_and_nothing_is_left_over(store, load_balancer, two_nodes):
    for dies_at in count(1, 1 if store.backend == "sqlite" else 16):
        life = Life(store, load_balancer(topology="ACTIVE_STANDBY"), dies_at=dies_at)
        life.whole()
        assert life.facts().deleted_at is not None
        assert life.serving() == []
        assert (life.network.ports, life.network.vips) == ({}, set())
        if life.fuse.left > 0:
            break
    assert dies_at > 100
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(members)).scalar_one() == 0
