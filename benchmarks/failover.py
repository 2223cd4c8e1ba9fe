# SPDX-License-Identifier: Apache-2.0
"""How long a VIP is mute, and how many requests fail, when nodes die, amphorae are replaced and controllers are away.

Three hosts in network namespaces, each with an agent of its own, a controller beside them; clients and members are
machines of the tenant on a host that carries no amphora.
"""

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click
import msgspec

from benchmarks import machine
from benchmarks.client import Document, until
from benchmarks.rows import Row, Sheet, conclude, measured
from benchmarks.terminal import ticking
from benchmarks.vrrp import Traffic

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hosts import Box, DataCentre, Host, Network, data_centre, tree

OPTIONS = "\n[house_keeping]\ncleanup_interval = 1\n"
SINGLE_SECONDS, PAIR_SECONDS = 8.0, 0.5
AWAY_SECONDS, FLEET = 60.0, 20


class Stage:
    """Hosts `a` and `b` carry amphorae, `c` has the tenant's machines; `spare` joins when it is asked to."""

    def __init__(self, centre: DataCentre) -> None:
        self.centre, self.api = centre, centre.api()
        *self.carriers, self.tenants = centre.hosts
        centre.statera("node", "drain", self.tenants.name)
        self.network: Network = centre.new_network(self.api)
        self.members = [self._member(number) for number in (10, 11)]
        self.client: Box = self.tenants.plug(self.network.bridge, self.network.address(20))
        self.flavors = {name: self._flavor(name) for name in ("SINGLE", "ACTIVE_STANDBY")}

    def _member(self, number: int) -> Box:
        box = self.tenants.plug(self.network.bridge, self.network.address(number))
        box.serve(f"member-{number}")
        return box

    def _flavor(self, topology: str) -> str:
        profile = self.api.post("/v2/lbaas/flavorprofiles", {"flavorprofile": {
            "name": topology, "provider_name": "amphora",
            "flavor_data": msgspec.json.encode({"loadbalancer_topology": topology}).decode()}})["flavorprofile"]
        made = self.api.post("/v2/lbaas/flavors", {"flavor": {"name": topology, "flavor_profile_id": profile["id"]}})
        return str(made["flavor"]["id"])

    @contextlib.contextmanager
    def balancer(self, topology: str, *, name: str = "web") -> Iterator[Document]:
        """A load balancer that serves; it is gone at the end."""
        made = self.create(topology, name)
        self.served(made)
        yield made
        self.delete(made)

    def create(self, topology: str, name: str) -> Document:
        made: Document = self.api.post("/v2/lbaas/loadbalancers", tree(
            self.network, self.members, name=name, flavor_id=self.flavors[topology]))["loadbalancer"]
        return made

    def delete(self, made: Document) -> None:
        self.api.delete(f"/v2/lbaas/loadbalancers/{made['id']}?cascade=true")
        self.api.wait_for(made["id"], "DELETED", seconds=60)

    def served(self, made: Document) -> None:
        self.api.wait_for(made["id"], "ACTIVE", seconds=60)
        until(lambda: self.client.get(made["vip_address"]), seconds=30)

    @contextlib.contextmanager
    def traffic(self, made: Document) -> Iterator[Traffic]:
        with Traffic(made["vip_address"], namespace=self.client.namespace).flowing() as traffic:
            yield traffic

    def amphorae(self, made: Document) -> list[Document]:
        found: list[Document] = self.api.get(f"/v2/octavia/amphorae?loadbalancer_id={made['id']}")["amphorae"]
        return found

    def settled(self, made: Document, *, roles: int, instead_of: Sequence[str] = ()) -> bool:
        """Whether so many amphorae serve, and none of those is left."""
        found = self.amphorae(made)
        return (len(found) == roles and not {one["id"] for one in found} & set(instead_of)
                and all(one["status"] == "ALLOCATED" for one in found) and self.api.status(made["id"]) == "ACTIVE")

    def bearer(self, made: Document) -> Host:
        """The host whose amphora answers for the VIP."""
        vip = made["vip_address"]

        def look() -> Host | None:
            for host in self.carriers:
                for amphora_id in host.amphorae():
                    with contextlib.suppress(AssertionError):
                        if f" {vip}/" in host.run("ip", "-n", f"amphora-{amphora_id}", "-o", "addr"):
                            return host
            return None

        until(look)
        found = look()
        assert found is not None
        return found

    @contextlib.contextmanager
    def dead(self, host: Host) -> Iterator[float]:
        """The host loses its power, at the moment that is given; it comes back, as it was, at the end."""
        host.agent.freeze()
        began = time.monotonic()
        host.run("ip", "link", "set", "eth0", "down")
        yield began
        host.run("ip", "link", "set", "eth0", "up")
        host.agent.thaw()
        self.centre.wait_for_hosts(host)


