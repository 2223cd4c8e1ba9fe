# SPDX-License-Identifier: Apache-2.0
"""From within one tenant's amphora nothing of another tenant and nothing of the host can be reached."""

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from statera.agent import isolation, namespace
from statera.agent.teardown import teardown
from statera.config import Agent, Settings


@pytest.fixture
def neighbours(lab, far_lab):
    """Two tenants with an amphora each on one node; what is asked for decides about their networks."""
    def build(*, ours="alice", theirs="bob", shared=False, settings=None):
        run = lab.host(settings=settings)
        networks = replace(lab.network, project_id=ours), replace(far_lab.network, project_id=theirs, shared=shared)
        run.carry(networks)
        lab.start_members()
        far_lab.start_members()
        specs = lab.spec(), far_lab.spec()
        run.carry(networks, *(spec.amphora_id for spec in specs))
        for spec in specs:
            assert run.put(spec).failure is None
        assert try_from(specs[0], "ip", "-6", "addr", "add", f"{lab.net6}77/64", "dev", "eth1", "nodad")
        return run, networks, *specs
    return build


def try_from(spec, *command):
    """Whether the command succeeds in the amphora's namespace, as its root."""
    enter = ["nsenter", f"--net={namespace.netns_path(spec.amphora_id)}", "--"]
    return subprocess.run([*enter, *command], capture_output=True, timeout=30).returncode == 0


def link_local(bridge):
    said = subprocess.run(["ip", "-6", "-o", "addr", "show", "dev", bridge, "scope", "link"], capture_output=True,
                          text=True, check=True).stdout
    return said.split()[3].split("/")[0]


def connects(spec, ip, port, *scope):
    with namespace.inside(spec.amphora_id):
        one = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    with one:
        one.settimeout(0.5)
        return one.connect_ex((ip, port, *scope)) == 0


def answers(spec, ip, port):
    """Whether something comes back for a datagram."""
    with namespace.inside(spec.amphora_id):
        one = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
    with one, contextlib.suppress(OSError):
        one.settimeout(0.5)
        one.sendto(b"x", (ip, port))
        return bool(one.recv(100))
    return False


def resolves(spec, ip):
    """Whether anybody on its network owns up to an address."""
    try_from(spec, "ip", "route", "replace", f"{ip}/32", "dev", "eth1")
    connects(spec, ip, 80)
    enter = ["nsenter", f"--net={namespace.netns_path(spec.amphora_id)}", "--"]
    said = subprocess.run([*enter, "ip", "neigh", "show", ip], capture_output=True, text=True, check=True).stdout
    try_from(spec, "ip", "route", "del", f"{ip}/32", "dev", "eth1")
    return "lladdr" in said


def pings(spec, ip):
    with namespace.inside(spec.amphora_id):
        one = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with one, contextlib.suppress(OSError):
        one.settimeout(0.5)
        one.sendto(bytes.fromhex("0800f7fe00010000"), (ip, 0))
        return bool(one.recv(100))
    return False


@contextlib.contextmanager
def service(ip):
    """A service of the host's, by TCP and UDP."""
    both = {"family": socket.AF_INET6, "dualstack_ipv6": True}
    with socket.create_server(("", 0), **both) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind((ip, server.getsockname()[1] % 30000 + 1024))
        yield server.getsockname()[1], echo


@pytest.mark.carries("networks of two tenants are apart")
def test_nothing_of_another_tenant_is_reached(lab, far_lab, neighbours):
    _, _, ours, theirs = neighbours()
    assert connects(ours, lab.member(10).address, 80)
    try_from(ours, "ip", "route", "replace", f"{far_lab.net}.0/24", "via", f"{lab.net}.1")
    try_from(ours, "ip", "-6", "route", "replace", f"{far_lab.net6}/64", "via", f"{lab.net6}1")
    addresses = [theirs.interfaces[0].addresses[0].ip, far_lab.vip, far_lab.member(10).address]
    assert [ip for ip in addresses if connects(ours, ip, 80) or answers(ours, ip, 90) or pings(ours, ip)] == []
    assert not connects(ours, f"{far_lab.net6}10", 80)
    assert [ip for ip in addresses if resolves(ours, ip)] == []
    assert connects(theirs, far_lab.member(10).address, 80)


@pytest.mark.carries("the host's services are out of reach")
def test_nothing_of_the_host_is_reached(lab, far_lab, neighbours):
    run, _, ours, _ = neighbours()
    with service(f"{lab.net}.1") as (port, echo):
        for ip in (f"{lab.net}.1", f"{lab.net}.2", f"{far_lab.net}.1", f"{lab.net6}1", *outer_addresses()):
            assert not connects(ours, ip, port), ip
        with namespace.inside(ours.amphora_id):
            leg = socket.if_nametoindex("eth1")
        assert not connects(ours, link_local(lab.bridge), port, 0, leg)
        answers(ours, f"{lab.net}.1", echo.getsockname()[1])
        echo.settimeout(0.3)
        with pytest.raises(TimeoutError):
            echo.recv(10)
        assert not resolves(ours, f"{far_lab.net}.1")
        assert not pings(ours, f"{far_lab.net}.1")
    assert lab.get(), "the host itself is served"
    assert isolation.stands(run.host._networks, run.state)


def outer_addresses():
    """The host's addresses that have nothing to do with us."""
    shown = subprocess.run(["ip", "-4", "-o", "addr", "show"], capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in shown.splitlines()]
    return [address.split("/")[0] for _, name, _, address, *_ in words if name.startswith(("eth", "en"))]


def test_services_of_the_host_are_members_where_the_operator_says_so(lab, far_lab, neighbours):
    _, _, ours, _ = neighbours(settings=Settings(agent=Agent(services_on_bridges=True)))
    with service(f"{lab.net}.1") as (port, _):
        assert connects(ours, f"{lab.net}.1", port)
        assert connects(ours, f"{lab.net6}1", port)
        assert not connects(ours, f"{far_lab.net}.1", port)


def test_networks_of_one_project_reach_each_other(far_lab, neighbours):
    _, _, ours, _ = neighbours(theirs="alice")
    assert connects(ours, far_lab.member(10).address, 80)


@pytest.mark.carries("a shared network is reached and reaches nobody")
def test_a_shared_network_is_reached_and_reaches_nobody(lab, far_lab, neighbours):
    _, _, ours, theirs = neighbours(shared=True)
    assert connects(ours, far_lab.member(10).address, 80)
    assert not connects(theirs, lab.member(10).address, 80)


def test_rules_that_somebody_flushed_come_back_and_end_with_us(lab, far_lab, neighbours, wait_until):
    run, networks, ours, _ = neighbours()
    subprocess.run(["nft", "delete", "table", "inet", isolation.table(run.state)], check=True)
    wait_until(lambda: isolation.stands(networks, run.state), seconds=10)
    assert not connects(ours, far_lab.member(10).address, 80)
    run.stop()
    assert "packet filter removed" in teardown(run.state)
    assert not isolation.stands(networks, run.state)


@pytest.mark.carries("unprivileged HAProxy in an empty root")
def test_haproxy_has_neither_rights_nor_files(lab, node, serving):
    master, *workers = node.pids(serving)
    assert workers
    for pid in workers:
        status = Path(f"/proc/{pid}/status").read_text()
        owner = next(line for line in status.splitlines() if line.startswith("Uid:"))
        assert "0" not in owner.split()[1:]
        assert "CapEff:\t0000000000000000" in status
        assert os.listdir(f"/proc/{pid}/root") == []
    assert master not in workers
