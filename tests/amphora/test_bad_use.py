# SPDX-License-Identifier: Apache-2.0
"""What is done to an amphora by a bad wish or on its host is mended or told, and what serves goes on serving."""

import os
import signal
import socket
import subprocess

import pytest
from msgspec.structs import replace

from statera.agent import legs, namespace, process
from statera.agent.host import Host
from statera.config import Haproxy, Settings
from statera.model.fleet import Role
from statera.render.haproxy import PEERS_PORT
from statera.wire import Applied, ListenerSpec, MonitorSpec, VrrpSpec

from .conftest import HostRun

REFUSED = [
    pytest.param(
        lambda spec: changed(spec, timeout_client_data=99_999_999_999),
        "listener listener-{tag}: HAProxy says: timer overflow in argument", id="a listener's timeout"),
    pytest.param(
        lambda spec: with_pool(spec, monitor=MonitorSpec(
            type="HTTP", delay=1, timeout=1, max_retries=1, expected_codes="700-200")),
        "pool pool-{tag}: HAProxy says: 'http-check expect' : invalid range of status codes", id="a monitor's codes"),
    pytest.param(
        lambda spec: with_pool(spec, members=(replace(spec.pools[0].members[0], weight=300),)),
        "member member-10-{tag} of pool pool-{tag}: HAProxy says: ", id="a member's weight"),
]
"""What the API would not let through, as a newer agent's or a mistaken one's might be."""


def changed(spec, **changes):
    return replace(spec, version=spec.version + 1, listeners=(replace(spec.listeners[0], **changes),))


def with_pool(spec, **changes):
    return replace(spec, version=spec.version + 1, pools=(replace(spec.pools[0], **changes),))


def failure(node, words):
    """The failure that says so, as soon as it is told."""
    return node.wait(lambda up: isinstance(up, Applied) and words in (up.failure or "")).failure


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_a_refusal_names_the_object_and_what_ran_runs_on(lab, node, serving, change, words):
    pids = node.pids(serving)
    assert node.put(change(serving)).failure.startswith(words.format(tag=lab.tag))
    assert lab.get()
    assert node.pids(serving) == pids
    assert node.host.running() == {serving.amphora_id: 1}
    assert node.put(replace(serving, version=3)).failure is None


def test_a_reload_that_fails_is_told_at_once_in_haproxys_words(lab, node, serving, wait_until):
    pids, own = node.pids(serving), serving.interfaces[0].addresses[0].ip
    with namespace.inside(serving.amphora_id):
        stranger = socket.create_server((own, PEERS_PORT))
    one_of_a_pair = replace(
        serving, version=2, role=Role.MASTER, vrrp=VrrpSpec(priority=254, peer_ip=f"{lab.net}.101"))
    with stranger:
        told = node.put(one_of_a_pair).failure
        print("\n" + told)
        assert told.startswith("HAProxy says: ")
        assert f"cannot bind socket (Address already in use) for [{own}:{PEERS_PORT}]" in told
        assert node.pids(serving) == pids
        assert node.host.running() == {serving.amphora_id: 1}
    wait_until(lambda: node.host.running() == {serving.amphora_id: 2})
    wait_until(lambda: lab.get())


def test_a_port_that_a_stranger_has_costs_nobody_a_connection(lab, node, serving, wait_until):
    pids = node.pids(serving)
    with namespace.inside(serving.amphora_id):
        stranger = socket.create_server((lab.vip, 81))
    more = ListenerSpec(id="more", protocol="HTTP", protocol_port=81, default_pool_id=serving.pools[0].id)
    with lab.load(clients=4) as came, stranger:
        wished = replace(serving, version=2, listeners=(*serving.listeners, more))
        assert node.put(wished).failure == f"nobody can listen on {lab.vip} port 81: Address already in use"
        assert node.pids(serving) == pids
    assert set(came["outcome"]) == {"200"}
    wait_until(lambda: lab.get(port=81))


