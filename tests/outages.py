# SPDX-License-Identifier: Apache-2.0
"""What breaks in a real data centre while its users go on, and what must be true when it is whole again."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from uuid import uuid4

from hosts import Box, Controller, DataCentre, Place, tree
from msgspec import Struct

from benchmarks.client import Document, Unanswered, until

SETTLES_SECONDS = 90.0
"""The longest that anything may take once all is whole again, on a machine that others use too."""

PAUSE_SECONDS = 6.0
OPTIONS = """
[controller_worker]
lease_seconds = 5
retry_max_seconds = 5
[house_keeping]
cleanup_interval = 2
orphan_interval = 2
"""
"""Leases shorter than the pauses, and no long waits."""

Heal = Callable[[], None]


class Case(Struct, frozen=True):
    """One history: what the user does while this is broken."""

    fault: str
    operation: str
    seed: int

    def __str__(self) -> str:
        return f"{self.operation} while {self.fault} ({self.seed})"


class Town:
    """A data centre with a tenant's machines, a user who insists, and a stranger's load balancer."""

    def __init__(self, centre: DataCentre) -> None:
        self.centre = centre
        self.apis = [centre.api(number) for number in range(len(centre.controllers))]
        self.random = Random(0)
        self.flavors = {topology: self._flavor(topology) for topology in ("SINGLE", "ACTIVE_STANDBY")}
        self.network = centre.new_network(self.apis[0], "10.77.0.0/24")
        self.members = [host.plug(self.network.bridge, self.network.address(10 + n), gateway=self.network.gateway)
                        for n, host in enumerate(centre.hosts)]
        for member in self.members:
            member.serve(member.name)
        self.client = centre.hosts[-1].plug(self.network.bridge, self.network.address(50))
        self.stranger = self.create("stranger", "ACTIVE_STANDBY", self.members[:1])
        self.wait(self.stranger, self.members[:1])

    # A user who asks each api in turn until one answers.

    def ask(
        self, method: str, path: str, body: Document | None = None, *, key: str | None = None
    ) -> tuple[int, Document]:
        answers: list[tuple[int, Document]] = []

        def attempt() -> bool:
            self.apis.append(self.apis.pop(0))
            with suppress(Unanswered):
                answers.append(self.apis[0].call(method, path, body, key=key))
            return bool(answers) and answers[-1][0] not in (500, 503)

        until(attempt, seconds=SETTLES_SECONDS, step_seconds=0.1, otherwise=lambda: str(answers[-1:]))
        return answers[-1]

    def create(self, name: str, topology: str, members: Sequence[Box]) -> str:
        wanted = tree(self.network, members, name=name, flavor_id=self.flavors[topology])
        code, document = self.ask("POST", "/v2/lbaas/loadbalancers", wanted, key=str(uuid4()))
        assert code == 201, document
        return str(document["loadbalancer"]["id"])

    def set_members(self, id: str, members: Sequence[Box]) -> None:
        [pool] = self.ask("GET", f"/v2/lbaas/pools?loadbalancer_id={id}")[1]["pools"]
        wanted = {"members": [{"address": box.address, "protocol_port": 80} for box in members]}
        assert self.ask("PUT", f"/v2/lbaas/pools/{pool['id']}/members", wanted)[0] == 202

    def fail_over(self, id: str) -> None:
        assert self.ask("PUT", f"/v2/lbaas/loadbalancers/{id}/failover")[0] == 202

    def delete(self, id: str) -> None:
        assert self.ask("DELETE", f"/v2/lbaas/loadbalancers/{id}?cascade=true")[0] in (204, 404)

    def row(self, id: str) -> Document:
        code, document = self.ask("GET", f"/v2/lbaas/loadbalancers/{id}")
        return dict(document["loadbalancer"]) if code == 200 else {"provisioning_status": "DELETED"}

    # What must come true.

    def wait(self, id: str, members: Sequence[Box]) -> None:
        """Active, exactly these answer, and one host alone bears the VIP."""
        self.wait_for(id, "ACTIVE")
        vip = self.row(id)["vip_address"]
        wanted = {box.name for box in members}
        answers: set[str | None] = set()

        def answer() -> bool:
            answers.clear()
            answers.update(self.client.get(vip) for _ in range(3 * len(wanted)))
            return answers == wanted

        until(answer, seconds=SETTLES_SECONDS, step_seconds=0.1, otherwise=lambda: f"{id}: {answers}, not {wanted}")
        until(lambda: len(self.bearers(vip)) == 1, seconds=SETTLES_SECONDS, step_seconds=0.2,
              otherwise=lambda: f"{vip} is borne by {self.bearers(vip)}")

    def wait_for(self, id: str, status: str) -> None:
        until(lambda: self.row(id)["provisioning_status"] == status, seconds=SETTLES_SECONDS, step_seconds=0.1,
              otherwise=lambda: f"{id} is {self.row(id)}")

    def bearers(self, vip: str) -> list[str]:
        """The amphorae in whose namespaces the address is."""
        names = [f"amphora-{id}" for host in self.centre.hosts for id in host.amphorae()]
        return [name for name in names if Path(f"/run/netns/{name}").exists() and vip in self._addresses(name)]

    def _addresses(self, namespace: str) -> set[str]:
        with suppress(AssertionError):
            shown = self.centre.hosts[0].run("ip", "-n", namespace, "-j", "addr")
            return {one["local"] for link in json.loads(shown) for one in link.get("addr_info", ())}
        return set()

    def left(self) -> list[str]:
        """What there still is but the stranger's."""
        document = self.ask("GET", "/v2/octavia/amphorae")[1]
        ours = {row["id"] for row in document["amphorae"] if row["loadbalancer_id"] == self.stranger}
        found = [f"amphora {id} on {host.name}" for host in self.centre.hosts for id in host.amphorae() - ours]
        ports = self.ask("GET", "/network/v2.0/ports")[1]["ports"]
        owners = ours | {f"lb-{self.stranger}"}
        return found + [f"port {port['name']}" for port in ports if port["device_id"] not in owners]

    def _flavor(self, topology: str) -> str:
        profile = {"name": topology, "provider_name": "amphora",
                   "flavor_data": json.dumps({"loadbalancer_topology": topology})}
        made = self.apis[0].post("/v2/lbaas/flavorprofiles", {"flavorprofile": profile})["flavorprofile"]
        flavor = {"name": topology, "flavor_profile_id": made["id"]}
        return str(self.apis[0].post("/v2/lbaas/flavors", {"flavor": flavor})["flavor"]["id"])


