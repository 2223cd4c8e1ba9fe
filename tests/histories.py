# SPDX-License-Identifier: Apache-2.0
"""Random histories of the stepped world: what users do while something breaks, and what must be true afterwards."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from msgspec import Struct, structs
from stepped import LEASE_SECONDS, SUBNETS, TENANTS, Node, Stepped, die

from statera.commands import orphans
from statera.drivers.network.local import LocalNetworks
from statera.errors import GiveUp, TryAgain
from statera.fleet.specs import build as build_spec
from statera.store import nodes, tables
from statera.store.networks import NetworkBook
from statera.store.seen import load_amphorae
from statera.store.trees import load_tree
from statera.wire import Spec

SETTLES_SECONDS = 300
"""The longest that anything may be pending once all is well again: two of the longest waits between tries, and the
doubt of a judge before which most of the fleet fell silent."""

CALM_SECONDS = 10
"""Statuses are fresh again when health managers have given their next sign of life."""

WELL = ("ONLINE", "DEGRADED")
ROLES = {"SINGLE": {"STANDALONE"}, "ACTIVE_STANDBY": {"MASTER", "BACKUP"}}
Document = dict[str, Any]


class Step(Struct, frozen=True):
    """One thing that a user does, one that breaks meanwhile, and what chance has to say about both."""

    operation: str
    fault: str
    seed: int

    def __str__(self) -> str:
        return f"{self.operation} while {self.fault} ({self.seed})"


class Violation(AssertionError):
    """Something that must never be is so."""


@dataclass
class Tree:
    """What a user was told is so about one load balancer."""

    name: str
    topology: str
    listeners: dict[str, int] = field(default_factory=dict)
    pool: str = ""
    members: dict[str, str] = field(default_factory=dict)
    seen_bytes: int = 0


class History:
    """A life of the world, with what users know of it."""

    def __init__(self, world: Stepped, seed: int) -> None:
        self.world, self.random = world, Random(seed)
        self.trees: dict[str, Tree] = {}
        self.names = iter(range(10_000))
        self.repairs: list[Callable[[], None]] = []
        world.reset(seed, workers=2, managers=2, hosts=3)
        world.tick()
        self.stranger = self.create(tenant=1)
        self.settle()
        self.stranger_tree = self.shown(self.stranger)

    def live(self, steps: Sequence[Step]) -> None:
        """Go through all of it; raise `Violation`."""
        for step in steps:
            self.random = Random(step.seed)
            FAULTS[step.fault](self)
            OPERATIONS[step.operation](self)
            for _ in range(self.random.choice((0, 1, 3, 9))):
                self.world.tick(self.random.choice((0.5, 1, 2)))
            self.watch()
            if self.random.random() < 0.5:
                self.repair()
        self.repair()
        self.settle()
        self.bury()
        self.settle()
        for _ in range(CALM_SECONDS):
            if self.is_calm():
                break
            self.world.tick()
        self.check()

    # What users do.

    def create(self, tenant: int = 0) -> str:
        name, pair = f"lb-{next(self.names)}", self.random.random() < 0.5
        wanted: Document = {
            "name": name, "vip_subnet_id": SUBNETS[tenant], "project_id": TENANTS[tenant],
            "listeners": [{"name": "l", "protocol": "HTTP", "protocol_port": 80, "connection_limit": 1000,
                           "default_pool": {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
                                            "members": [{"address": self.address(), "protocol_port": 80}]}}]}
        if pair:
            wanted["flavor_id"] = self.world.pair_flavor
        made = self.ok(self.world.call("POST", "/loadbalancers", key=name, loadbalancer=wanted), 201)["loadbalancer"]
        listener = made["listeners"][0]
        pool = made["pools"][0]
        tree = Tree(name, "ACTIVE_STANDBY" if pair else "SINGLE", {listener["id"]: 1000}, pool["id"])
        tree.members = {member["id"]: member["address"] for member in pool["members"]}
        if tenant == 0:
            self.trees[made["id"]] = tree
        return str(made["id"])

    def set_members(self) -> None:
        for tree in self.any_tree():
            wanted = {self.address() for _ in range(self.random.randrange(5))}
            self.ok(self.world.call("PUT", f"/pools/{tree.pool}/members", members=[
                {"address": address, "protocol_port": 80} for address in sorted(wanted)]), 202)
            table = tables.members
            tree.members = {member.id: member.address for member in self.world.rows(
                table, table.c.pool_id == tree.pool, ~table.c.deleting)}
            if set(tree.members.values()) != wanted:
                raise Violation(f"wrote {wanted}, read {tree.members}")

    def add_member(self) -> None:
        for tree in self.any_tree():
            free = self.random.choice([f"10.0.0.{last}" for last in range(2, 90)
                                       if f"10.0.0.{last}" not in tree.members.values()])
            made = self.ok(self.world.call("POST", f"/pools/{tree.pool}/members", key=f"m-{next(self.names)}", member={
                "address": free, "protocol_port": 80}), 201)["member"]
            tree.members[made["id"]] = free

    def drop_member(self) -> None:
        for tree in self.any_tree():
            for id in sorted(tree.members)[:1]:
                self.ok(self.world.call("DELETE", f"/pools/{tree.pool}/members/{id}"), 204, 404)
                del tree.members[id]

    def change_listener(self) -> None:
        for tree in self.any_tree():
            for id in sorted(tree.listeners)[:1]:
                limit = self.random.randrange(1, 5000)
                self.ok(self.world.call("PUT", f"/listeners/{id}", listener={"connection_limit": limit}), 200)
                tree.listeners[id] = limit

    def add_listener(self) -> None:
        for lb_id in self.any_id():
            made = self.ok(self.world.call("POST", "/listeners", key=f"l-{next(self.names)}", listener={
                "loadbalancer_id": lb_id, "protocol": "HTTP", "protocol_port": 1000 + next(self.names),
                "connection_limit": 7}), 201)["listener"]
            self.trees[lb_id].listeners[made["id"]] = 7

    def drop_listener(self) -> None:
        for tree in self.any_tree():
            for id in list(tree.listeners)[1:2]:  # the first is the one that uses the pool
                self.ok(self.world.call("DELETE", f"/listeners/{id}"), 204, 404)
                del tree.listeners[id]

    def fail_over(self) -> None:
        for lb_id in self.any_id():
            self.ok(self.world.call("PUT", f"/loadbalancers/{lb_id}/failover"), 202)

    def fail_over_amphora(self) -> None:
        for lb_id in self.any_id():
            found = self.world.rows(tables.amphorae, tables.amphorae.c.load_balancer_id == lb_id,
                                    tables.amphorae.c.deleted_at.is_(None))
            for amphora in found[:1]:
                answer = self.world.call("PUT", f"/amphorae/{amphora.id}/failover", root="/v2.0/octavia")
                self.ok(answer, 202, 404)

    def delete(self) -> None:
        for lb_id in self.any_id():
            self.ok(self.world.call("DELETE", f"/loadbalancers/{lb_id}?cascade=true"), 204, 404)
            del self.trees[lb_id]

    def nothing(self) -> None:
        """Time passes."""

    # What breaks.

    def worker_dies(self) -> None:
        self.random.choice(self.world.fates).arm(self.random.randrange(1, 40), die)

    def worker_sleeps(self) -> None:
        """A worker is stopped in the middle of a pass until its lease is over and another one went on."""
        number = self.random.randrange(len(self.world.fates))
        self.world.fates[number].arm(self.random.randrange(1, 40), partial(self._sleep, number))

    def _sleep(self, number: int) -> None:
        if self.world.is_writing:  # on SQLite everybody else would wait
            self.world.fates[number].at = 1
            return
        for _ in range(4):
            self.world.clock.now += LEASE_SECONDS / 2
            for other in range(len(self.world.queues)):
                if other != number:
                    self.world.worker_runs(other)

    def api_dies(self) -> None:
        self.world.api_fate.arm(self.random.randrange(1, 6), die)

    def manager_dies(self) -> None:
        self.world.restart_manager(self.random.randrange(len(self.world.managers)))

    def cloud_stutters(self) -> None:
        self._drivers_fail(TryAgain("cloud_busy", "the cloud is busy"))

    def cloud_refuses(self) -> None:
        self._drivers_fail(GiveUp("cloud_refuses", "the cloud will not"))

    def _drivers_fail(self, error: TryAgain | GiveUp) -> None:
        for fate in self.world.fates:
            fate.error = error
        self.repairs.append(self._drivers_work)

    def _drivers_work(self) -> None:
        for fate in self.world.fates:
            fate.error = None

    def node_refuses(self) -> None:
        for node in self.any_node():
            node.refuses = True
            self.repairs.append(partial(setattr, node, "refuses", False))

    def node_is_cut_off(self) -> None:
        for node in self.any_node():
            node.cut = True
            self.repairs.append(partial(setattr, node, "cut", False))

    def agent_restarts(self) -> None:
        for node in self.any_node():
            node.up = False
            self.repairs.append(partial(setattr, node, "up", True))

    def node_dies(self) -> None:
        """And a new one takes its place, so that there is room for all."""
        for node in self.any_node():
            node.die()
            self.world.add_node()

    def node_is_drained(self) -> None:
        for node in self.any_node():
            with self.world.store.write() as connection:
                nodes.drain(connection, node.name)
            self.repairs.append(partial(self._undrain, node))

    def _undrain(self, node: Node) -> None:
        with self.world.store.write() as connection:
            nodes.undrain(connection, node.name)

    def node_comes(self) -> None:
        self.world.add_node()

    def clock_jumps_ahead(self) -> None:
        self.world.clock.jump += 60

    def clock_jumps_back(self) -> None:
        self.world.clock.jump -= 60

    # How it goes on.

    def repair(self) -> None:
        while self.repairs:
            self.repairs.pop()()

    def settle(self) -> None:
        """Until nothing is under way any more; raise `Violation` if that takes too long."""
        began = self.world.clock.now
        self.world.tick()
        while self.pending():
            lasted = self.world.clock.now - began
            if lasted > SETTLES_SECONDS:
                raise Violation(f"still pending after {SETTLES_SECONDS} s without a fault: {self.pending()}")
            self.world.tick(1 if lasted < 10 else 2.5)
        self.world.tick()

    def is_calm(self) -> bool:
        """Whether operating statuses are fresh: after a jump of the database's clock they are not, for a while."""
        shown = [self.ok(self.world.call("GET", f"/loadbalancers/{id}"), 200)["loadbalancer"]
                 for id in (self.stranger, *self.trees)]
        return all(one["operating_status"] in WELL for one in shown)

    def pending(self) -> list[str]:
        lb, amphora = tables.load_balancers, tables.amphorae
        found = [f"load balancer {row.name or row.id} at {row.done_version} of {row.version}, failure {row.failure}"
                 for row in self.world.rows(lb, lb.c.unsettled == 1)]
        living = {node.id for node in self.world.nodes if not node.dead}
        node = tables.nodes.c
        found += [f"{row.name} is dead and not lost" for row in self.world.rows(
            tables.nodes, node.lost_ms.is_(None), node.connected_at.is_not(None), node.id.not_in(living))]
        versions = {row.id: row.version for row in self.world.rows(lb)}
        for row in self.world.rows(amphora, amphora.c.deleted_at.is_(None)):
            if row.leaving and row.node_id in (None, *living):
                found.append(f"amphora {row.id} leaves")
            elif not row.leaving and row.node_id not in living:
                found.append(f"amphora {row.id} is on a node that is dead")
            elif not row.leaving and row.applied_version < versions[row.load_balancer_id]:
                found.append(f"amphora {row.id} lacks the newest version")
        return found

    def bury(self) -> None:
        """The operator removes nodes that will never come back, and what they carried is forgotten."""
        for node in self.world.nodes:
            if node.dead:
                with self.world.store.write() as connection:
                    nodes.remove(connection, node.name)

    def watch(self) -> None:
        """What must be true at any moment."""
        for lb_id, tree in self.trees.items():
            stats = self.ok(self.world.call("GET", f"/loadbalancers/{lb_id}/stats"), 200)["stats"]
            if stats["bytes_in"] < tree.seen_bytes:
                raise Violation(f"{tree.name}: bytes_in fell from {tree.seen_bytes} to {stats['bytes_in']}")
            tree.seen_bytes = stats["bytes_in"]

    # What must be true at the end.

    def check(self) -> None:
        self.watch()
        if (shown := self.shown(self.stranger)) != self.stranger_tree:
            lies = {name: (shown[name], value) for name, value in self.stranger_tree.items() if shown[name] != value}
            raise Violation(f"another tenant's load balancer has changed: {lies}")
        found = {row.id for row in self.world.rows(tables.load_balancers, tables.load_balancers.c.deleted_at.is_(None))}
        if found != {self.stranger, *self.trees}:
            raise Violation(f"load balancers {found} are there, {set(self.trees)} are wanted")
        for lb_id in found:
            self.check_status(lb_id)
            self.check_nodes(lb_id)
        for lb_id, tree in self.trees.items():
            self.check_acknowledged(lb_id, tree)
        self.check_leftovers(found)

    def check_status(self, lb_id: str) -> None:
        for path in (f"/loadbalancers/{lb_id}", *(f"/listeners/{id}" for id in self.listeners(lb_id))):
            [shown] = self.ok(self.world.call("GET", path), 200).values()
            if shown["provisioning_status"] != "ACTIVE":
                raise Violation(f"{path} is {shown['provisioning_status']}")
            if path.startswith("/load") and shown["operating_status"] not in WELL:
                raise Violation(f"{path} is {shown['operating_status']}")

    def listeners(self, lb_id: str) -> Mapping[str, int]:
        return self.trees[lb_id].listeners if lb_id in self.trees else {}

    def check_nodes(self, lb_id: str) -> None:
        """What is observed is what is desired, and nobody else answers."""
        with self.world.store.read() as connection:
            desired, everyone = load_tree(connection, lb_id), load_amphorae(connection, lb_id)
        assert desired is not None
        carried = self.carried(lb_id)
        if sorted(spec.amphora_id for _, spec in carried) != sorted(amphora.id for amphora in everyone):
            raise Violation(f"{lb_id}: amphorae {[a.id for a in everyone]}, nodes carry {carried}")
        roles = [str(spec.role) for _, spec in carried]
        if sorted(roles) != sorted(ROLES[desired.topology]):
            raise Violation(f"{lb_id}: {desired.topology} is carried as {roles}")
        for node, spec in carried:
            amphora = next(one for one in everyone if one.id == spec.amphora_id)
            wanted = structs.replace(build_spec(desired, amphora, everyone), predecessors=spec.predecessors)
            if amphora.node_id != node.id or spec != wanted:
                lies = [name for name in spec.__struct_fields__ if getattr(spec, name) != getattr(wanted, name)]
                raise Violation(f"{lb_id}: node {node.name} runs {[getattr(spec, name) for name in lies]}, "
                                f"not {[getattr(wanted, name) for name in lies]} as {lies}")

    def carried(self, lb_id: str) -> list[tuple[Node, Spec]]:
        return [(node, spec) for node in self.world.nodes for spec in node.carried.values()
                if spec.load_balancer_id == lb_id]

    def check_acknowledged(self, lb_id: str, tree: Tree) -> None:
        for _, spec in self.carried(lb_id):
            limits = {listener.id: listener.connection_limit for listener in spec.listeners}
            if limits != tree.listeners:
                raise Violation(f"{tree.name}: listeners {tree.listeners} were acknowledged, {limits} run")
            members = {member.id: member.address for pool in spec.pools for member in pool.members}
            if members != tree.members:
                raise Violation(f"{tree.name}: members {tree.members} were acknowledged, {members} run")

    def check_leftovers(self, load_balancers: set[str]) -> None:
        sources = [LocalNetworks(NetworkBook(self.world.store))]
        list(orphans.let_go(orphans.look(self.world.store, sources) & orphans.look(self.world.store, sources)))
        amphorae = {row.id for row in self.world.rows(tables.amphorae, tables.amphorae.c.deleted_at.is_(None))}
        for port in self.world.rows(tables.ports):
            if port.device_id not in amphorae | {f"lb-{id}" for id in load_balancers}:
                raise Violation(f"port {port.name} belongs to nobody")
        for node in self.world.nodes:
            if strangers := node.carried.keys() - amphorae:
                raise Violation(f"node {node.name} carries {strangers}, which nobody knows")

    # Small things.

    def ok(self, answer: Any, *codes: int) -> Document:
        if answer.status_code not in codes:
            raise Violation(f"the api answers {answer.status_code}: {answer.text[:300]}")
        return dict(answer.json or {}) if answer.status_code not in (204, 404) and answer.text else {}

    def shown(self, lb_id: str) -> Document:
        """A load balancer as its tenant sees it, but for what is there to change."""
        shown = self.ok(self.world.call("GET", f"/loadbalancers/{lb_id}"), 200)["loadbalancer"]
        return {name: value for name, value in shown.items() if name not in ("updated_at",)}

    def address(self) -> str:
        return f"10.0.0.{self.random.randrange(2, 90)}"

    def any_id(self) -> list[str]:
        return self.random.sample(list(self.trees), 1) if self.trees else []

    def any_tree(self) -> list[Tree]:
        return [self.trees[id] for id in self.any_id()]

    def any_node(self) -> list[Node]:
        """One that does not fail already, as long as another one is left that does not."""
        well = [node for node in self.world.nodes
                if node.up and not (node.dead or node.cut or node.refuses) and not self._is_drained(node)]
        return self.random.sample(well, 1) if len(well) > 1 else []

    def _is_drained(self, node: Node) -> bool:
        return any(row.drained for row in self.world.rows(tables.nodes, tables.nodes.c.id == node.id))


