# SPDX-License-Identifier: Apache-2.0
"""Traffic through an amphora and through what somebody configured by hand, in the same namespace, in turns.

Both have the same servers, threads and features.
"""

import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from msgspec import Struct

from benchmarks import by_hand, machine, rig
from benchmarks.bench import Bench
from benchmarks.by_hand import Shape
from benchmarks.client import Document, is_open, until
from benchmarks.client import member as a_member
from benchmarks.peers.compare import Figure, Report, conclude
from benchmarks.terminal import ticking
from tests.certificates import Authority

SINK_PORT = 5201
"""Where iperf3 listens among the web servers."""


class Form(Struct, frozen=True, kw_only=True):
    turns: int
    seconds: int


LONG, SHORT = Form(turns=5, seconds=2), Form(turns=5, seconds=1)


class Way(Struct, frozen=True):
    """Where traffic goes in: an address, a port and how to speak there."""

    address: str
    port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}:{self.port}/"


Measure = Callable[[Way, int], float]
"""What there is of it during so many seconds."""


class Work(Struct, frozen=True, kw_only=True):
    """One comparison: what is counted, of which *listener*, with so many L7 rules before each request."""

    what: str
    unit: str
    measure: Measure
    listener: Document
    rules: int = 0
    target: float | None = None

    @property
    def protocol(self) -> str:
        return str(self.listener["protocol"])

    @property
    def scheme(self) -> str:
        return "https" if self.protocol == "TERMINATED_HTTPS" else "http"

    @property
    def is_web(self) -> bool:
        return self.protocol not in ("TCP", "UDP")


def wrk(*options: str, read: str = "Requests/sec:") -> Measure:
    """The number behind *read* in what wrk prints."""

    def measured(way: Way, seconds: int) -> float:
        argv = ["wrk", "-t1", f"-d{seconds}s", *options, way.url]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert "Non-2xx" not in text, text
        return quantity(text.partition(read)[2].split()[0])

    return measured


def quantity(text: str) -> float:
    """A number with wrk's unit of time, in milliseconds, or without one."""
    [(number, unit)] = re.findall(r"^([\d.]+)(\D*)$", text)
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "": 1}[unit]


def h2load(way: Way, seconds: int) -> float:
    """Requests per second on eight connections with eight streams each."""
    argv = ["h2load", "-c8", "-m8", "-t1", "-D", str(seconds), way.url]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    [(rate, failed)] = re.findall(r"finished in .*?, ([\d.]+) req/s.*?(\d+) failed", text, re.DOTALL)
    assert failed == "0", text
    return float(rate)


def stream(way: Way, seconds: int) -> float:
    """Megabits per second of one connection."""
    return float(iperf3(way, seconds)["sum_received"]["bits_per_second"]) / 1e6


def datagrams(way: Way, seconds: int) -> float:
    """Datagrams of 64 bytes per second that arrive when as many are sent as go."""
    told = iperf3(way, seconds, "-u", "-b0", "-l64")["sum"]
    return float(told["packets"] - told["lost_packets"]) / float(told["seconds"])


def iperf3(way: Way, seconds: int, *options: str) -> dict[str, Any]:
    argv = ["iperf3", "--json", "-c", way.address, "-p", str(way.port), "-t", str(seconds), *options]
    answers: list[dict[str, Any]] = []

    def is_measured() -> bool:
        """A server serves one client at a time: it may still be busy with somebody who only knocked."""
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stdout
        answers.append(json.loads(said))
        return "error" not in answers[-1]

    until(is_measured, step_seconds=0.2, seconds=20, otherwise=lambda: str(answers[-1]["error"]))
    end: dict[str, Any] = answers[-1]["end"]
    return end


CLOSE = ("-H", "Connection: close")
HTTP = {"protocol": "HTTP"}
TCP = {"protocol": "TCP"}
UDP = {"protocol": "UDP"}
TLS = {"protocol": "TERMINATED_HTTPS"}

