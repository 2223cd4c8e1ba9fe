# SPDX-License-Identifier: Apache-2.0
"""Every process may die at every call and every commit of a load balancer's life; all of it converges.

The real api, worker, plan, store, local networks and specs run in one process on a stepped clock. A
death takes everything down at once; then all start anew on the same database, leases run out, and the caller,
who got no answer, asks again.
"""

from itertools import count
from uuid import uuid4

import msgspec
import pytest
from falcon import testing
from mortal import Death, Fuse, Mortal, MortalStore
from oslo_config import cfg
from sqlalchemy import func, select, update

from statera.api.app import build
from statera.commands import orphans
from statera.config import ControllerWorker, Settings, load, register
from statera.controller.queue import Queue
from statera.controller.world import World
from statera.drivers.compute.hosts import Hosts
from statera.drivers.network.local import LocalNetworks
from statera.fleet.specs import build as build_spec
from statera.store import placements, reports, tables
from statera.store.clock import now_ms
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.migrations.upgrade import upgrade
from statera.store.networks import NetworkBook
from statera.store.seen import load_amphorae
from statera.store.trees import load_tree
from statera.wire import Applied, Hello

PROJECT = "11112222333344445555666677778888"
MANAGER = "the-health-manager"


class Cloud:
    """All processes of one host, which can be killed together and started anew."""

    def __init__(self, store, *, dies_at):
        self.database, self.dies_at, self.fuse, self.carried = store, dies_at, Fuse(dies_at), {}
        self.start()

    def start(self):
        conf = cfg.ConfigOpts()
        register(conf)
        settings = load(conf, [], prog="octavia-api", files=[])
        api = msgspec.structs.replace(settings.api_settings, auth_strategy="noauth")
        self.settings: Settings = msgspec.structs.replace(settings, api_settings=api)
        self.store = MortalStore(self.database, self.fuse)
        network = Mortal(LocalNetworks(NetworkBook(self.store)), self.fuse)
        compute = Mortal(Hosts(), self.fuse)
        self.client = testing.TestClient(labelled(build(self.settings, conf, self.store, network)))
        self.queue = Queue(World(store=self.store, compute=compute, network=network), ControllerWorker(), owner="w")
        self.network = network

    def restart(self):
        """After a death: new processes, and time passes until leases and waits are over."""
        self.store.close()
        self.start()
        lb = tables.load_balancers
        with self.store.engine.begin() as connection:
            connection.execute(update(lb).values(lease_until_ms=0))
            connection.execute(update(lb).where(lb.c.due_ms.is_not(None)).values(due_ms=1))

    def live(self, story):
        """Run *story*, again after each death, until it comes to its end."""
        while True:
            try:
                return story()
            except Death:
                self.restart()

    # What goes on without being asked.

    def settle(self):
        """Workers and nodes take turns until nobody has anything to do."""
        for _ in range(40):
            if self.queue.run_once() is None and not self.node_acts():
                return
        raise AssertionError("it never settles")

    def node_acts(self):
        """The node does what the health manager would send, and says so; True if there was anything to do."""
        with self.store.read() as connection:
            mine = placements.held(connection, MANAGER)
        busy = [place for place in mine if self.is_behind(place)]
        for place in busy:
            self.fuse.burn()
            with self.store.read() as connection:
                lb, everyone = load_tree(connection, place.load_balancer_id), load_amphorae(
                    connection, place.load_balancer_id)
            fact = self.obey(place, lb, everyone)
            with self.store.write() as connection:
                if fact is None:
                    reports.gone(connection, place.node_id, place.amphora_id)
                else:
                    reports.applied(connection, place.node_id, fact)
        return bool(busy)

    def is_behind(self, place):
        if place.leaving:
            return not place.gone
        return place.runnable and place.applied_version < place.version

    def obey(self, place, lb, everyone):
        if place.leaving or lb is None:
            self.carried.pop(place.amphora_id, None)
            return None
        me = next(amphora for amphora in everyone if amphora.id == place.amphora_id)
        self.carried[place.amphora_id] = spec = build_spec(lb, me, everyone)
        return Applied(amphora_id=spec.amphora_id, version=spec.version)

    # What a caller does, again if no answer came.

    def call(self, verb, path, **body):
        return self.client.simulate_request(verb, f"/v2.0/lbaas{path}", json=body or None)

    def find(self, path, root):
        return self.call("GET", path).json[root]

    def create(self):
        known = self.find("/loadbalancers", "loadbalancers")
        if not known:
            tree = {"name": "web", "vip_subnet_id": SUBNET, "project_id": PROJECT, "listeners": [{
                "protocol": "HTTP", "protocol_port": 80, "default_pool": {
                    "name": "blue", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
                    "members": [{"address": "10.9.0.3", "protocol_port": 80}]}}]}
            answer = self.call("POST", "/loadbalancers", loadbalancer=tree)
            assert answer.status_code == 201, answer.text
        self.settle()
        return self.statuses()

    def change(self):
        (pool,) = self.find("/pools", "pools")
        members = [{"address": f"10.9.0.{last}", "protocol_port": 80} for last in (4, 5)]
        answer = self.call("PUT", f"/pools/{pool['id']}/members", members=members)
        assert answer.status_code == 202, answer.text
        self.settle()
        return sorted(member["address"] for member in self.find(f"/pools/{pool['id']}/members", "members"))

    def fail_over(self):
        (lb,) = self.find("/loadbalancers", "loadbalancers")
        answer = self.client.simulate_put(f"/v2.0/lbaas/loadbalancers/{lb['id']}/failover")
        assert answer.status_code == 202, answer.text
        self.settle()
        return self.statuses()

    def delete(self):
        for lb in self.find("/loadbalancers", "loadbalancers"):
            assert self.client.simulate_delete(f"/v2.0/lbaas/loadbalancers/{lb['id']}?cascade=true").status_code == 204
        self.settle()
        return self.statuses()

    def statuses(self):
        return [object["provisioning_status"]
                for kind in ("loadbalancers", "listeners", "pools") for object in self.find(f"/{kind}", kind)]

    # What is there.

    def members_in_use(self):
        """What the node would balance over."""
        (spec,) = self.carried.values()
        return sorted(member.address for pool in spec.pools for member in pool.members)

    def left_behind(self):
        """Ports that nobody owns, once housekeeping has looked; rows that nobody will ever remove."""
        list(orphans.end(self.store, orphans.look(self.store, [self.network])))
        with self.store.read() as connection:
            return {table.name: found for table in (tables.ports, tables.port_addresses, *tables.TREE)
                    if (found := connection.execute(select(func.count()).select_from(table)).scalar_one())}


