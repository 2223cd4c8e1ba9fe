# SPDX-License-Identifier: Apache-2.0
"""Traffic through an amphora and through a HAProxy that somebody configured by hand, in the same namespace, in turns.

Both have the same servers, threads and features.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from benchmarks import rig
from benchmarks.client import Document, until
from benchmarks.client import member as a_member
from benchmarks.jobs import Bench
from benchmarks.peers.compare import Figure, Report, conclude, machine
from tests.certificates import Authority

TURNS, SECONDS = 5, 2
HAND_PORT, SINK_PORT = 9000, 5201


class Way(Struct, frozen=True):
    """Where traffic goes in: an address, a port and how to speak there."""

    address: str
    port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}:{self.port}/"


Measure = Callable[[Way], float]


class Work(Struct, frozen=True, kw_only=True):
    """One comparison: what is counted, of which *listener*, with so many L7 rules before each request."""

    what: str
    unit: str
    measure: Measure
    listener: Document
    rules: int = 0
    target: float | None = None

    @property
    def mode(self) -> str:
        return "tcp" if self.listener["protocol"] == "TCP" else "http"

    @property
    def scheme(self) -> str:
        return "https" if self.listener["protocol"] == "TERMINATED_HTTPS" else "http"


def wrk(*options: str, read: str = "Requests/sec:") -> Measure:
    """The number behind *read* in what wrk prints."""

    def measured(way: Way) -> float:
        argv = ["wrk", "-t1", f"-d{SECONDS}s", *options, way.url]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in text, text
        return quantity(text.partition(read)[2].split()[0])

    return measured


def quantity(text: str) -> float:
    """A number with wrk's unit of time, in milliseconds, or without one."""
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "": 1}[unit]


def stream(way: Way) -> float:
    """Megabits per second of one connection."""
    argv = ["iperf3", "--json", "-c", way.address, "-p", str(way.port), "-t", str(SECONDS)]
    answers: list[dict[str, Any]] = []

    def is_measured() -> bool:
        """A server serves one client at a time: it may still be busy with somebody who only knocked."""
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stdout
        answers.append(json.loads(said))
        return "error" not in answers[-1]

    until(is_measured, step_seconds=0.2, seconds=20, otherwise=lambda: str(answers[-1]["error"]))
    return float(answers[-1]["end"]["sum_received"]["bits_per_second"]) / 1e6


CLOSE = ("-H", "Connection: close")
HTTP = {"protocol": "HTTP"}
TCP = {"protocol": "TCP"}
TLS = {"protocol": "TERMINATED_HTTPS"}

WORKS = (
    Work(what="HTTP, 32 kept connections", unit="/s", measure=wrk("-c32"), listener=HTTP, target=0.97),
    Work(what="HTTP, a connection each", unit="/s", measure=wrk("-c32", *CLOSE), listener=HTTP, target=0.97),
    Work(what="HTTP, 99 of 100 answers within, 8 connections", unit="ms", listener=HTTP,
         measure=wrk("-c8", "--latency", read="99%")),
    Work(what="HTTPS terminated, 32 kept connections", unit="/s", measure=wrk("-c32"), listener=TLS, target=0.97),
    Work(what="TLS handshakes", unit="/s", measure=wrk("-c32", *CLOSE), listener=TLS, target=0.97),
    Work(what="HTTP with 1 L7 rule", unit="/s", measure=wrk("-c32"), listener=HTTP, rules=1),
    Work(what="HTTP with 10 L7 rules", unit="/s", measure=wrk("-c32"), listener=HTTP, rules=10),
    Work(what="HTTP with 100 L7 rules", unit="/s", measure=wrk("-c32"), listener=HTTP, rules=100),
    Work(what="TCP, one stream", unit="Mbit/s", measure=stream, listener=TCP),
)

HAND = """\
global
    user haproxy
    group haproxy
    nbthread {threads}
    maxconn 5000
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode {mode}
    timeout connect 5s
    timeout client 50s
    timeout server 50s
frontend web
    bind {address}:{port}{tls}
{rules}
    default_backend web
backend web
    balance roundrobin
{servers}
"""


def measure(bench: Bench, work: Work, folder: Path) -> Figure:
    """The work on both sides, turn by turn."""
    with ours(bench, work) as (made, mine), by_hand(bench, work, made, folder) as other:
        values = [(work.measure(mine), work.measure(other)) for _ in range(TURNS)]
    our, their = zip(*values, strict=True)
    return Figure(what=work.what, unit=work.unit, ours=our, theirs=their, target=work.target)


