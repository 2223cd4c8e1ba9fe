# SPDX-License-Identifier: Apache-2.0
"""Clients create and delete without pause against etc/octavia-noop.conf: do memory, files or answer times grow?

    script/bench soak --minutes 10 --clients 4

Prints a line for each period and ends with status 1 when the last third is worse than the second.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import click
from msgspec import Struct

from benchmarks.client import Api, Document, answers, until
from benchmarks.rig import command, family, free_ports, pss_bytes

ROOT = Path(__file__).parent.parent
SERVICES = ("octavia-api", "octavia-worker", "octavia-housekeeping")
PERIODS = 12
MEMORY_GROWTH, FILES_GROWTH, TIME_GROWTH = 1.05, 4, 1.2
"""Most that the last third may have more than the second: a share, a number, a share."""


class Sample(Struct, frozen=True):
    """One period: answers, whole lives, times of the answers, and what all services used.

    Whatever else the host does shows in the answers' times, but not in the processor's time for each.
    """

    answers: int
    lives: int
    median_ms: float
    p99_ms: float
    cpu_ms: float
    memory_mib: float
    files: int


class Load:
    """Clients that live through whole load balancers, and how long each answer took them."""

    def __init__(self, url: str, clients: int) -> None:
        self._url, self._stop = url, threading.Event()
        self._lock, self._took_ms, self._lives = threading.Lock(), list[float](), 0
        self.failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def take(self) -> tuple[list[float], int]:
        """What was measured since the last call."""
        with self._lock:
            took, lives, self._took_ms, self._lives = self._took_ms, self._lives, [], 0
        return took, lives

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        api = Timed(self._url, self._note)
        try:
            while not self._stop.is_set():
                live(api)
                with self._lock:
                    self._lives += 1
        except BaseException as error:
            self.failure = error
            raise
        finally:
            api.close()

    def _note(self, took_ms: float) -> None:
        with self._lock:
            self._took_ms.append(took_ms)


class Timed(Api):
    """A client that tells how long each answer took."""

    def __init__(self, url: str, note: Callable[[float], None]) -> None:
        super().__init__(url, "soak", "")
        self._note = note

    def call(
        self, method: str, path: str, body: Document | None = None, *, key: str | None = None
    ) -> tuple[int, Document]:
        began = time.monotonic()
        answer = super().call(method, path, body, key=key)
        self._note(1000 * (time.monotonic() - began))
        return answer


def live(api: Api) -> None:
    """One load balancer's life with children, each step waited for."""
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [
        {"address": "192.0.2.1", "protocol_port": 80}, {"address": "192.0.2.2", "protocol_port": 80}]}
    lb = api.post("/v2/lbaas/loadbalancers", {"loadbalancer": {
        "vip_subnet_id": str(uuid4()), "project_id": "soak", "tags": ["a", "b"],
        "listeners": [{"protocol": "HTTP", "protocol_port": 80, "default_pool": pool}]}})["loadbalancer"]
    api.wait_for(lb["id"], "ACTIVE")
    members = f"/v2/lbaas/pools/{lb['pools'][0]['id']}/members"
    member = api.post(members, {"member": {"address": "192.0.2.3", "protocol_port": 80}})["member"]
    api.put(members, {"members": [{"address": "192.0.2.4", "protocol_port": 80}]})
    api.call("GET", f"{members}/{member['id']}")
    api.get("/v2/lbaas/loadbalancers?limit=50")
    api.get(f"/v2/lbaas/loadbalancers/{lb['id']}/status")
    api.call("POST", "/v2/lbaas/listeners", {"listener": {"loadbalancer_id": lb["id"], "protocol": "no"}})
    api.wait_for(lb["id"], "ACTIVE")
    api.delete(f"/v2/lbaas/loadbalancers/{lb['id']}?cascade=true")
    api.wait_for(lb["id"], "DELETED")


