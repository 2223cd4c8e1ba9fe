# SPDX-License-Identifier: Apache-2.0
"""What a load balancer's life costs its controllers, and a node that has nothing to say."""

import asyncio
from random import Random

import pytest
from compat.conftest import PROJECT, SUBNET
from counted import Tally, statements
from sqlalchemy import select
from stepped import Clock, Manager, Node

from statera.config import ControllerWorker
from statera.controller.queue import Queue
from statera.controller.world import World
from statera.drivers.compute.hosts import Hosts
from statera.drivers.network.noop import NoopNetwork
from statera.fleet.specs import build
from statera.store import nodes, tables
from statera.store.engine import Store
from statera.store.seen import load_amphorae
from statera.store.trees import load_tree
from statera.wire import Counters, Put, Report, decode_down, encode

WRITES = ("INSERT", "UPDATE", "DELETE")
MEMBERS = 500


class Cloud:
    """A worker, a health manager and two nodes around the api's database, one after the other."""

    def __init__(self, store: Store) -> None:
        self.store, self.loop = store, asyncio.new_event_loop()
        self.network, self.compute = Tally(NoopNetwork()), Tally(Hosts())
        world = World(store=store, compute=self.compute, network=self.network)
        self.queue = Queue(world, ControllerWorker(), owner="w")
        self.manager = Manager(store, Clock())
        self.run(self.manager.start())
        with store.write() as connection:
            self.nodes = [Node(name, nodes.ensure(connection, name)) for name in ("a", "b")]
        for node in self.nodes:
            self.run(self.manager.connect(node))

    def run(self, work):
        return self.loop.run_until_complete(work)

    def passes(self):
        while self.queue.run_once():
            pass

    def hear(self):
        """What is to be told is told, nodes answer, and that is written down."""
        for _ in range(2):
            self.run(self.manager.work(sweeps=False))
            self.run(self.manager.hear(Random(1)))
        self.run(self.manager.ledger.flush())

    def settle(self):
        for _ in range(4):
            self.passes()
            self.hear()
        self.passes()


@pytest.fixture
def world(worlds):
    return worlds(controller_worker={"loadbalancer_topology": "ACTIVE_STANDBY"})


@pytest.fixture
def cloud(world):
    cloud = Cloud(world.store)
    yield cloud
    cloud.loop.close()


def tree(members):
    pool = {"name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [
        {"address": f"10.0.{n // 250}.{n % 250 + 1}", "protocol_port": 80} for n in range(members)]}
    listener = {"protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    return {"vip_subnet_id": SUBNET, "project_id": PROJECT, "listeners": [listener]}


def test_the_life_of_a_pair(world, cloud, costs):
    counts = {}

    def counting(what, act):
        asked = cloud.network.asked + cloud.compute.asked
        counts[f"{what}: statements"] = len(statements(world.store.engine, act))
        counts[f"{what}: calls of drivers"] = cloud.network.asked + cloud.compute.asked - asked

    lb = world.post("/loadbalancers", loadbalancer=tree(2))["loadbalancer"]
    counting("create, first pass", cloud.queue.run_once)
    counting("create, nodes hear and answer", cloud.hear)
    counting("create, last pass", cloud.passes)
    assert world.status(f"/loadbalancers/{lb['id']}") == "ACTIVE"
    pool = world.get("/pools")["pools"][0]
    world.post(f"/pools/{pool['id']}/members", member={"address": "192.0.2.9", "protocol_port": 80})
    counting("member change, nodes hear and answer", cloud.hear)
    assert world.status(f"/loadbalancers/{lb['id']}") == "ACTIVE"
    counting("member change, pass that finds nothing to do", cloud.passes)
    world.call("DELETE", f"/loadbalancers/{lb['id']}", query=[("cascade", "true")])
    counting("delete, first pass", cloud.passes)
    counting("delete, nodes hear and answer", cloud.hear)
    counting("delete, last pass", cloud.passes)
    with world.store.read() as connection:
        assert connection.execute(select(tables.load_balancers.c.deleted_at)).scalar_one() is not None
    costs("passes", counts)


def test_nothing_new_is_not_written(world, cloud, costs):
    world.post("/loadbalancers", loadbalancer=tree(2))
    cloud.settle()
    reports = [message for node in cloud.nodes for message in node.act(Random(1))]
    assert len(reports) == 2
    still = [Report(amphora_id=each.amphora_id, full=True, vrrp=each.vrrp, listeners=each.listeners, pools=each.pools,
                    members=each.members) for each in reports]

    def tell():
        for node, report in zip(cloud.nodes, still, strict=True):
            cloud.manager.intake.take(cloud.manager.sessions[node.id], report)
        cloud.run(cloud.manager.ledger.flush())

    told = len(statements(world.store.engine, tell))
    looked = statements(world.store.engine, lambda: cloud.run(cloud.manager.dispatcher.sweep()))
    cloud.run(cloud.manager.ledger.flush())
    written = [text for text in looked if text.startswith(WRITES)]
    costs("rest", {"two reports without news: statements": told, "a sweep: statements": len(looked),
                   "a sweep: writes": len(written)})


def test_a_hundred_known_reports_are_compared_together(world, cloud, costs):
    for _ in range(50):
        world.post("/loadbalancers", loadbalancer=tree(1))
    for _ in range(3):
        cloud.settle()
    for node in cloud.nodes:
        cloud.run(cloud.manager.connect(node))  # it comes back, and says everything again
        for message in node.act(Random(1)):
            cloud.manager.intake.take(cloud.manager.sessions[node.id], message)
    found = statements(world.store.engine, lambda: cloud.run(cloud.manager.ledger.flush()))
    costs("return", {"a hundred reports: statements": len(found),
                     "a hundred reports: writes": len([text for text in found if text.startswith(WRITES)])})


def test_bytes(world, cloud, costs):
    lb = world.post("/loadbalancers", loadbalancer=tree(MEMBERS))["loadbalancer"]
    cloud.settle()
    pool = world.get("/pools")["pools"][0]
    world.post(f"/pools/{pool['id']}/members", member={"address": "192.0.2.9", "protocol_port": 80})
    with world.store.read() as connection:
        wanted, amphorae = load_tree(connection, lb["id"]), load_amphorae(connection, lb["id"])
    put = encode(Put(spec=build(wanted, amphorae[0], amphorae)))
    assert len(decode_down(put).spec.pools[0].members) == MEMBERS + 1
    traffic = Report(amphora_id=amphorae[0].id, counters={lb["id"]: Counters(bytes_in=10**9, bytes_out=10**9)})
    costs("bytes", {"report of a second's traffic": len(encode(traffic)),
                    f"one more member in a spec of {MEMBERS}": len(put)})