@contextlib.contextmanager
def ours(bench: Bench, work: Work) -> Iterator[tuple[Document, Way]]:
    """A load balancer for the work; gone afterwards."""
    pool = {"name": "pool", "protocol": work.mode.upper(), "lb_algorithm": "ROUND_ROBIN",
            "members": members(bench, work)}
    listener = {**work.listener, "protocol_port": 80, "default_pool": pool, "l7policies": policies(work)}
    if work.scheme == "https":
        listener["default_tls_container_ref"] = secret(bench)
    wanted = {"name": "bench", "vip_subnet_id": bench.network.subnet_id, "listeners": [listener]}
    made = bench.api.post("/v2/lbaas/loadbalancers", {"loadbalancer": wanted})["loadbalancer"]
    bench.api.wait_for(made["id"], "ACTIVE")
    way = Way(made["vip_address"], 80, work.scheme)
    until(lambda: listens(way))
    try:
        yield made, way
    finally:
        bench.delete(made)


def members(bench: Bench, work: Work) -> list[Document]:
    count, port = (1, SINK_PORT) if work.mode == "tcp" else (4, 80)
    return [a_member(address, port) for address in bench.network.servers[:count]]


def policies(work: Work) -> list[Document]:
    """As many policies as rules; no request ever fits one, so each request meets all of them."""
    return [
        {"action": "REJECT", "position": number + 1, "rules": [
            {"type": "PATH", "compare_type": "STARTS_WITH", "value": f"/nowhere/{number}/"}]}
        for number in range(work.rules)
    ]


def secret(bench: Bench) -> str:
    wanted = {"name": "bench", "payload": CERTIFICATE.bundle, "payload_content_type": "text/plain"}
    return str(bench.api.post("/secrets/v1/secrets", wanted)["secret_ref"])


CERTIFICATE = Authority("bench").certificate_for("bench.example.com")


@contextlib.contextmanager
def by_hand(bench: Bench, work: Work, made: Document, folder: Path) -> Iterator[Way]:
    """A HAProxy as its manual would have it, beside the amphora's own."""
    [amphora_id] = bench.cloud.haproxies(made["id"])
    tls = ""
    if work.scheme == "https":
        (folder / "hand.pem").write_text(CERTIFICATE.bundle)
        tls = f" ssl crt {folder}/hand.pem alpn h2,http/1.1"
    file = folder / "hand.cfg"
    file.write_text(HAND.format(
        threads=max(1, min(len(os.sched_getaffinity(0)), 4)), mode=work.mode,
        address=made["vip_address"], port=HAND_PORT, tls=tls,
        rules="\n".join(f"    http-request deny if {{ path -m beg /nowhere/{n}/ }}" for n in range(work.rules)),
        servers="\n".join(f"    server s{n} {each['address']}:{each['protocol_port']}"
                          for n, each in enumerate(members(bench, work)))))
    argv = rig.inside(f"amphora-{amphora_id}", "haproxy", "-db", "-f", str(file))
    process = subprocess.Popen(argv, start_new_session=True)  # the kernel shares its time out by session
    way = Way(made["vip_address"], HAND_PORT, work.scheme)
    try:
        until(lambda: listens(way))
        yield way
    finally:
        process.terminate()
        process.wait()


def listens(way: Way) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((way.address, way.port), 1):
        return True
    return False


@contextlib.contextmanager
def sink(bench: Bench) -> Iterator[None]:
    """An iperf3 server among the web servers."""
    [namespace] = [path.name for path in Path("/run/netns").glob("farm-*")][-1:]
    process = subprocess.Popen(rig.inside(namespace, "iperf3", "-s", "-p", str(SINK_PORT)), stdout=subprocess.DEVNULL)
    try:
        until(lambda: listens(Way(bench.network.servers[0], SINK_PORT)))
        yield
    finally:
        process.terminate()
        process.wait()


@click.command()
@click.option("--only", multiple=True, help="Works whose names hold this; may be repeated.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(only: Sequence[str], docs: Path | None) -> None:
    """Traffic through an amphora beside HAProxy by hand. Needs root, HAProxy, wrk and iperf3."""
    wanted = [work for work in WORKS if not only or any(text in work.what for text in only)]
    facts = machine({"HAProxy": ["haproxy", "-v"], "wrk": ["wrk", "-v"], "iperf3": ["iperf3", "-v"]})
    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, \
            tempfile.TemporaryDirectory(prefix="st-bench-") as folder, \
            rig.playground(Path(folder)) as playground:
        task = progress.add_task("statera up", total=None)
        bench = Bench(*playground, lambda text: progress.update(task, description=text))
        with sink(bench):
            figures = []
            for work in wanted:
                bench.tick(work.what)
                figures.append(measure(bench, work, Path(folder)))
    conclude(Report(title="Traffic through an amphora", sides=("an amphora", "HAProxy by hand"), facts=facts,
                    figures=tuple(figures)), docs, "data-plane")


if __name__ == "__main__":
    main()
