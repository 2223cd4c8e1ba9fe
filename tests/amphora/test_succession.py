# SPDX-License-Identifier: Apache-2.0
"""One amphora after another, on two hosts of one network: who was cut off steps back, who goes hands over."""

import subprocess
import uuid

import pytest
from msgspec.structs import replace

from statera.agent import namespace
from statera.model.fleet import Role
from statera.wire import Predecessor, VrrpSpec

MASTER, BACKUP, THIRD = 100, 101, 102


@pytest.fixture
def other(lab, node):
    """A second host on the same network."""
    run = lab.host("other")
    run.carry(lab.network)
    return run


def one_of_pair(lab, last, *peers, role=Role.MASTER, **vrrp):
    ips = tuple(f"{lab.net}.{peer}" for peer in peers)
    priority = 254 if role is Role.MASTER else 253
    spec = lab.spec(address=f"{lab.net}.{last}", role=role)
    return replace(spec, vrrp=VrrpSpec(priority=priority, peer_ip=ips[-1], peer_ips=ips, **vrrp))


def after(lab, *old, version=2, **changes):
    """Another amphora for the same VIP, whose members are others."""
    pool = replace(old[0].pools[0], members=(lab.member(20),))
    leg = replace(old[0].interfaces[0], addresses=(
        replace(old[0].interfaces[0].addresses[0], ip=f"{lab.net}.{THIRD}"),))
    predecessors = tuple(
        Predecessor(amphora_id=one.amphora_id, ip=one.interfaces[0].addresses[0].ip) for one in old)
    return replace(old[0], amphora_id=str(uuid.uuid4()), version=version, pools=(pool,), interfaces=(leg,),
                   predecessors=predecessors, **changes)


def who_answers(lab, times=10):
    """The members behind whoever answers neighbours that have forgotten who has the VIP."""
    found = set()
    for _ in range(times):
        subprocess.run(["ip", "neigh", "flush", "to", lab.vip], check=True)
        found.add(lab.get()["who"])
    return found


def is_silent(spec):
    links = subprocess.check_output(
        ["ip", "-n", namespace.name_of(spec.amphora_id), "-br", "link", "show", "eth1"], text=True)
    return links.split()[1] == "DOWN"


def test_who_was_cut_off_steps_back_when_a_successor_serves_also_after_a_restart(lab, node, serving, other, wait_until):
    new = after(lab, serving)
    other.carry(lab.network, new.amphora_id)
    assert other.put(new).failure is None
    wait_until(lambda: is_silent(serving), seconds=10)
    assert who_answers(lab) == {f"{lab.net}.20"}
    node.stop()
    again = lab.host()
    assert is_silent(serving)
    assert who_answers(lab) == {f"{lab.net}.20"}
    other.carry(lab.network)
    again.carry(lab.network, serving.amphora_id)
    assert again.put(replace(serving, version=3)).failure is None
    wait_until(lambda: lab.get()["who"] != f"{lab.net}.20", seconds=10)


def test_nobody_else_is_heeded(lab, node, serving, other):
    new = replace(after(lab, serving), predecessors=(
        Predecessor(amphora_id=str(uuid.uuid4()), ip=f"{lab.net}.{MASTER}"),))
    other.carry(lab.network, new.amphora_id)
    assert other.put(new).failure is None
    assert not is_silent(serving)


def test_half_a_pair_that_was_cut_off_steps_back(lab, node, other, wait_until):
    old = one_of_pair(lab, MASTER, BACKUP)
    node.carry(lab.network, old.amphora_id)
    assert node.put(old).failure is None
    wait_until(lab.get, seconds=10)
    new = after(lab, old, role=Role.STANDALONE)
    other.carry(lab.network, new.amphora_id)
    assert other.put(replace(new, vrrp=None)).failure is None
    wait_until(lambda: is_silent(old), seconds=10)
    assert who_answers(lab) == {f"{lab.net}.20"}


def test_who_serves_hands_over_before_it_goes(lab, node, other, wait_until):
    one = one_of_pair(lab, MASTER, BACKUP)
    two = one_of_pair(lab, BACKUP, MASTER, role=Role.BACKUP)
    node.carry(lab.network, one.amphora_id)
    assert node.put(one).failure is None
    wait_until(lab.get, seconds=10)
    other.carry(lab.network, two.amphora_id)
    assert other.put(two).failure is None
    with lab.load(clients=4) as came:
        node.carry(lab.network)
        wait_until(lambda: not namespace.exists(one.amphora_id), seconds=10)
        wait_until(lab.get, seconds=10)
    assert came["outcome"].keys() == {"200"}


def test_a_single_becomes_one_of_a_pair_and_alone_again_under_load(lab, node, other, wait_until):
    alone = lab.spec()
    node.carry(lab.network, alone.amphora_id)
    assert node.put(alone).failure is None
    two = one_of_pair(lab, BACKUP, MASTER, role=Role.BACKUP, delay_seconds=1)
    with lab.load(clients=4) as came:
        vrrp = VrrpSpec(priority=254, peer_ip=f"{lab.net}.{BACKUP}")
        assert node.put(replace(alone, version=2, role=Role.MASTER, vrrp=vrrp)).failure is None
        other.carry(lab.network, two.amphora_id)
        assert other.put(two).failure is None
        other.carry(lab.network)
        assert node.put(replace(alone, version=3)).failure is None
    assert came["outcome"].keys() == {"200"}
    assert who_answers(lab) <= {f"{lab.net}.10", f"{lab.net}.11"}