OPERATIONS: Mapping[str, Callable[[History], object]] = {
    "create": History.create, "set members": History.set_members, "add member": History.add_member,
    "drop member": History.drop_member, "change listener": History.change_listener,
    "add listener": History.add_listener, "drop listener": History.drop_listener, "fail over": History.fail_over,
    "fail over an amphora": History.fail_over_amphora, "delete": History.delete, "nothing": History.nothing,
}
FAULTS: Mapping[str, Callable[[History], object]] = {
    "nothing breaks": History.nothing, "a worker dies": History.worker_dies, "a worker sleeps": History.worker_sleeps,
    "the api dies": History.api_dies, "a health manager dies": History.manager_dies,
    "the cloud stutters": History.cloud_stutters, "the cloud refuses": History.cloud_refuses,
    "a node refuses": History.node_refuses, "a node is cut off": History.node_is_cut_off,
    "an agent is away": History.agent_restarts, "a node dies": History.node_dies,
    "a node is drained": History.node_is_drained, "a node comes": History.node_comes,
    "the clock jumps ahead": History.clock_jumps_ahead, "the clock jumps back": History.clock_jumps_back,
}


def steps_of(seed: int, length: int = 8) -> list[Step]:
    """The history that follows from *seed*: it begins with a load balancer."""
    random = Random(seed)
    first = Step("create", random.choice(list(FAULTS)), random.randrange(2**31))
    return [first, *(
        Step(random.choice(list(OPERATIONS)), random.choice(list(FAULTS)), random.randrange(2**31))
        for _ in range(random.randrange(1, length)))]


def run(world: Stepped, seed: int, steps: Sequence[Step]) -> str | None:
    """What is wrong after this history, None if nothing."""
    try:
        History(world, seed).live(steps)
    except Violation as violation:
        return str(violation)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def shortest(world: Stepped, seed: int, steps: Sequence[Step]) -> list[Step]:
    """The history without the steps that are not needed for it to go wrong."""
    kept = list(steps)
    for step in list(steps):
        fewer = [one for one in kept if one is not step]
        if fewer and run(world, seed, fewer):
            kept = fewer
    return kept


def pairs(steps: Sequence[Step]) -> Counter[tuple[str, str]]:
    return Counter((step.fault, step.operation) for step in steps)
