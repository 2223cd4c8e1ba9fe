# SPDX-License-Identifier: Apache-2.0
"""An agent dies at any line of a pass: the next one makes the same of it as one that nobody disturbed."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from statera.agent import namespace
from statera.model.fleet import Role
from statera.wire import Gone, ListenerSpec, PoolSpec, VrrpSpec

LINES = int(os.environ.get("STATERA_LINES", "6"))
"""At so many of its lines, chosen at random, an agent dies; 0 means at each of them."""

Die = Callable[[int], str]


def alone(lab):
    """Nothing is there yet of what HAProxy and the kernel are to serve behind a filter."""
    return None, rich(lab, lab.spec())


def of_a_pair(lab):
    return None, lab.spec(role=Role.MASTER, load_balancer_id="pair",
                          vrrp=VrrpSpec(priority=254, peer_ip=f"{lab.net}.101", advert_seconds=0.1))


def changed(lab):
    """All of that comes to one that serves already, and a member goes."""
    before = lab.spec()
    pool = replace(before.pools[0], members=before.pools[0].members[:1])
    return before, rich(lab, replace(before, version=2, pools=(pool,)))


def rich(lab, spec):
    names = PoolSpec(id="names", protocol="UDP", lb_algorithm="ROUND_ROBIN",
                     members=(lab.member(12, protocol_port=53),))
    return replace(spec, pools=(*spec.pools, names), listeners=(
        replace(spec.listeners[0], allowed_cidrs=(f"{lab.net}.0/24",)),
        ListenerSpec(id="flow", protocol="UDP", protocol_port=53, default_pool_id="names"),
        ListenerSpec(id="metrics", protocol="PROMETHEUS", protocol_port=8088)))


@pytest.mark.parametrize("kind", [alone, of_a_pair, changed])
def test_an_agent_that_dies_at_any_line_leaves_nothing_half_done(lab, wait_until, kind):
    with host(lab) as run:
        run.carry(lab.network)
        lab.start_members()
    before, spec = kind(lab)
    with agents(lab, spec) as die:
        have(lab, before)
        count = int(die(0))
        wanted = what_came_of_it(lab, spec, wait_until)
        seed = random.randrange(1_000_000)
        print(f"\nseed {seed}, {count} lines")
        wrong = {}
        for number in sorted(random.Random(seed).sample(range(1, count + 1), LINES or count)):
            have(lab, before)
            line = die(number)
            print(number, line)
            if (came := what_came_of_it(lab, spec, wait_until)) != wanted:
                wrong[line] = {name: value for name, value in came.items() if value != wanted[name]}
    assert not wrong


@contextmanager
def agents(lab, spec) -> Iterator[Die]:
    orders = lab.folder / "orders.json"
    orders.write_bytes(msgspec.json.encode({"network": lab.network, "spec": spec}))
    script = Path(__file__).with_name("dying_agent.py")
    with subprocess.Popen([sys.executable, str(script), str(lab.folder / "node"), str(orders)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        def die(number: int) -> str:
            assert parent.stdin
            assert parent.stdout
            parent.stdin.write(f"{number}\n")
            parent.stdin.flush()
            return parent.stdout.readline().strip()

        yield die


def have(lab, before) -> None:
    if before:
        with host(lab) as run:
            run.carry(lab.network, before.amphora_id)
            assert run.put(before).failure is None


def what_came_of_it(lab, spec, wait_until) -> dict[str, Any]:
    """Have the next agent bring the amphora to its spec, look at that, and remove it."""
    with host(lab) as run:
        run.carry(lab.network, spec.amphora_id)
        failure = run.put(spec).failure
        # A neighbour that was not told whose the address is now would ask its former owner for longer.
        wait_until(lambda: lab.get(patience_seconds=0.5), seconds=4)
        servers = (line.split()[1:5] for line in run.servers(spec).splitlines() if line.count(" ") > 5)
        came = {"failure": failure, "servers": sorted((pool, name, ip) for pool, _, name, ip in servers),
                "file": run.home(spec).haproxy_cfg.read_text(), **inside(spec.amphora_id)}
        run.carry(lab.network)
        run.wait(lambda up: isinstance(up, Gone))
    return came | {"left": namespace.exists(spec.amphora_id)}


@contextmanager
def host(lab) -> Iterator[Any]:
    run = lab.host()
    yield run
    run.stop()


def inside(amphora_id: str) -> dict[str, Any]:
    """Everything of the amphora that the kernel knows, but for numbers it gives at random."""
    def ask(*command: str) -> str:
        return subprocess.run(["ip", "netns", "exec", namespace.name_of(amphora_id), *command], check=True,
                              capture_output=True, text=True).stdout

    return {
        "processes": sorted(Path(f"/proc/{pid}/comm").read_text() for pid in namespace.processes(amphora_id)),
        "addresses": [(link["ifname"], link["mtu"], link["operstate"],
                       [one["local"] for one in link["addr_info"] if one["scope"] != "link"])
                      for link in json.loads(ask("ip", "-j", "addr"))],
        "routes": ask("ip", "route", "show", "table", "1") + ask("ip", "route"),
        "rules": ask("ip", "rule"), "filter": ask("nft", "-s", "list", "ruleset"),
        "settings": {name: ask("cat", f"/proc/sys/{name}") for name in (*namespace.SYSCTLS, "net/ipv4/ip_forward")
                     if Path("/proc/sys", name).exists()},
    }