@contextmanager
def services(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The url of an api and the processes behind it; deleted rows are purged while it lasts."""
    [port] = free_ports(1)
    text = (ROOT / "etc/octavia-noop.conf").read_text().replace("/tmp/octavia-noop", str(folder / "noop"))
    text = text.replace("bind_port = 9876", f"bind_port = {port}") + (
        "\n[house_keeping]\ncleanup_interval = 5\nload_balancer_expiry_age = 20\namphora_expiry_age = 20\n")
    (folder / "octavia.conf").write_text(text)
    options = ["--config-file", str(folder / "octavia.conf")]
    log = (folder / "log").open("w")
    subprocess.run([command("octavia-db-manage"), *options, "upgrade", "head"], check=True, stdout=log, stderr=log)
    children = [subprocess.Popen([command(name), *options], stdout=log, stderr=log) for name in SERVICES]
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), seconds=60)
        yield url, [child.pid for child in children]
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            child.wait(30)
        log.close()


def sample(load: Load, pids: Sequence[int], spent_ms: float) -> Sample:
    """The period that ends now; it began when the services had spent *spent_ms*."""
    took, lives = load.take()
    percentiles = statistics.quantiles(took or [0.0, 0.0], n=100)
    return Sample(
        answers=len(took), lives=lives, median_ms=percentiles[49], p99_ms=percentiles[98],
        cpu_ms=(cpu_ms(pids) - spent_ms) / max(1, len(took)), memory_mib=pss_bytes(family(pids)) / 2**20,
        files=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in family(pids)))


def cpu_ms(pids: Sequence[int]) -> float:
    """The processor's time that the services have spent."""
    spent = (Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13] for pid in family(pids))
    return 1000 * sum(int(ticks) for user_and_system in spent for ticks in user_and_system) / os.sysconf("SC_CLK_TCK")


def complaints(samples: Sequence[Sample]) -> list[str]:
    """What grew from the second third to the last."""
    third = len(samples) // 3
    before, after = samples[third:2 * third], samples[-third:]

    def both(name: str) -> tuple[float, float]:
        return tuple(statistics.median(getattr(each, name) for each in part) for part in (before, after))

    memory, files, cpu = both("memory_mib"), both("files"), both("cpu_ms")
    found = {
        f"memory grew from {memory[0]:.0f} to {memory[1]:.0f} MiB": memory[1] > memory[0] * MEMORY_GROWTH,
        f"open files grew from {files[0]:g} to {files[1]:g}": files[1] > files[0] + FILES_GROWTH,
        f"an answer took {cpu[0]:.1f} ms of a processor and then {cpu[1]:.1f} ms": cpu[1] > cpu[0] * TIME_GROWTH,
    }
    return [text for text, is_so in found.items() if is_so]


@click.command()
@click.option("--minutes", type=float, default=10.0, show_default=True, help="How long.")
@click.option("--clients", type=int, default=4, show_default=True, help="How many live side by side.")
def main(minutes: float, clients: int) -> None:
    """Create and delete without pause against a noop cloud and see whether anything grows."""
    with tempfile.TemporaryDirectory(prefix="st-soak-") as folder, services(Path(folder)) as (url, pids):
        samples = soak(url, pids, minutes=minutes, clients=clients)
        grown = complaints(samples)
    sys.exit("; ".join(grown) or None)


def soak(url: str, pids: Sequence[int], *, minutes: float, clients: int) -> list[Sample]:
    load, samples, pause = Load(url, clients), list[Sample](), threading.Event()
    print("answers  lives  median ms   p99 ms  processor ms  memory MiB  files", flush=True)
    try:
        for _ in range(PERIODS):
            spent_ms = cpu_ms(pids)
            pause.wait(60 * minutes / PERIODS)
            assert load.failure is None, load.failure
            samples.append(seen := sample(load, pids, spent_ms))
            print(f"{seen.answers:7d}{seen.lives:7d}{seen.median_ms:11.1f}{seen.p99_ms:9.1f}{seen.cpu_ms:14.2f}"
                  f"{seen.memory_mib:12.1f}{seen.files:7d}", flush=True)
    finally:
        load.stop()
    return samples


if __name__ == "__main__":
    main()