Job = Callable[[Stage], Iterator[Row]]


def dead_node(topology: str, limit_seconds: float) -> Job:
    """The node whose amphora serves dies; default settings."""
    def job(stage: Stage) -> Iterator[Row]:
        roles = 1 if topology == "SINGLE" else 2
        with stage.balancer(topology) as made:
            with stage.traffic(made) as traffic, stage.dead(stage.bearer(made)) as began:
                if topology == "SINGLE":
                    until(lambda: stage.client.get(made["vip_address"], timeout_seconds=0.2), seconds=60)
                pause(3)
                gap = traffic.gap_seconds(began)
            until(lambda: stage.settled(made, roles=roles), seconds=60)
        yield Row(what=f"dead node, {topology}: nobody answers for", values=(gap,), unit="s",
                  target=f"≤ {limit_seconds:g}", failed=gap > limit_seconds)

    return job


def under_load(stage: Stage, made: Document, act: Callable[[], None]) -> Row:
    """Requests all the time while something happens; the row is still without its name."""
    with stage.client.load(made["vip_address"]) as finish:
        pause(1)
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
        pause(1)
        outcome = finish()
    total = outcome.per_request.requests + outcome.kept.requests
    failed = outcome.per_request.failed + outcome.kept.failed
    slowest = max(outcome.per_request.slowest_seconds, outcome.kept.slowest_seconds)
    errors = {**outcome.per_request.errors, **outcome.kept.errors}
    what = f"failed of {total} requests in {seconds:.1f} s, the slowest took {slowest:.2f} s"
    return Row(what=what + (f" ({'; '.join(errors)})" if errors else ""), values=(failed,), unit="")


def named(row: Row, name: str, *, allowed: int = 0) -> Row:
    return msgspec.structs.replace(
        row, what=f"{name}: {row.what}", target=f"≤ {allowed}" if allowed else "0", failed=row.values[0] > allowed)


def failover(topology: str, allowed: int) -> Job:
    """`openstack loadbalancer failover`."""
    def job(stage: Stage) -> Iterator[Row]:
        with stage.balancer(topology) as made:
            old = [one["id"] for one in stage.amphorae(made)]

            def act() -> None:
                stage.api.put(f"/v2/lbaas/loadbalancers/{made['id']}/failover", {})
                until(lambda: stage.settled(made, roles=len(old), instead_of=old), seconds=90)

            row = under_load(stage, made, act)
        yield named(row, f"failover, {topology}", allowed=allowed)

    return job


def drain(stage: Stage) -> Iterator[Row]:
    """A pair moves off a node that is drained."""
    with stage.balancer("ACTIVE_STANDBY") as made:
        host = stage.bearer(made)

        def act() -> None:
            stage.centre.statera("node", "drain", host.name)
            until(lambda: not host.amphorae(), seconds=90)

        row = under_load(stage, made, act)
        stage.centre.statera("node", "undrain", host.name)
        until(lambda: host.amphorae() and stage.settled(made, roles=2), seconds=90)
    yield named(row, "drain of the node that serves, ACTIVE_STANDBY")


def resize(stage: Stage) -> Iterator[Row]:
    """SINGLE becomes ACTIVE_STANDBY and SINGLE again."""
    with stage.balancer("SINGLE") as made:
        path = f"/v2/lbaas/loadbalancers/{made['id']}/flavor"

        def act() -> None:
            for topology, roles in (("ACTIVE_STANDBY", 2), ("SINGLE", 1)):
                stage.api.put(path, {"flavor": {"flavor_id": stage.flavors[topology]}})
                until(lambda roles=roles: stage.settled(made, roles=roles), seconds=90)
                pause(2)

        row = under_load(stage, made, act)
    yield named(row, "resize SINGLE → ACTIVE_STANDBY → SINGLE")