# What breaks: each function breaks it and returns what makes it whole.


def killed(service: str) -> Callable[[Town], Heal]:
    def strike(town: Town) -> Heal:
        process = town.random.choice(town.centre.controllers).services[service]
        process.kill()
        return process.start

    return strike


def paused(service: str) -> Callable[[Town], Heal]:
    """Stopped for longer than its lease."""
    def strike(town: Town) -> Heal:
        process = town.random.choice(town.centre.controllers).services[service]
        process.freeze()

        def heal() -> None:
            rest(PAUSE_SECONDS)
            process.thaw()

        return heal

    return strike


def rolling_restart(town: Town) -> Heal:
    def heal() -> None:
        for controller in town.centre.controllers:
            restart(controller, None)

    return heal


def skewed(clock: str) -> Callable[[Town], Heal]:
    """A controller whose clock is wrong, as faketime takes it."""
    def strike(town: Town) -> Heal:
        controller = town.random.choice(town.centre.controllers)
        restart(controller, clock)
        return lambda: restart(controller, None)

    return strike


def restart(controller: Controller, clock: str | None) -> None:
    for process in controller.services.values():
        process.stop()
        process.clock = clock
    controller.start()
    until(controller.is_ready, seconds=60, step_seconds=0.1, otherwise=controller.said)


def agent_killed(town: Town) -> Heal:
    host = town.random.choice(town.centre.hosts)
    host.agent.kill()
    return host.agent.start


def database_restarted(town: Town) -> Heal:
    assert town.centre.server is not None
    town.centre.server.stop()
    return soon(town.centre.server.start)


def database_killed(town: Town) -> Heal:
    assert town.centre.server is not None
    town.centre.server.process.kill()
    return soon(town.centre.server.start)


def apart(one: Callable[[Town], Place], other: Callable[[Town], Place]) -> Callable[[Town], Heal]:
    def strike(town: Town) -> Heal:
        town.centre.cut(one(town), other(town))

        def heal() -> None:
            rest(town.random.choice((1.0, PAUSE_SECONDS)))
            town.centre.heal()

        return heal

    return strike


