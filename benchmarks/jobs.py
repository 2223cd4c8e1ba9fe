# SPDX-License-Identifier: Apache-2.0
"""What is measured: each job tries one promise out on a running cloud and yields the lines of the table."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from benchmarks import by_hand, rig
from benchmarks.bench import Bench, answers, ms, percentile, timed
from benchmarks.by_hand import Shape, haproxy
from benchmarks.client import Api, Document, body_of, until
from benchmarks.client import member as a_member
from benchmarks.rig import Cloud
from benchmarks.rows import Row
from benchmarks.under_load import live, under_load

CREATES, MEMBER_ADDS, BATCH, FLEET = 10, 50, 500, 100
LANES = 4
"""So many clients create and delete the hundred side by side."""

Job = Callable[[Bench], Iterator[Row]]


def start(bench: Bench) -> Iterator[Row]:
    """Commands and the whole of `statera up`, in a folder that is not there yet."""
    helps, fresh, again, stops = [], [], [], []
    for turn in range(3):
        bench.tick(f"start {turn + 1}")
        helps.append(timed(say_help))
        cloud = Cloud(bench.cloud.state.parent / f"start-{turn}")
        fresh.append(cloud.start())
        stops.append(cloud.stop())
        again.append(cloud.start())
        cloud.purge()
    yield Row(what="statera --help", values=ms(helps))
    yield Row(what="statera up, new folder → ready", values=ms(fresh))
    yield Row(what="statera up, again → ready", values=ms(again))
    yield Row(what="Ctrl-C → ended", values=ms(stops))


def say_help() -> None:
    subprocess.run([rig.command("statera"), "--help"], check=True, stdout=subprocess.DEVNULL)


def create(bench: Bench) -> Iterator[Row]:
    """From the request for a whole tree to the first answer of a web server through the VIP."""
    answered, gone = [], []
    served: list[float] = []
    active: list[float] = []
    for turn in range(CREATES):
        bench.tick(f"create {turn + 1}")
        began = time.monotonic()
        made = bench.create()
        answered.append(time.monotonic() - began)
        rig.in_parallel({
            "served": partial(first_answer, made, began, served),
            "active": partial(first_active, bench.cloud.api(), made, began, active),
        })
        gone.append(bench.delete(made))
    yield Row(what="create a tree → answer of the api", values=ms(answered))
    yield Row(what="create a tree → first 200 through the VIP", values=ms(served), target="≤ 1000 median")
    yield Row(what="create a tree → ACTIVE", values=ms(active), target="≤ 1000 median")
    yield Row(what="delete with cascade → gone", values=ms(gone))


def first_answer(made: Document, began: float, seconds: list[float]) -> None:
    until(lambda: body_of(made["vip_address"], timeout_seconds=0.05), seconds=30)
    seconds.append(time.monotonic() - began)


def first_active(api: Api, made: Document, began: float, seconds: list[float]) -> None:
    until(lambda: api.status(made["id"]) == "ACTIVE", seconds=30, step_seconds=0.01)
    seconds.append(time.monotonic() - began)
    api.close()


def member(bench: Bench) -> Iterator[Row]:
    """From the request for a member to its first answer through the VIP."""
    added, removed = [], []
    with bench.balancer() as made:
        path = bench.members_of(made)
        for turn in range(MEMBER_ADDS):
            bench.tick(f"member {turn + 1}")
            address = bench.network.servers[2 + turn]
            began = time.monotonic()
            new = bench.api.post(path, {"member": a_member(address)})["member"]
            answers(made, address)
            added.append(time.monotonic() - began)
            bench.api.delete(f"{path}/{new['id']}")
            removed.append(bench.api.wait_for(made["id"], "ACTIVE"))
    yield Row(what="add a member → its first answer", values=ms(added), target="≤ 150 each")
    yield Row(what="add a member → its first answer, 95 of 100", values=ms([percentile(added, 95)]), target="≤ 150")
    yield Row(what="remove a member → ACTIVE", values=ms(removed))


def batch(bench: Bench) -> Iterator[Row]:
    """One PUT that replaces two members by five hundred, and one back."""
    answered, grown, shrunk = [], [], []
    servers, ports = bench.network.servers[:50], rig.PORTS[1:]
    many = [a_member(address, port) for address in servers for port in ports][:BATCH]
    few = [a_member(address) for address in bench.network.servers[:2]]
    with bench.balancer() as made:
        path = bench.members_of(made)
        for turn in range(3):
            bench.tick(f"batch {turn + 1}")
            began = time.monotonic()
            bench.api.put(path, {"members": many})
            answered.append(time.monotonic() - began)
            bench.api.wait_for(made["id"], "ACTIVE")
            grown.append(time.monotonic() - began)
            began = time.monotonic()
            bench.api.put(path, {"members": few})
            bench.api.wait_for(made["id"], "ACTIVE")
            shrunk.append(time.monotonic() - began)
    yield Row(what=f"batch of {BATCH} members → answer of the api", values=ms(answered))
    yield Row(what=f"batch of {BATCH} members → ACTIVE", values=ms(grown), target="≤ 1000")
    yield Row(what=f"batch that removes {BATCH - 2} → ACTIVE", values=ms(shrunk))


def kill(bench: Bench) -> Iterator[Row]:
    """The sudden death of HAProxy, and of the agent while clients ask all the time."""
    back, adopted = [], []
    with bench.balancer() as made:
        for turn in range(5):
            bench.tick(f"kill HAProxy {turn + 1}")
            back.append(kill_haproxy(bench, made))
        path = bench.members_of(made)
        with rig.load(made["vip_address"], clients=2) as finish:
            for turn in range(3):
                bench.tick(f"kill the agent {turn + 1}")
                adopted.append(change_after_death(bench, made, path, address=bench.network.servers[2 + turn]))
            outcome = finish()
    failed = outcome.per_request.failed + outcome.kept.failed
    total = outcome.per_request.requests + outcome.kept.requests
    yield Row(what="HAProxy killed → serves again", values=ms(back), target="≤ 1000")
    yield Row(what="agent killed → a new member serves", values=ms(adopted))
    yield Row(what=f"failed of {total} requests while the agent died thrice", values=(failed,), unit="", target="0",
              failed=failed > 0)


def kill_haproxy(bench: Bench, made: Document) -> float:
    """Kill master and workers at once; the seconds until the next answer."""
    [master] = bench.cloud.haproxies(made["id"]).values()
    for pid in (master, *rig.children(master)):
        os.kill(pid, signal.SIGKILL)
    seconds = until(lambda: body_of(made["vip_address"], timeout_seconds=0.05))
    bench.api.wait_for(made["id"], "ACTIVE")
    return seconds


def change_after_death(bench: Bench, made: Document, path: str, *, address: str) -> float:
    began = time.monotonic()
    bench.cloud.kill("statera-agent")
    bench.api.post(path, {"member": a_member(address)})
    answers(made, address)
    return time.monotonic() - began


def memory(bench: Bench) -> Iterator[Row]:
    """What idle amphorae and the services hold, shared pages counted in parts."""
    with contextlib.ExitStack() as stack:
        bench.tick("memory")
        made = [stack.enter_context(bench.balancer(name=f"idle-{number}")) for number in range(10)]
        each = []
        for one in made:
            [master] = bench.cloud.haproxies(one["id"]).values()
            each.append(rig.pss_bytes([master, *rig.children(master)]) / 1e6)
        services = {name: bench.cloud.service(name) for name in SERVICES}
        held = {name: rig.pss_bytes([pid, *rig.children(pid)]) / 1e6 for name, pid in services.items() if pid}
    yield Row(what="memory of an idle amphora, one of 10", values=tuple(each), unit="MB", target="≤ 25")
    for name, megabytes in held.items():
        yield Row(what=f"memory of {name}", values=(megabytes,), unit="MB")


SERVICES = ("octavia-api", "octavia-worker", "octavia-health-manager", "octavia-housekeeping", "statera-agent")


def hundred(bench: Bench) -> Iterator[Row]:
    """As many load balancers at once, and whether anything is left of them."""
    bench.tick(f"{FLEET}: create")
    began = time.monotonic()
    made = side_by_side(bench, range(FLEET), lambda api, number: api.post(
        "/v2/lbaas/loadbalancers", bench.request(name=f"lb-{number}"))["loadbalancer"])
    answered = time.monotonic() - began
    bench.tick(f"{FLEET}: wait until all are ACTIVE")
    side_by_side(bench, made, lambda api, one: api.wait_for(one["id"], "ACTIVE", seconds=120))
    active = time.monotonic() - began
    mute = [one["vip_address"] for one in made if not body_of(one["vip_address"])]
    bench.tick(f"{FLEET}: delete")
    began = time.monotonic()
    side_by_side(bench, made, lambda api, one: api.delete(f"/v2/lbaas/loadbalancers/{one['id']}?cascade=true"))
    side_by_side(bench, made, lambda api, one: api.wait_for(one["id"], "DELETED", seconds=120))
    gone = time.monotonic() - began
    left = rig.leftovers(bench.cloud, bench.cloud.amphora_ids(), [bench.network.bridge])
    yield Row(what=f"{FLEET} load balancers: all answers of the api", values=(answered,), unit="s")
    yield Row(what=f"{FLEET} load balancers: all ACTIVE", values=(active,), unit="s")
    yield Row(what=f"{FLEET} load balancers: VIPs that do not answer", values=(len(mute),), unit="", target="0",
              failed=bool(mute))
    yield Row(what=f"{FLEET} load balancers: all deleted", values=(gone,), unit="s")
    yield Row(what=f"left behind: {', '.join(left[:5]) or 'nothing'}", values=(len(left),), unit="", target="0",
              failed=bool(left))


def side_by_side(bench: Bench, things: Sequence[Any], act: Callable[[Api, Any], Any]) -> list[Any]:
    """Do it to all things, in lanes with a connection each; results in the order of lanes."""
    results: list[Any] = []

    def lane(number: int) -> None:
        api = bench.cloud.api()
        results.extend([act(api, thing) for thing in things[number::LANES]])
        api.close()

    rig.in_parallel({f"lane {number}": partial(lane, number) for number in range(LANES)})
    return results


class Run(Struct, frozen=True, kw_only=True):
    """What a HAProxy did: *cost* is its processor time for each request."""

    rate: float
    cost: float


def peer(bench: Bench) -> Iterator[Row]:
    """Requests per second, beside a HAProxy that was configured by hand, in the same namespace, in turns."""
    ours, theirs = [], []
    shape = Shape(servers=[f"{address}:80" for address in bench.network.servers[:4]])
    with bench.balancer(members=4, monitor=False) as made:
        [(amphora_id, master)] = bench.cloud.haproxies(made["id"]).items()
        with haproxy(made, amphora_id, shape, folder=bench.cloud.state.parent) as hand:
            for turn in range(8):
                bench.tick(f"against a HAProxy by hand {turn + 1}")
                ours.append(run(made["vip_address"], 80, rig.children(master)))
                theirs.append(run(made["vip_address"], by_hand.PORT, [hand]))
    for name, runs in (("an amphora", ours), ("a HAProxy by hand", theirs)):
        yield Row(what=f"request rate through {name}", values=tuple(one.rate for one in runs), unit="/s")
        yield Row(what=f"processor time per request, {name}", values=tuple(one.cost * 1e6 for one in runs), unit="µs")
    turns = list(zip(ours, theirs, strict=True))
    yield Row(what="ratio of the rates, turn by turn", values=tuple(our.rate / their.rate for our, their in turns),
              unit="×", target="≥ 0.97 median")
    yield Row(what="ratio of the processor times, turn by turn", unit="×",
              values=tuple(our.cost / their.cost for our, their in turns))


def run(address: str, port: int, pids: Sequence[int]) -> Run:
    """Two seconds of requests on kept connections."""
    argv = ["wrk", "-t1", "-c32", "-d2s", f"http://{address}:{port}/"]
    before = rig.processor_seconds(pids)
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in text, text
    requests = int(text.partition(" requests in ")[0].split()[-1])
    return Run(rate=float(text.partition("Requests/sec:")[2].split()[0]),
               cost=(rig.processor_seconds(pids) - before) / requests)


JOBS: dict[str, Job] = {
    "start": start, "create": create, "member": member, "load": under_load, "live": live, "batch": batch,
    "kill": kill, "memory": memory, "hundred": hundred, "peer": peer,
}
SHORT = ("create", "member", "live", "batch", "memory", "peer")
"""What an impatient reader is shown."""
