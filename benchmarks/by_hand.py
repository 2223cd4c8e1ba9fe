# SPDX-License-Identifier: Apache-2.0
"""A HAProxy as its manual would have it, in an amphora's namespace, beside the amphora's own."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from benchmarks import rig
from benchmarks.client import Document, is_open, until

PORT = 9000
CONFIGURATION = """\
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


class Shape(Struct, frozen=True, kw_only=True):
    """What it does, as its words: *servers* are `address:port`, *tls* ends the line `bind`, *rules* are lines."""

    servers: Sequence[str]
    mode: str = "http"
    tls: str = ""
    rules: Sequence[str] = ()


def configuration(address: str, port: int, shape: Shape) -> str:
    """As many threads as an amphora has."""
    return CONFIGURATION.format(
        threads=max(1, min(len(os.sched_getaffinity(0)), 4)), mode=shape.mode, address=address, port=port,
        tls=shape.tls, rules="\n".join(f"    {rule}" for rule in shape.rules),
        servers="\n".join(f"    server s{number} {server}" for number, server in enumerate(shape.servers)))


@contextlib.contextmanager
def haproxy(made: Document, amphora_id: str, shape: Shape, *, folder: Path) -> Iterator[int]:
    """The process of one that listens on `PORT` of the load balancer's VIP."""
    file = folder / "by-hand.cfg"
    file.write_text(configuration(made["vip_address"], PORT, shape))
    argv = rig.inside(f"amphora-{amphora_id}", "haproxy", "-db", "-f", str(file))
    process = subprocess.Popen(argv, start_new_session=True)  # the kernel shares its time out by session
    try:
        until(lambda: is_open(made["vip_address"], PORT))
        yield process.pid
    finally:
        process.terminate()
        process.wait()