def test_a_spec_that_will_not_start_gives_way_to_the_last_one(lab, node, serving, wait_until):
    taken = ListenerSpec(id="more", protocol="HTTP", protocol_port=81, default_pool_id=serving.pools[0].id)
    node.put(replace(serving, version=2))
    with namespace.inside(serving.amphora_id):
        stranger = socket.create_server((lab.vip, 81))
    with stranger:
        os.kill(node.pids(serving)[0], signal.SIGKILL)
        node.call(node.host.put(replace(serving, version=3, listeners=(*serving.listeners, taken))))
        assert failure(node, "Address already in use")
        wait_until(lambda: lab.get())
        assert node.host.running() == {serving.amphora_id: 2}


def test_a_missing_haproxy_is_told_and_the_running_one_serves(lab, node, serving, wait_until):
    program = lab.folder / "haproxy"
    program.symlink_to("/usr/sbin/haproxy")
    node.stop()
    again = HostRun(node.state)
    lab.hosts.append(again)
    again.host = Host(Settings(haproxy_amphora=Haproxy(haproxy_cmd=str(program))), node.state, again.emit)
    again.call(again.host.start())
    again.carry(lab.network, serving.amphora_id)
    program.unlink()
    needs_reload = changed(serving, timeout_client_data=40_000)
    assert again.put(needs_reload).failure == f"{program} is not on this host; install it: apt-get install haproxy"
    assert lab.get()
    program.symlink_to("/usr/sbin/haproxy")
    wait_until(lambda: again.host.running() == {serving.amphora_id: 2})


def test_an_haproxy_that_dies_again_and_again_is_told_and_started_ever_more_rarely(lab, node, serving, wait_until):
    def die():
        workers = node.pids(serving)[1:]
        for pid in workers:
            process.send(pid, signal.SIGSEGV)
        return workers

    def serves():
        return lab.get() and node.home(serving).running.exists()

    def is_told():
        told = any("again and again" in (getattr(up, "failure", None) or "") for up in node.said)
        if not told and serves():
            die()
        return told

    wait_until(is_told, seconds=60)
    assert failure(node, "HAProxy dies again and again: Current worker exited with code 139 (Segmentation fault)")
    first = wait_until(serves)
    dead = die()
    second = wait_until(lambda: not {*dead} & {*node.pids(serving)}) + wait_until(serves)
    assert 0.2 < first < second


@pytest.mark.parametrize("name", ["socket", "master_socket"])
def test_a_socket_that_is_gone_is_made_again(lab, node, serving, wait_until, name):
    path = getattr(node.home(serving), name)
    with lab.load(clients=4) as came:
        path.unlink()
        if name == "master_socket":
            assert node.put(changed(serving, timeout_client_data=40_000)).failure is None
        wait_until(lambda: path.exists() and lab.get())
    assert set(came["outcome"]) == {"200"}
    assert node.put(changed(serving, timeout_client_data=41_000)).failure is None


def test_a_namespace_that_somebody_deletes_gets_its_name_again(lab, node, serving, wait_until):
    pids = node.pids(serving)
    with lab.load(clients=4) as came:
        subprocess.run(["ip", "netns", "del", namespace.name_of(serving.amphora_id)], check=True)
        wait_until(lambda: namespace.exists(serving.amphora_id))
        assert node.put(changed(serving, allowed_cidrs=(f"{lab.net}.0/24",))).failure is None
    assert set(came["outcome"]) == {"200"}
    assert node.pids(serving) == pids


def test_a_leg_that_somebody_deletes_is_plugged_again(lab, node, serving, wait_until):
    subprocess.run(["ip", "link", "del", legs.outer_name(serving.amphora_id, "eth1")], check=True)
    wait_until(lambda: lab.get(patience_seconds=0.5))


@pytest.fixture
def small_disk(lab):
    """The state folder of a host, on a disk of half a megabyte."""
    folder = lab.folder / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)], check=True)
    yield folder
    lab.close()
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_what_runs_serves_on(lab, small_disk, wait_until):
    node = lab.host("small")
    spec = lab.spec()
    node.carry(lab.network, spec.amphora_id)
    lab.start_members()
    assert node.put(spec).failure is None
    filler = small_disk / "filler"
    filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    assert "No space left on device" in node.put(changed(spec, timeout_client_data=40_000)).failure
    assert lab.get()
    node.stop()
    again = lab.host("small")
    assert lab.get()
    filler.unlink()
    again.carry(lab.network, spec.amphora_id)
    assert again.put(changed(spec, timeout_client_data=40_000)).failure is None
    assert lab.get()
