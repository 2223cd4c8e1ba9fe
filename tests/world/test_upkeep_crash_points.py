# SPDX-License-Identifier: Apache-2.0
"""Every process may die while a load balancer is resized, moved off nodes, repaired and rotated; all of it converges.

The cloud is that of `test_crash_points`, with three nodes; one story holds all that operators do to a load balancer.
"""

from datetime import time
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from statera.model.fleet import ROLES
from statera.store import nodes, reports, rotations, tables
from statera.store.clock import now_ms
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.rotations import Wanted
from statera.wire import Hello
from tests.world.test_crash_points import MANAGER, Cloud, lives, prepare

STRIDE = 29
"""Of so many points of death one is tried; runs begin at different ones, so together they try all."""
NAMES = ("red", "green", "blue")
PAIR, SINGLE = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"


class Operator(Cloud):
    """What operators do, again if they do not know what came of it."""

    def store_does(self, act):
        with self.store.write() as connection:
            return act(connection)

    def resize(self, flavor_id, topology):
        (lb,) = self.find("/loadbalancers", "loadbalancers")
        answer = self.call("PUT", f"/loadbalancers/{lb['id']}/flavor", flavor={"flavor_id": flavor_id})
        assert answer.status_code == 202, answer.text
        self.settle()
        return self.serving() == sorted(ROLES[topology])

    def drain(self, name):
        self.store_does(lambda connection: nodes.drain(connection, name))
        self.settle()
        return self.on(name)

    def undrain(self, name):
        self.store_does(lambda connection: nodes.undrain(connection, name))
        self.settle()

    def lose(self, name):
        def act(connection):
            connection.execute(update(tables.nodes).where(tables.nodes.c.name == name).values(manager_id=None))
            reports.give_up(connection, name)

        self.store_does(act)
        self.settle()
        return [one for one in self.on(name) if not one.leaving]

    def come_back(self, name):
        self.store_does(lambda connection: reports.connected(
            connection, MANAGER, nodes.find(connection, name), Hello(agent_version="1")))
        self.settle()
        return [one for one in self.on(name) if one.leaving]

    def rotate(self):
        def begin(connection):
            if rotations.current(connection) is None:
                rotations.begin(connection, rotations.new(Wanted(everything=True, replace=True), max_unavailable=1))

        self.store_does(begin)
        for _ in range(10):
            self.store_does(lambda connection: rotations.pace(connection, time(12)))
            self.settle()
            with self.store.read() as connection:
                if rotations.latest(connection).state == rotations.DONE:
                    return True
        return False

    def rows(self):
        one = tables.amphorae.c
        with self.store.read() as connection:
            return connection.execute(
                select(one.id, one.role, one.leaving, tables.nodes.c.name.label("node"))
                .outerjoin(tables.nodes, tables.nodes.c.id == one.node_id).where(one.deleted_at.is_(None))).all()

    def on(self, name):
        return [row for row in self.rows() if row.node == name]

    def serving(self):
        return sorted(row.role for row in self.rows() if not row.leaving)

    def homes(self):
        return {row.node for row in self.rows() if not row.leaving}

@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """The database of the simpler story with two more nodes and two flavors."""
    path = prepare(tmp_path_factory.mktemp("upkeep") / "furnished.db")
    store = Store(f"sqlite:///{path}")
    with store.write() as connection:
        connection.execute(update(tables.nodes).values(name=NAMES[0]))
        for name in NAMES[1:]:
            node_id = str(uuid4())
            connection.execute(tables.nodes.insert().values(id=node_id, name=name, created_at=utc_now()))
            reports.connected(connection, MANAGER, node_id, Hello(agent_version="1"))
        connection.execute(update(tables.managers).values(alive_until_ms=now_ms() + 10**9))
        for flavor_id, topology in ((PAIR, "ACTIVE_STANDBY"), (SINGLE, "SINGLE")):
            connection.execute(tables.flavor_profiles.insert().values(
                id=flavor_id, name=topology, provider_name="amphora",
                flavor_data=f'{{"loadbalancer_topology": "{topology}"}}'))
            connection.execute(tables.flavors.insert().values(
                id=flavor_id, name=topology, enabled=True, flavor_profile_id=flavor_id))
    store.close()
    return path


def live_through(cloud):
    assert cloud.live(cloud.create) == ["ACTIVE"] * 3
    assert cloud.live(lambda: cloud.resize(PAIR, "ACTIVE_STANDBY"))
    assert len(cloud.homes()) == 2
    home = min(cloud.homes())
    assert cloud.live(lambda: cloud.drain(home)) == []
    cloud.live(lambda: cloud.undrain(home))
    home = min(cloud.homes())
    assert cloud.live(lambda: cloud.lose(home)) == []
    assert cloud.serving() == sorted(ROLES["ACTIVE_STANDBY"])
    assert cloud.live(lambda: cloud.come_back(home)) == []
    before = {row.id for row in cloud.rows()}
    assert cloud.live(cloud.rotate)
    assert before.isdisjoint(row.id for row in cloud.rows())
    assert cloud.live(lambda: cloud.resize(SINGLE, "SINGLE"))
    assert cloud.live(cloud.delete) == []
    assert cloud.carried == {}
    assert cloud.live(cloud.left_behind) == {}


def test_whenever_everything_dies_upkeep_goes_on_and_nothing_is_left_behind(furnished, tmp_path):
    for cloud in lives(Operator, furnished, tmp_path, stride=STRIDE):
        live_through(cloud)
    print(f"\ndied at every {STRIDE}th of {cloud.dies_at} points")
    assert cloud.dies_at > 150