WORKS = (
    Work(what="HTTP, 32 kept connections", unit="/s", measure=wrk("-c32"), listener=HTTP, target=0.97),
    Work(what="HTTP, a connection each", unit="/s", measure=wrk("-c32", *CLOSE), listener=HTTP, target=0.97),
    Work(what="HTTP, 99 of 100 answers within, 8 connections", unit="ms", listener=HTTP,
         measure=wrk("-c8", "--latency", read="99%")),
    Work(what="HTTPS terminated, 32 kept connections", unit="/s", measure=wrk("-c32"), listener=TLS, target=0.97),
    Work(what="HTTP/2 over TLS, 8 connections of 8 streams", unit="/s", measure=h2load, listener=TLS, target=0.97),
    Work(what="TLS handshakes", unit="/s", measure=wrk("-c32", *CLOSE), listener=TLS, target=0.97),
    Work(what="HTTP with 1 L7 rule", unit="/s", measure=wrk("-c32"), listener=HTTP, rules=1),
    Work(what="HTTP with 10 L7 rules", unit="/s", measure=wrk("-c32"), listener=HTTP, rules=10),
    Work(what="HTTP with 100 L7 rules", unit="/s", measure=wrk("-c32"), listener=HTTP, rules=100),
    Work(what="TCP, one stream", unit="Mbit/s", measure=stream, listener=TCP),
    Work(what="UDP, datagrams of 64 bytes, beside a DNAT by hand", unit="/s", measure=datagrams, listener=UDP),
)


def measure(bench: Bench, work: Work, form: Form, folder: Path) -> Figure:
    """The work on both sides, turn by turn."""
    with ours(bench, work) as (made, mine), theirs(bench, work, made, folder) as other:
        values = [(work.measure(mine, form.seconds), work.measure(other, form.seconds)) for _ in range(form.turns)]
    our, their = zip(*values, strict=True)
    return Figure(what=work.what, unit=work.unit, ours=our, theirs=their, target=work.target)


@contextlib.contextmanager
def ours(bench: Bench, work: Work) -> Iterator[tuple[Document, Way]]:
    """A load balancer for the work; gone afterwards."""
    wanted = {"name": "bench", "vip_subnet_id": bench.network.subnet_id, "listeners": listeners(bench, work)}
    made = bench.api.post("/v2/lbaas/loadbalancers", {"loadbalancer": wanted})["loadbalancer"]
    bench.api.wait_for(made["id"], "ACTIVE")
    way = Way(made["vip_address"], 80, work.scheme)
    until(lambda: is_open(way.address, way.port))
    try:
        yield made, way
    finally:
        bench.delete(made)


def listeners(bench: Bench, work: Work) -> list[Document]:
    """The one of the work; iperf3 talks over TCP about its datagrams, on the same port."""
    if work.protocol == "UDP":
        return [listener(bench, work, TCP), listener(bench, work, UDP)]
    return [listener(bench, work, work.listener)]


def listener(bench: Bench, work: Work, wanted: Document) -> Document:
    protocol = "HTTP" if work.is_web else wanted["protocol"]
    pool = {"name": f"pool-{protocol}", "protocol": protocol, "lb_algorithm": "ROUND_ROBIN",
            "members": members(bench, work)}
    made = {**wanted, "protocol_port": 80, "default_pool": pool, "l7policies": policies(work)}
    if work.scheme == "https":
        made["default_tls_container_ref"] = secret(bench)
    return made


def members(bench: Bench, work: Work) -> list[Document]:
    count, port = (4, 80) if work.is_web else (1, SINK_PORT)
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
def theirs(bench: Bench, work: Work, made: Document, folder: Path) -> Iterator[Way]:
    """What somebody made by hand for the same work."""
    servers = [f"{each['address']}:{each['protocol_port']}" for each in members(bench, work)]
    if work.protocol == "UDP":
        with dnat(bench, servers[0]) as way:
            yield way
        return
    [amphora_id] = bench.cloud.haproxies(made["id"])
    shape = Shape(mode="http" if work.is_web else "tcp", servers=servers, tls=tls(work, folder), rules=[
        f"http-request deny if {{ path -m beg /nowhere/{number}/ }}" for number in range(work.rules)])
    with by_hand.haproxy(made, amphora_id, shape, folder=folder):
        yield Way(made["vip_address"], by_hand.PORT, work.scheme)


