# SPDX-License-Identifier: Apache-2.0
"""The data plane outlives its agent, its own death and a reboot; and when it goes nothing stays behind."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from statera.agent import cgroup, namespace, process
from statera.agent.host import machine_of
from statera.agent.teardown import teardown
from statera.config import Haproxy, Settings
from statera.errors import SetupError
from statera.wire import Address, Applied, Gone, Interface, Report


def test_a_restarted_agent_finds_what_runs(lab, node, serving, wait_until):
    pids = node.pids(serving)
    wait_until(lambda: lab.get() and total(node) > 5)
    counted = total(node)
    node.stop()
    assert lab.get()
    again = lab.host()
    assert again.host.running() == {serving.amphora_id: 1}
    assert again.pids(serving) == pids
    again.carry(lab.network, serving.amphora_id)
    assert again.put(serving).how == "nothing"
    more = replace(serving, version=2, pools=(replace(serving.pools[0], members=(lab.member(12),)),))
    assert again.put(more).how == "runtime"
    assert lab.get()["who"] == f"{lab.net}.12"
    wait_until(lambda: total(again) >= counted + 2)


def total(node):
    return sum(counters.total_connections for counters in node.words("counters").values())


def test_counters_never_fall(lab, node, serving, wait_until):
    def ask(times):
        for _ in range(times):
            lab.get()
        return times

    def check():
        totals = [up.counters[serving.listeners[0].id].total_connections for up in node.said
                  if isinstance(up, Report) and up.counters]
        assert totals == sorted(totals)

    asked = ask(20)
    listener = replace(serving.listeners[0], timeout_client_data=40_000)
    assert node.put(replace(serving, version=2, listeners=(listener,))).how == "reload"
    asked += ask(20)
    wait_until(lambda: total(node) == asked)
    pid = node.pids(serving)[0]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: node.pids(serving)[:1] not in ([], [pid]))
    asked += ask(20)
    wait_until(lambda: total(node) == asked)
    check()


@pytest.mark.parametrize("victim", [0, 1], ids=["master", "worker"])
def test_a_killed_haproxy_is_back_within_a_second(lab, node, serving, wait_until, victim):
    pids = node.pids(serving)
    os.kill(pids[victim], signal.SIGKILL)
    took = wait_until(lambda: node.pids(serving)[:1] not in ([], pids[:1]) and lab.get())
    print(f"\nback after {took:.3f} s")
    assert took < 1
    assert not set(node.pids(serving)) & set(pids)
    wait_until(lambda: not any(process.runs(pid, "haproxy") for pid in pids))


def test_a_rebooted_node_serves_before_anybody_tells_it_to(lab, node, serving):
    node.put(replace(serving, version=7))
    node.stop()
    forget(node, serving)
    started = time.monotonic()
    again = lab.host()
    assert lab.get()
    print(f"\nrestored in {time.monotonic() - started:.3f} s")
    assert again.host.running() == {serving.amphora_id: 7}


def forget(node, spec):
    """What a reboot does to an amphora: processes, namespace and /run are gone, the disk stays."""
    for pid in namespace.processes(spec.amphora_id):
        os.kill(pid, signal.SIGKILL)
    namespace.remove(spec.amphora_id, spec.interfaces)
    shutil.rmtree(node.home(spec).run)


def test_what_is_not_on_the_roster_goes(lab, node, serving):
    node.carry(lab.network)
    assert node.wait(lambda up: isinstance(up, Gone)) == Gone(amphora_id=serving.amphora_id)
    assert not namespace.exists(serving.amphora_id)
    assert node.host.running() == {}
    assert not node.home(serving).folder.exists()
    assert node.put(replace(serving, version=2)).how == "start"
    assert lab.get()


def test_a_node_carries_several_and_tears_all_down(lab, node, serving):
    before = inventory(lab)
    others = [lab.spec(address=f"{lab.net}.{101 + n}", vips=(Address(ip=f"{lab.net}.{201 + n}", prefix=24),))
              for n in range(5)]
    node.carry(lab.network, serving.amphora_id, *(spec.amphora_id for spec in others))
    started = time.monotonic()
    for spec in others:
        node.call(node.host.put(spec))
    for spec in others:
        node.wait(lambda up, spec=spec: isinstance(up, Applied) and up.amphora_id == spec.amphora_id)
    print(f"\n5 amphorae in {time.monotonic() - started:.3f} s; idle one: "
          f"{sum(map(pss_kilobytes, node.pids(others[0]))) / 1024:.1f} MB")
    assert sum(map(pss_kilobytes, node.pids(others[0]))) < 25 * 1024
    node.stop()
    done = teardown(node.state)
    assert f"bridge {lab.bridge} removed" in done
    assert teardown(node.state) == []
    assert inventory(lab) == {**before, "links": [], "namespaces": [], "processes": [], "groups": []}


def pss_kilobytes(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def inventory(lab):
    """Of all that the host has, what belongs to this lab's amphorae."""
    links = json.loads(subprocess.check_output(["ip", "-j", "link"]))
    ours = {path.name for path in (lab.folder / "node" / "amphorae").glob("*")}
    group = cgroup.folder("")
    return {
        "links": [link["ifname"] for link in links
                  if link["ifname"] == lab.bridge or (link.get("master") == lab.bridge and link["ifname"][0] == "s")],
        "namespaces": [path.name for path in Path("/run/netns").glob("amphora-*") if path.name[8:] in ours],
        "processes": [path.parts[2] for path in Path("/proc").glob("[0-9]*/cmdline")
                      if str(lab.folder).encode() in path.read_bytes() and int(path.parts[2]) != os.getpid()],
        "groups": sorted(ours & {path.name for path in group.glob("*")}) if group else [],
        "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    }


def test_member_networks_are_plugged_and_unplugged_live(lab, node, serving):
    pids = node.pids(serving)
    leg = Interface(name="eth2", network_id="members", bridge=lab.bridge,
                    addresses=(Address(ip=f"{lab.net}.150", prefix=32),))
    node.put(replace(serving, version=2, interfaces=(*serving.interfaces, leg)))
    assert b"eth2" in subprocess.check_output(["ip", "-n", namespace.name_of(serving.amphora_id), "-br", "link"])
    node.put(replace(serving, version=3))
    assert b"eth2" not in subprocess.check_output(["ip", "-n", namespace.name_of(serving.amphora_id), "-br", "link"])
    assert node.pids(serving) == pids
    assert lab.get()


def test_what_cannot_be_is_said_and_retried(lab, node, serving, wait_until):
    elsewhere = replace(serving.interfaces[0], name="eth9", bridge="st-nowhere")
    assert node.put(replace(serving, version=2, interfaces=(*serving.interfaces, elsewhere))).failure == (
        "there is no bridge st-nowhere on this host")
    assert lab.get()
    assert node.put(replace(serving, version=3)).failure is None
    bad = replace(serving.pools[0], lb_algorithm="MAGIC")
    assert "'MAGIC' cannot be put" in node.put(replace(serving, version=4, pools=(bad,))).failure
    assert lab.get()
    assert node.put(replace(serving, version=5)).failure is None


def test_a_host_without_haproxy_says_what_to_install(lab):
    settings = Settings(haproxy_amphora=Haproxy(haproxy_cmd="/nonexistent/haproxy"))
    with pytest.raises(SetupError, match="apt-get install haproxy"):
        machine_of(settings)


def test_members_on_another_local_network_are_reached_through_the_host(lab, far_lab, node, serving, wait_until):
    node.carry((lab.network, far_lab.network), serving.amphora_id)
    far_lab.start_members()
    pool = replace(serving.pools[0], members=(far_lab.member(10),))
    node.put(replace(serving, version=2, pools=(pool,)))
    assert lab.get()["who"] == f"{far_lab.net}.10"
    six = Address(ip=f"{lab.net6}100", prefix=64, gateway=f"{lab.net6}1")
    leg = replace(serving.interfaces[0], addresses=(*serving.interfaces[0].addresses, six))
    pool = replace(pool, members=(replace(pool.members[0], id="six", address=f"{far_lab.net6}10"),))
    node.put(replace(serving, version=3, interfaces=(leg,), pools=(pool,)))
    if (Path("/proc/sys/net/ipv6/conf") / lab.bridge / "force_forwarding").exists():
        assert lab.get()["who"] == f"{far_lab.net6}10"
    node.carry(lab.network, serving.amphora_id)
    wait_until(lambda: not (Path("/sys/class/net") / far_lab.bridge).exists())


def test_both_families_are_served(lab, node):
    spec = lab.spec()
    spec = replace(spec, vips=(*spec.vips, Address(ip=lab.vip6, prefix=64)))
    (leg,) = spec.interfaces
    leg = replace(leg, addresses=(*leg.addresses, Address(ip=f"{lab.net6}100", prefix=64)))
    node.carry(lab.network, spec.amphora_id)
    node.put(replace(spec, interfaces=(leg,)))
    assert {lab.get()["who"], lab.get(ip=lab.vip6)["who"]} == {f"{lab.net}.10", f"{lab.net}.11"}


def test_addresses_that_move_to_another_node_are_found_there_at_once(lab, node):
    spec = lab.spec()
    node.carry(lab.network, spec.amphora_id)
    node.put(spec)
    both = replace(spec, version=2, vips=(*spec.vips, Address(ip=lab.vip6, prefix=64)), interfaces=(replace(
        spec.interfaces[0], addresses=(*spec.interfaces[0].addresses, Address(ip=f"{lab.net6}100", prefix=64))),))
    node.put(both)
    assert lab.get()
    assert lab.get(ip=lab.vip6)
    node.carry(lab.network)
    node.wait(lambda up: isinstance(up, Gone))
    other = lab.host("other")
    other.carry(lab.network, f"successor-{lab.tag}")
    other.put(replace(both, amphora_id=f"successor-{lab.tag}"))
    assert lab.get(patience_seconds=0.5)
    assert lab.get(ip=lab.vip6, patience_seconds=0.5)


def test_who_has_another_amphoras_former_address_is_found_at_once(lab, node, serving, wait_until):
    """Machines on the network know the former one's hardware address for half a minute."""
    def is_found() -> bool:
        with socket.socket() as asking:
            asking.settimeout(0.5)
            return asking.connect_ex((f"{lab.net}.100", 9)) == errno.ECONNREFUSED

    assert wait_until(is_found) < 1
    node.carry(lab.network)
    node.wait(lambda up: isinstance(up, Gone))
    after = lab.spec()
    node.carry(lab.network, after.amphora_id)
    assert node.put(after).failure is None
    assert wait_until(is_found) < 1
