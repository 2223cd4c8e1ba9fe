# SPDX-License-Identifier: Apache-2.0
"""How long nobody answers for a VIP when the amphora of a pair that serves dies in each way, or hands over."""

import asyncio
import itertools
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pyroute2 import netns

from benchmarks import machine, rig
from benchmarks.bench import ms
from benchmarks.client import Api, Document, tree, until
from benchmarks.rows import Row, Sheet, conclude
from benchmarks.terminal import ticking
from statera.agent import legs, namespace, process
from statera.agent.files import Home

TARGET_SECONDS = 0.5
STEP_SECONDS, PATIENCE_SECONDS = 0.005, 0.25
"""A new client comes after each step, whatever became of those before, and gives up after a while."""
WATCH_SECONDS = 3.5
PAIRS = "\n[controller_worker]\nloadbalancer_topology = ACTIVE_STANDBY\n"


class Traffic:
    """Asks the VIP at short intervals and remembers when it was answered."""

    def __init__(self, ip: str, *, namespace: str | None = None) -> None:
        self._ip, self._namespace, self._stop = ip, namespace, threading.Event()
        self._answers: list[float] = []
        self._thread = threading.Thread(target=self._live)

    @contextmanager
    def flowing(self) -> Iterator["Traffic"]:
        self._thread.start()
        try:
            until(lambda: len(self._answers) > 20)
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def gap_seconds(self, since: float) -> float:
        """The longest time without an answer from *since* until now."""
        answers = sorted(self._answers)
        before = max((at for at in answers if at <= since), default=since)
        times = [before, *(at for at in answers if at > since), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def _live(self) -> None:
        if self._namespace:
            netns.setns(self._namespace)
        asyncio.run(self._run())

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            task = asyncio.create_task(self._ask())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(STEP_SECONDS)
        await asyncio.gather(*tasks)

    async def _ask(self) -> None:
        writer = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                reader, writer = await asyncio.open_connection(self._ip, 80)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                if (await reader.read(-1)).startswith(b"HTTP/1.1 200"):
                    self._answers.append(time.monotonic())
        except OSError:  # a timeout, too
            return
        finally:
            if writer is not None:
                writer.close()


class Pair:
    """An ACTIVE_STANDBY load balancer on this host."""

    def __init__(self, cloud: rig.Cloud, api: Api, made: Document) -> None:
        self.cloud, self.api = cloud, api
        self.id, self.vip = made["id"], made["vip_address"]

    def serving(self) -> Home:
        """The one that bears the VIP."""
        until(self._bearers)
        return self._bearers()[0]

    def is_whole(self) -> bool:
        """Whether both run and one of them bears the VIP."""
        return len(self.cloud.haproxies(self.id)) == 2 and len(self._bearers()) == 1

    def _bearers(self) -> list[Home]:
        return [Home(self.cloud.state, id_) for id_, pid in self.cloud.haproxies(self.id).items()
                if bears(pid, self.vip)]


def bears(pid: int, ip: str) -> bool:
    """Whether the process lives where the address is up."""
    try:
        return namespace.bears(pid, ip)
    except OSError:
        return False


def kill_haproxy(pair: Pair) -> None:
    """kill -9 of HAProxy, all of it."""
    home = pair.serving()
    for pid in namespace.processes(home.amphora_id):
        if process.runs(pid, str(home.haproxy_cfg)):
            process.send(pid, signal.SIGKILL)


def kill_haproxy_twice(pair: Pair) -> None:
    """The same again a second later, when it looks like a habit."""
    kill_haproxy(pair)
    threading.Event().wait(1.0)
    kill_haproxy(pair)


def kill_keepalived(pair: Pair) -> None:
    """kill -9 of keepalived, parent and child."""
    home = pair.serving()
    parent = int(home.keepalived_pid.read_text())
    for pid in (parent, *process.children(parent)):
        process.send(pid, signal.SIGKILL)


def cut_off(pair: Pair) -> None:
    """All processes of the namespace killed and its leg down, as if its machine had lost power."""
    home = pair.serving()
    victims = namespace.processes(home.amphora_id)
    leg = legs.outer_name(home.amphora_id, "eth1")
    subprocess.run(["ip", "link", "set", leg, "down"], check=True)
    for pid in victims:
        process.send(pid, signal.SIGKILL)


def freeze(pair: Pair) -> None:
    """All processes of the namespace stopped: they neither serve nor say so."""
    for pid in namespace.processes(pair.serving().amphora_id):
        process.send(pid, signal.SIGSTOP)


def fail_over(pair: Pair) -> None:
    """`openstack loadbalancer amphora failover` of the one that serves."""
    pair.api.put(f"/v2/octavia/amphorae/{pair.serving().amphora_id}/failover", {})


KINDS: dict[str, Callable[[Pair], None]] = {
    "haproxy": kill_haproxy,
    "haproxy-twice": kill_haproxy_twice,
    "keepalived": kill_keepalived,
    "cut-off": cut_off,
    "frozen": freeze,
    "failover": fail_over,
}


@contextmanager
def fresh_pair(cloud: rig.Cloud, network: rig.Network, api: Api) -> Iterator[Pair]:
    """A pair that serves; it is gone at the end of the block."""
    wish = tree(network.subnet_id, network.servers, monitor=False)
    pair = Pair(cloud, api, api.post("/v2/lbaas/loadbalancers", wish)["loadbalancer"])
    api.wait_for(pair.id, "ACTIVE")
    until(pair.is_whole)
    try:
        yield pair
    finally:
        for home in [Home(cloud.state, id_) for id_ in cloud.haproxies(pair.id)]:
            for pid in namespace.processes(home.amphora_id):
                process.send(pid, signal.SIGCONT)
        api.wait_for(pair.id, "ACTIVE")
        api.delete(f"/v2/lbaas/loadbalancers/{pair.id}?cascade=true")
        api.wait_for(pair.id, "DELETED")


def gap(kind: str, pair: Pair) -> float:
    """Do it to the one that serves; how long nobody answered, in seconds."""
    with Traffic(pair.vip).flowing() as traffic:
        began = time.monotonic()
        KINDS[kind](pair)
        until(lambda: time.monotonic() > began + WATCH_SECONDS)
        return traffic.gap_seconds(began)


@click.command()
@click.option("--runs", default=20, show_default=True, help="How often each is done, each time to a new pair.")
@click.option("--short", is_flag=True, help="Three runs of each.")
@click.option("--only", type=click.Choice(list(KINDS)), multiple=True, help="Measure this alone; may be repeated.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all values there too.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(runs: int, short: bool, only: tuple[str, ...], file: Path | None, docs: Path | None) -> None:
    """Measure how long nobody answers when one of a pair dies."""
    rows, facts = [], machine.facts(HAProxy=["haproxy", "-v"], keepalived=["keepalived", "--version"])
    with ticking("statera up") as tick, tempfile.TemporaryDirectory(prefix="st-vrrp-") as folder, rig.playground(
            Path(folder), options=PAIRS) as (cloud, network):
        api = cloud.api()
        for kind in only or KINDS:
            gaps = []
            for turn in range(min(runs, 3) if short else runs):
                tick(f"{kind}, {turn + 1}")
                with fresh_pair(cloud, network, api) as pair:
                    gaps.append(gap(kind, pair))
            rows.append(Row(what=kind, values=ms(gaps), target="≤ 500 median",
                            failed=statistics.median(gaps) > TARGET_SECONDS))
        api.close()
    conclude(Sheet(name="vrrp", title="The other one of a pair takes over", facts=facts, rows=tuple(rows)),
             file=file, docs=docs)


if __name__ == "__main__":
    main()
