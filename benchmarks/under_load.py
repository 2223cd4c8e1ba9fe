# SPDX-License-Identifier: Apache-2.0
"""Changes while clients ask all the time: how long each takes, and what the clients notice."""

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks import rig
from benchmarks.bench import Bench, ms, percentile, timed
from benchmarks.client import Document, body_of
from benchmarks.client import member as a_member
from benchmarks.rows import Row

CHANGES, LISTENER_CHANGES, MEMBER_CHANGES = 50, 10, 500
REQUESTS = 20_000
CHANGE_PAUSE_SECONDS = 0.2
"""Between two changes under load, so that all requests meet some."""


def under_load(bench: Bench) -> Iterator[Row]:
    """Changes of members and listeners, with a pause after each."""
    yield from met(bench, changes, pause_seconds=CHANGE_PAUSE_SECONDS, what="changes under load")


def live(bench: Bench) -> Iterator[Row]:
    """Five hundred changes of members, each as soon as the one before is done."""
    yield from met(bench, member_changes, pause_seconds=0.0, what="changes of members under load")


def met(bench: Bench, changes: "Changes", *, pause_seconds: float, what: str) -> Iterator[Row]:
    """How long each of the changes took, and what clients of both kinds met meanwhile."""
    waits = []
    with bench.balancer() as made:
        with rig.load(made["vip_address"], at_least=REQUESTS) as finish:
            for turn, change in enumerate(changes(bench, made)):
                if turn % 25 == 0:
                    bench.tick(f"{what}: from {turn + 1}")
                waits.append(timed(change) + bench.api.wait_for(made["id"], "ACTIVE"))
                time.sleep(pause_seconds)
            bench.tick(f"{what}: the rest of the requests")
            outcome = finish()
        again = body_of(made["vip_address"])
    yield Row(what=f"{len(waits)} {what}, each → ACTIVE", values=ms(waits), failed=again is None)
    yield Row(what=f"{len(waits)} {what}, 99 of 100 within", values=ms([percentile(waits, 99)]))
    for name, tally in (("a connection each", outcome.per_request), ("kept connections", outcome.kept)):
        said = "".join(f"; {count} × {error}" for error, count in tally.errors.items())
        yield Row(what=f"{what}: failed of {tally.requests:,} requests, {name}{said}", values=(tally.failed,), unit="",
                  target="0", failed=tally.failed > 0 or tally.requests < REQUESTS)
        yield Row(what=f"{what}: slowest request, {name}", values=ms([tally.slowest_seconds]))
    yield Row(what=f"{what}: kept connections that ended between answers", values=(outcome.kept.reopened,), unit="")
    total = outcome.per_request.requests + outcome.kept.requests
    yield Row(what=f"{what}: request rate meanwhile", values=(total / outcome.seconds,), unit="/s")


Changes = Callable[[Bench, Document], Iterator[Callable[[], object]]]


def changes(bench: Bench, made: Document) -> Iterator[Callable[[], object]]:
    """Fifty changes of members, and after every fifth one of a listener."""
    listeners = listener_changes(bench, made)
    for turn, change in enumerate(itertools.islice(member_changes(bench, made), CHANGES)):
        yield change
        if turn % (CHANGES // LISTENER_CHANGES) == 0:
            yield next(listeners)


def member_changes(bench: Bench, made: Document) -> Iterator[Callable[[], object]]:
    """A member comes, gets another weight, rests, is back and goes, and then the next one."""
    path, ids = bench.members_of(made), []

    def add(turn: int) -> None:
        wanted = a_member(bench.network.servers[2 + turn % 50])
        ids.append(bench.api.post(path, {"member": wanted})["member"]["id"])

    def adjust(**values: Any) -> None:
        bench.api.put(f"{path}/{ids[-1]}", {"member": values})

    for turn in range(MEMBER_CHANGES):
        yield (
            partial(add, turn), partial(adjust, weight=5), partial(adjust, admin_state_up=False),
            partial(adjust, admin_state_up=True), lambda: bench.api.delete(f"{path}/{ids[-1]}"),
        )[turn % 5]


def listener_changes(bench: Bench, made: Document) -> Iterator[Callable[[], object]]:
    path = bench.listener_of(made)
    pool_id = bench.members_of(made).split("/")[4]
    ids: list[str] = []

    def add(port: int) -> None:
        wanted = {"protocol": "HTTP", "protocol_port": port, "loadbalancer_id": made["id"], "default_pool_id": pool_id}
        ids.append(bench.api.post("/v2/lbaas/listeners", {"listener": wanted})["listener"]["id"])

    def adjust(**values: Any) -> None:
        bench.api.put(path, {"listener": values})

    yield partial(adjust, connection_limit=2000)
    yield partial(adjust, timeout_client_data=40_000)
    yield partial(add, 81)
    yield partial(adjust, timeout_member_data=40_000)
    yield lambda: bench.api.delete(f"/v2/lbaas/listeners/{ids[0]}")
    yield partial(adjust, connection_limit=-1)
    yield partial(add, 82)
    yield partial(adjust, insert_headers={"X-Forwarded-For": "true"})
    yield partial(adjust, timeout_member_connect=4_000)
    yield lambda: bench.api.delete(f"/v2/lbaas/listeners/{ids[1]}")
