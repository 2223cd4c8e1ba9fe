# SPDX-License-Identifier: Apache-2.0
"""So many requests of so many clients to one API, all of them answered: how fast, and how long each took."""

import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.client import Document
from benchmarks.peers.sides import Side

MOST = 3_000
"""Requests of one turn."""


class Asked(Struct, frozen=True):
    """What the answers to one turn's requests were like; *cpu_ms* is the api's for each."""

    rate: float
    median_ms: float
    p99_ms: float
    cpu_ms: float


def asked(side: Side, path: str, *, clients: int, seconds: float, body: Document | None = None) -> Asked:
    """Ask for about so many *seconds*, each client once at least. Every answer counts and must be a good one."""
    url, first = side.url + path, first_answer(side.url + path, body)
    count = clients * max(1, min(MOST // clients, round(seconds / first / clients)))
    before = side.processor_seconds()
    began, took = h2load(url, clients=clients, count=count, body=body)
    cpu = side.processor_seconds() - before
    return Asked(rate=count / began, median_ms=statistics.median(took), p99_ms=percentile(took, 99),
                 cpu_ms=1000 * cpu / count)


def first_answer(url: str, body: Document | None) -> float:
    """The seconds of one that comes alone, when it is warm."""
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        data = msgspec.json.encode(body) if body else None
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
        seconds.append(time.monotonic() - began)
    return seconds[-1]


def h2load(url: str, *, clients: int, count: int, body: Document | None) -> tuple[float, list[float]]:
    """The seconds until all had their answers, and the milliseconds of each."""
    with tempfile.TemporaryDirectory(prefix="st-ask-") as folder:
        log, data = Path(folder, "log"), Path(folder, "data")
        argv = ["h2load", "--h1", "-t1", f"-c{clients}", f"-n{count}", f"--log-file={log}", "-T120"]
        if body is not None:
            data.write_bytes(msgspec.json.encode(body))
            argv += ["-d", str(data), "-H", "Content-Type: application/json"]
        subprocess.run([*argv, url], check=True, stdout=subprocess.DEVNULL)
        lines = [[int(field) for field in line.split("\t")[:3]] for line in log.read_text().splitlines()]
    assert len(lines) == count, f"{url}: {len(lines)} of {count} were answered"
    assert all(200 <= status < 300 for _, status, _ in lines), f"{url}: {({status for _, status, _ in lines})}"
    ends = max(start + took for start, _, took in lines)
    return (ends - min(start for start, _, _ in lines)) / 1e6, [took / 1e3 for _, _, took in lines]


def percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