def away(seconds: float) -> Job:
    """Every controller process is gone for a while."""
    def job(stage: Stage) -> Iterator[Row]:
        with stage.balancer("ACTIVE_STANDBY") as pair, stage.balancer("SINGLE", name="alone") as alone:
            def act() -> None:
                with stage.client.load(alone["vip_address"]) as finish:
                    services = [*stage.centre.controllers[0].services.values(), stage.centre.housekeeping]
                    for service in services:
                        service.kill()
                    pause(seconds)
                    for service in services:
                        service.start()
                    until(stage.centre.controllers[0].is_ready, seconds=60)
                    stage.centre.wait_for_hosts(*stage.centre.hosts)
                    outcome = finish()
                other.append(outcome.per_request.failed + outcome.kept.failed)

            other: list[int] = []
            row = under_load(stage, pair, act)
            stage.served(pair)
        yield named(row, f"control plane down for {seconds:g} s, ACTIVE_STANDBY")
        yield Row(what=f"control plane down for {seconds:g} s, SINGLE: failed requests", values=(other[0],), unit="",
                  target="0", failed=other[0] > 0)

    return job


def rotation(count: int) -> Job:
    """All amphorae of so many load balancers, pairs and singles in turns, are replaced by `statera rotate`."""
    def job(stage: Stage) -> Iterator[Row]:
        topologies = ["ACTIVE_STANDBY" if number % 2 else "SINGLE" for number in range(count)]
        made = [stage.create(topology, f"lb-{number}") for number, topology in enumerate(topologies)]
        for one in made:
            stage.served(one)
        old = {one["id"]: [amphora["id"] for amphora in stage.amphorae(one)] for one in made}

        def act() -> None:
            stage.centre.statera("rotate", "--all", "--replace", "--max-unavailable", "4", "--no-wait")
            until(lambda: "done" in stage.centre.statera("rotate", "status"), seconds=300, step_seconds=1.0,
                  otherwise=lambda: stage.centre.statera("rotate", "status"))

        began = time.monotonic()
        rows = [under_load(stage, made[1], act)]
        seconds = time.monotonic() - began
        for one in made:
            until(lambda one=one: stage.settled(one, roles=len(old[one["id"]]), instead_of=old[one["id"]]), seconds=60)
        mute = [one["vip_address"] for one in made if not stage.client.get(one["vip_address"])]
        for one in made:
            stage.delete(one)
        yield named(rows[0], f"rotation of {count} load balancers, one ACTIVE_STANDBY of them")
        yield Row(what=f"rotation of {count} load balancers", values=(seconds,), unit="s")
        yield Row(what="VIPs that do not answer after it", values=(len(mute),), unit="", target="0", failed=bool(mute))

    return job


JOBS: dict[str, Job] = {
    "dead-single": dead_node("SINGLE", SINGLE_SECONDS), "dead-pair": dead_node("ACTIVE_STANDBY", PAIR_SECONDS),
    "failover-single": failover("SINGLE", allowed=8), "failover-pair": failover("ACTIVE_STANDBY", allowed=0),
    "drain": drain, "resize": resize, "rotation": rotation(FLEET), "away": away(AWAY_SECONDS),
}
SHORT = ("dead-single", "dead-pair", "failover-single", "failover-pair", "resize")
"""What an impatient reader is shown."""


@contextlib.contextmanager
def stage(folder: Path, *, options: str = OPTIONS) -> Iterator[Stage]:
    with data_centre(folder, hosts=3, options=options) as centre:
        yield Stage(centre)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@click.command()
@click.option("--only", type=click.Choice(list(JOBS)), multiple=True, help="Measure this alone; may be repeated.")
@click.option("--short", is_flag=True, help="What takes three minutes at most.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all values there too.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(only: Sequence[str], short: bool, file: Path | None, docs: Path | None) -> None:
    """Measure what traffic notices of failures and replacements."""
    rows: list[Row] = []
    facts = machine.facts(HAProxy=["haproxy", "-v"], keepalived=["keepalived", "--version"])
    with ticking("three hosts") as tick, tempfile.TemporaryDirectory(prefix="st-failover-") as folder, \
            stage(Path(folder)) as here:
        for name in only or (SHORT if short else JOBS):
            tick(name)
            rows += measured(name, partial(JOBS[name], here))
    conclude(Sheet(name="failover", title="What traffic notices of failures and replacements", facts=facts,
                   rows=tuple(rows)), file=file, docs=docs)


if __name__ == "__main__":
    main()
