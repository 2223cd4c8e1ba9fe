# SPDX-License-Identifier: Apache-2.0
"""Sudden death of any process at any moment: all converges, traffic flows, nothing is left."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest

from benchmarks import rig
from benchmarks.client import Document, Unanswered, body_of, member, tree, until
from benchmarks.rig import Cloud, Network

World = tuple[Cloud, Network]
Answer = TypeVar("Answer")

SERVICES = ("octavia-api", "octavia-worker", "octavia-health-manager", "octavia-housekeeping", "statera-agent")
LATEST_SECONDS = 0.3
"""A service dies so long after a request was sent, at most."""

SETTLES_SECONDS = 30.0


class Caller:
    """A user who repeats what got no answer."""

    def __init__(self, cloud: Cloud, network: Network) -> None:
        self.cloud, self.network, self.api = cloud, network, cloud.api()

    def create(self, name: str) -> Document:
        """A load balancer of that name; a repetition may have made two, then the others are deleted."""
        wanted = tree(self.network.subnet_id, self.network.servers, name=name)
        self._insist(lambda: self.api.post("/v2/lbaas/loadbalancers", wanted))
        made, *others = self._insist(lambda: self.named(name))
        for other in others:
            self.delete(other)
        return made

    def named(self, name: str) -> list[Document]:
        found: list[Document] = self.api.get(f"/v2/lbaas/loadbalancers?name={quote(name)}")["loadbalancers"]
        return found

    def change_members(self, made: Document, addresses: Sequence[str]) -> None:
        [pool] = self._insist(lambda: self.api.get(f"/v2/lbaas/pools?loadbalancer_id={made['id']}")["pools"])
        members = {"members": [member(address) for address in addresses]}
        self._insist(lambda: self.api.put(f"/v2/lbaas/pools/{pool['id']}/members", members))

    def delete(self, made: Document) -> None:
        """Gone already is deleted, too."""
        def ask() -> bool:
            status, _ = self.api.call("DELETE", f"/v2/lbaas/loadbalancers/{made['id']}?cascade=true")
            return status in (204, 404)

        assert self._insist(ask)

    def wait_for(self, made: Document, status: str) -> None:
        def shown() -> str:
            return self._insist(lambda: self.api.status(made["id"]))

        until(lambda: shown() == status, seconds=SETTLES_SECONDS, step_seconds=0.02,
              otherwise=lambda: f"load balancer {made['id']} is {shown()}")

    def wait_for_answers_of(self, made: Document, addresses: Sequence[str]) -> None:
        """Every one of the web servers, and nobody else, answers."""
        wanted = {f"{address}:80" for address in addresses}
        until(lambda: {body_of(made["vip_address"]) for _ in range(3 * len(wanted))} == wanted, seconds=SETTLES_SECONDS)

    def _insist(self, act: Callable[[], Answer]) -> Answer:
        """What *act* returns once the api answers."""
        answers: list[Answer] = []

        def attempt() -> bool:
            with suppress(Unanswered):
                answers.append(act())
            return bool(answers)

        until(attempt, seconds=SETTLES_SECONDS, step_seconds=0.02)
        return answers[0]


@pytest.fixture
def caller(world: World) -> Iterator[Caller]:
    caller = Caller(*world)
    yield caller
    caller.api.close()
    until(lambda: not left(caller), seconds=SETTLES_SECONDS, otherwise=lambda: f"left: {left(caller)}")


def left(caller: Caller) -> list[str]:
    return rig.leftovers(caller.cloud, caller.cloud.amphora_ids(), [caller.network.bridge])


@contextmanager
def death(cloud: Cloud, services: Sequence[str], chance: random.Random) -> Iterator[None]:
    """Meanwhile each of the services dies, at a moment of its own."""
    until(lambda: all(map(cloud.service, services)), seconds=SETTLES_SECONDS)
    killers = [threading.Timer(chance.uniform(0, LATEST_SECONDS), cloud.kill, (name,)) for name in services]
    for killer in killers:
        killer.start()
    yield
    for killer in killers:
        killer.join()


@pytest.mark.parametrize("services", [
    *(pytest.param((name,), id=name) for name in SERVICES),
    pytest.param(SERVICES, id="all of them"),
])
def test_services_die_during_create_and_update_and_delete(caller: Caller, services: Sequence[str]) -> None:
    name = " ".join(services)
    chance, servers, cloud = random.Random(name), caller.network.servers, caller.cloud
    with death(cloud, services, chance):
        made = caller.create(name)
    caller.wait_for(made, "ACTIVE")
    caller.wait_for_answers_of(made, servers[:2])
    with death(cloud, services, chance):
        caller.change_members(made, servers[1:4])
    caller.wait_for(made, "ACTIVE")
    caller.wait_for_answers_of(made, servers[1:4])
    with death(cloud, services, chance):
        caller.delete(made)
    caller.wait_for(made, "DELETED")


def test_a_killed_haproxy_serves_again_within_a_second(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    cloud, servers = caller.cloud, caller.network.servers
    waits = []
    made = caller.create("killed-haproxy")
    caller.wait_for_answers_of(made, servers[:2])
    for victims in (everything, master, worker) * 2:
        for pid in victims(cloud, made):
            os.kill(pid, signal.SIGKILL)
        waits.append(until(lambda: body_of(made["vip_address"], timeout_seconds=0.05)))
        caller.wait_for_answers_of(made, servers[:2])
    caller.delete(made)
    caller.wait_for(made, "DELETED")
    with capsys.disabled():
        print(f" back after {', '.join(f'{1000 * seconds:.0f}' for seconds in waits)} ms", end="")
    assert max(waits) < 3


def everything(cloud: Cloud, made: Document) -> list[int]:
    return [*master(cloud, made), *worker(cloud, made)]


def master(cloud: Cloud, made: Document) -> list[int]:
    return list(cloud.haproxies(made["id"]).values())


def worker(cloud: Cloud, made: Document) -> list[int]:
    return [child for pid in master(cloud, made) for child in rig.children(pid)]


def test_traffic_does_not_notice_that_all_services_end_and_start_again(caller: Caller) -> None:
    cloud, servers = caller.cloud, caller.network.servers
    made = caller.create("ctrl-c")
    caller.wait_for(made, "ACTIVE")
    caller.wait_for_answers_of(made, servers[:2])
    before = everything(cloud, made)
    with rig.load(made["vip_address"], clients=4) as finish:
        cloud.stop(signal.SIGINT)
        cloud.start()
        outcome = finish()
    assert everything(cloud, made) == before
    assert (outcome.per_request.failed, outcome.kept.failed, outcome.kept.reopened) == (0, 0, 0)
    assert outcome.per_request.requests > 100
    caller.change_members(made, servers[1:4])
    caller.wait_for_answers_of(made, servers[1:4])
    caller.delete(made)
    caller.wait_for(made, "DELETED")


def test_a_frozen_agent_does_not_hold_up_a_delete_and_tidies_up_when_it_thaws(caller: Caller) -> None:
    made = caller.create("frozen")
    caller.wait_for_answers_of(made, caller.network.servers[:2])
    agent = caller.cloud.service("statera-agent")
    assert agent is not None
    os.kill(agent, signal.SIGSTOP)
    try:
        caller.delete(made)
        caller.wait_for(made, "DELETED")
    finally:
        os.kill(agent, signal.SIGCONT)
    until(lambda: body_of(made["vip_address"], timeout_seconds=0.2) is None, seconds=SETTLES_SECONDS)


def test_a_purge_leaves_nothing(tmp_path: Path) -> None:
    with rig.playground(tmp_path) as (cloud, network):
        caller = Caller(cloud, network)
        made = [caller.create(f"purged-{number}") for number in range(3)]
        caller.wait_for_answers_of(made[-1], network.servers[:2])
        amphora_ids = cloud.amphora_ids()
        assert len(amphora_ids) == 3
        cloud.purge()
        assert rig.leftovers(cloud, amphora_ids) == []
        assert not Path(f"/sys/class/net/{network.bridge}").exists()
        assert not cloud.state.exists()
        caller.api.close()