def labelled(app):
    """Falcon's client wants every answer but 204 to have a type; an empty one of Octavia's has none."""
    def answer(environ, start_response):
        def start(status, headers, *rest):
            typed = any(name.lower() == "content-type" for name, _ in headers) or status.startswith("204")
            return start_response(status, headers if typed else [*headers, ("Content-Type", "text/plain")], *rest)

        return app(environ, start)

    return answer


SUBNET = "dddddddd-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("world") / "prepared.db")


def prepare(path):
    """A database with one network and one node that is connected for ever."""
    store = Store(f"sqlite:///{path}")
    upgrade(store)
    network = "eeeeeeee-0000-4000-8000-000000000001"
    with store.write() as connection:
        connection.execute(tables.networks.insert().values(
            id=network, project_id=PROJECT, name="net", bridge="st-world", created_at=utc_now()))
        connection.execute(tables.subnets.insert().values(
            id=SUBNET, network_id=network, project_id=PROJECT, name="sub", cidr="10.9.0.0/24", ip_version=4,
            gateway_ip="10.9.0.1", allocation_pools=[{"start": "10.9.0.100", "end": "10.9.0.110"}],
            created_at=utc_now()))
        node_id = str(uuid4())
        connection.execute(tables.nodes.insert().values(id=node_id, name="the-node", created_at=utc_now()))
        connection.execute(tables.managers.insert().values(id=MANAGER, host="h", alive_until_ms=now_ms() + 10**9))
        reports.connected(connection, MANAGER, node_id, Hello(agent_version="1"))
    store.close()
    return path


def lives(kind, prepared, folder, *, stride=1):
    """Worlds of that *kind* that die at ever later points; the last one lives to its end."""
    path = folder / "world.db"
    store = Store(f"sqlite:///{path}")
    for dies_at in count(uuid4().int % stride + 1, stride):
        path.write_bytes(prepared.read_bytes())
        cloud = kind(store, dies_at=dies_at)
        yield cloud
        cloud.store.close()
        if cloud.fuse.left > 0:
            return


def test_whenever_everything_dies_the_next_start_goes_on_and_nothing_is_left_behind(prepared, tmp_path):
    for cloud in lives(Cloud, prepared, tmp_path):
        assert cloud.live(cloud.create) == ["ACTIVE"] * 3
        assert cloud.members_in_use() == ["10.9.0.3"]
        assert cloud.live(cloud.change) == cloud.members_in_use() == ["10.9.0.4", "10.9.0.5"]
        before = set(cloud.carried)
        assert cloud.live(cloud.fail_over) == ["ACTIVE"] * 3
        assert before.isdisjoint(cloud.carried)
        assert cloud.live(cloud.delete) == []
        assert cloud.carried == {}
        assert cloud.live(cloud.left_behind) == {}
    print(f"\ndied at each of {cloud.dies_at - 1} points")
    assert cloud.dies_at > 100