def a_controller(town: Town) -> Controller:
    return town.random.choice(town.centre.controllers)


def a_host(town: Town) -> Place:
    return town.random.choice(town.centre.hosts)


def last_host(town: Town) -> Place:
    return town.centre.hosts[-1]


def first_host(town: Town) -> Place:
    return town.centre.hosts[0]


def the_database(town: Town) -> Place:
    assert town.centre.database is not None
    return town.centre.database


def nothing(_town: Town) -> Heal:
    return lambda: None


def soon(act: Heal) -> Heal:
    """Do it in a while by itself, for without it no user gets on; heal by waiting for that."""
    timer = threading.Timer(2.0, act)
    timer.start()
    return timer.join


def rest(seconds: float) -> None:
    """Let the fault last."""
    threading.Event().wait(seconds)


FAULTS: Mapping[str, Callable[[Town], Heal]] = {
    "nothing breaks": nothing,
    "an api is killed": killed("octavia-api"),
    "a worker is killed": killed("octavia-worker"),
    "a health manager is killed": killed("octavia-health-manager"),
    "an agent is killed": agent_killed,
    "a worker is paused": paused("octavia-worker"),
    "a health manager is paused": paused("octavia-health-manager"),
    "a controller's clock is a minute ahead": skewed("+60s"),
    "a controller's clock is a minute behind": skewed("-60s"),
    "all is restarted in turn": rolling_restart,
    "the database restarts": database_restarted,
    "the database is killed": database_killed,
    "a controller loses the database": apart(a_controller, the_database),
    "a host loses a controller": apart(a_host, a_controller),
    "two hosts lose each other": apart(first_host, last_host),
}


def create(town: Town, name: str, heal: Heal) -> str:
    made = town.create(name, town.random.choice(list(town.flavors)), town.members[:2])
    heal()
    town.wait(made, town.members[:2])
    return made


def change(town: Town, name: str, heal: Heal) -> str:
    made = quiet(town, name)
    town.set_members(made, town.members[1:])
    heal()
    town.wait(made, town.members[1:])
    return made


def fail_over(town: Town, name: str, heal: Heal) -> str:
    made = quiet(town, name)
    town.fail_over(made)
    heal()
    town.wait(made, town.members[:2])
    return made


def delete(town: Town, name: str, heal: Heal) -> str:
    made = quiet(town, name)
    town.delete(made)
    heal()
    return made


def quiet(town: Town, name: str) -> str:
    """A load balancer to begin with; it is asked for while the fault is there already."""
    return town.create(name, town.random.choice(list(town.flavors)), town.members[:2])


OPERATIONS: Mapping[str, Callable[[Town, str, Heal], str]] = {
    "create": create, "change members": change, "fail over": fail_over, "delete": delete,
}


def run(town: Town, case: Case) -> str | None:
    """What is wrong in the end, None if nothing."""
    town.random = Random(case.seed)
    heal = FAULTS[case.fault](town)
    healed: list[bool] = []

    def once() -> None:
        if not healed:
            healed.append(True)
            heal()

    try:
        made = OPERATIONS[case.operation](town, f"lb-{case.seed}", once)
        town.delete(made)
        town.wait_for(made, "DELETED")
        town.wait(town.stranger, town.members[:1])
        until(lambda: not town.left(), seconds=SETTLES_SECONDS, step_seconds=0.2,
              otherwise=lambda: f"left: {town.left()}")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        once()
        for lb in town.ask("GET", "/v2/lbaas/loadbalancers")[1]["loadbalancers"]:
            if lb["id"] != town.stranger:
                town.delete(lb["id"])
    return None


def cases(seed: int, count: int, faults: Sequence[str] = tuple(FAULTS)) -> list[Case]:
    """Every fault with every operation before any comes twice, in an order that follows from *seed*."""
    random = Random(seed)
    every = [(fault, operation) for fault in faults for operation in OPERATIONS]
    chosen: list[Case] = []
    while len(chosen) < count:
        random.shuffle(every)
        chosen += [Case(fault, operation, random.randrange(2**31)) for fault, operation in every]
    return chosen[:count]
