# SPDX-License-Identifier: Apache-2.0
"""What every job of the main job works with: a running cloud, its network and a client."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.client import Document, body_of, tree, until
from benchmarks.rig import Cloud, Network
from benchmarks.terminal import Tick


class Bench:
    """What every job works with: a running cloud, its network and a client."""

    def __init__(self, cloud: Cloud, network: Network, tick: Tick) -> None:
        self.cloud, self.network, self.tick = cloud, network, tick
        self.api = cloud.api()

    @contextlib.contextmanager
    def balancer(self, **shape: Any) -> Iterator[Document]:
        """A load balancer that serves; it is gone at the end of the block."""
        made = self.create(**shape)
        self.api.wait_for(made["id"], "ACTIVE")
        until(lambda: body_of(made["vip_address"]))
        yield made
        self.delete(made)

    def request(self, **shape: Any) -> Document:
        return tree(self.network.subnet_id, self.network.servers, **shape)

    def create(self, **shape: Any) -> Document:
        made: Document = self.api.post("/v2/lbaas/loadbalancers", self.request(**shape))["loadbalancer"]
        return made

    def delete(self, made: Document) -> float:
        self.api.delete(f"/v2/lbaas/loadbalancers/{made['id']}?cascade=true")
        return self.api.wait_for(made["id"], "DELETED")

    def members_of(self, made: Document) -> str:
        """The path of the members of its only pool."""
        [pool] = self.api.get(f"/v2/lbaas/pools?loadbalancer_id={made['id']}")["pools"]
        return f"/v2/lbaas/pools/{pool['id']}/members"

    def listener_of(self, made: Document) -> str:
        [listener] = self.api.get(f"/v2/lbaas/listeners?loadbalancer_id={made['id']}")["listeners"]
        return f"/v2/lbaas/listeners/{listener['id']}"


def ms(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1000 * value for value in seconds)


def timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def answers(made: Document, address: str) -> None:
    """Return when a server has answered through the VIP."""
    until(lambda: body_of(made["vip_address"]) == f"{address}:80", seconds=30, step_seconds=0.0)