def tls(work: Work, folder: Path) -> str:
    """What a bind line says about it."""
    if work.scheme != "https":
        return ""
    file = folder / "by-hand.pem"
    file.touch(mode=0o600)
    file.write_text(CERTIFICATE.bundle)
    return f" ssl crt {file} alpn h2,http/1.1"


ROUTER = "byhand"
"""A namespace of its own: an amphora's rules count what passes it."""

DNAT = """\
table ip byhand {{
    chain in {{
        type nat hook prerouting priority dstnat
        ip daddr {address} tcp dport {port} dnat to {server}
        ip daddr {address} udp dport {port} dnat to {server}
    }}
    chain out {{
        type nat hook postrouting priority srcnat
        ct status dnat masquerade
    }}
}}
"""


@contextlib.contextmanager
def dnat(bench: Bench, server: str) -> Iterator[Way]:
    """The kernel forwards, as in a few lines that anybody would write."""
    tag = uuid4().hex[:6]
    name, way = f"{ROUTER}-{tag}", Way(bench.network.address(200), by_hand.PORT)
    rules = DNAT.format(address=way.address, port=way.port, server=server)
    rig.ip("netns", "add", name)
    try:
        rig.ip("link", "add", f"hand{tag}", "type", "veth", "peer", "name", "eth0", "netns", name)
        rig.ip("link", "set", f"hand{tag}", "master", bench.network.bridge, "up")
        rig.ip("-n", name, "addr", "add", f"{way.address}/{bench.network.cidr.partition('/')[2]}", "dev", "eth0")
        rig.ip("-n", name, "link", "set", "eth0", "up")
        subprocess.run(rig.inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1"), check=True)
        subprocess.run(rig.inside(name, "nft", "-f", "-"), input=rules, text=True, check=True)
        until(lambda: is_open(way.address, way.port))
        yield way
    finally:
        rig.ip("netns", "del", name)


@contextlib.contextmanager
def sink(bench: Bench) -> Iterator[None]:
    """An iperf3 server among the web servers."""
    [namespace] = [path.name for path in Path("/run/netns").glob("farm-*") if holds(path.name, bench)]
    process = subprocess.Popen(rig.inside(namespace, "iperf3", "-s", "-p", str(SINK_PORT)), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        until(lambda: is_open(bench.network.servers[0], SINK_PORT))
        yield
    finally:
        process.terminate()
        process.wait()


def holds(namespace: str, bench: Bench) -> bool:
    """Whether the network's web servers live there."""
    said = subprocess.run(["ip", "-n", namespace, "-o", "addr"], capture_output=True, text=True, check=False).stdout
    return f" {bench.network.servers[0]}/" in said


@click.command()
@click.option("--only", multiple=True, help="Works whose names hold this; may be repeated.")
@click.option("--short", is_flag=True, help="Shorter turns.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON, page and picture there.")
def main(only: Sequence[str], short: bool, docs: Path | None) -> None:
    """Traffic through an amphora beside HAProxy by hand. Needs root, HAProxy, wrk, h2load and iperf3."""
    wanted = [work for work in WORKS if not only or any(text in work.what for text in only)]
    facts = machine.facts(HAProxy=["haproxy", "-v"], wrk=["wrk", "-v"], iperf3=["iperf3", "-v"])
    facts["threads of each HAProxy"] = str(max(1, min(len(os.sched_getaffinity(0)), 4)))
    with ticking("statera up") as tick, tempfile.TemporaryDirectory(prefix="st-bench-") as folder, \
            rig.playground(Path(folder)) as playground:
        bench, figures = Bench(*playground, tick), list[Figure]()
        with sink(bench):
            for work in wanted:
                bench.tick(work.what)
                figures.append(measure(bench, work, SHORT if short else LONG, Path(folder)))
    conclude(Report(name="data-plane", title="Traffic through an amphora", sides=("an amphora", "HAProxy by hand"),
                    facts=facts, figures=tuple(figures)), docs)


if __name__ == "__main__":
    main()
