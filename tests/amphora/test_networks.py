# SPDX-License-Identifier: Apache-2.0
"""Members that are not on the VIP's network: by a leg of their own, the gateway, the ways that a subnet prescribes."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from amphora.conftest import end
from amphora.datagrams import asked
from msgspec.structs import replace

from statera.wire import Address, Interface, ListenerSpec, PoolSpec

FLOW = ListenerSpec(id="flow", protocol="UDP", protocol_port=53, default_pool_id="names")


def led_to(spec, *members):
    """The spec with an HTTP and a UDP listener for these members."""
    web = replace(spec.pools[0], members=members)
    names = PoolSpec(id="names", protocol="UDP", lb_algorithm="ROUND_ROBIN",
                     members=tuple(replace(member, protocol_port=90) for member in members))
    return replace(spec, version=spec.version + 1, listeners=(spec.listeners[0], FLOW), pools=(web, names))


@pytest.mark.carries("members in other subnets, by a leg of their own")
def test_members_of_another_network_are_asked_from_a_leg_of_their_own(lab, far_lab, node, serving):
    node.carry((lab.network, far_lab.network), serving.amphora_id)
    far_lab.start_members()
    address = Address(ip=f"{far_lab.net}.100", prefix=24, gateway=f"{far_lab.net}.1")
    leg = Interface(name="eth-far", network_id=far_lab.tag, bridge=far_lab.bridge, addresses=(address,))
    spec = replace(led_to(serving, far_lab.member(10)), interfaces=(*serving.interfaces, leg))
    assert node.put(spec).failure is None
    said = lab.get()
    assert (said["who"], said["from"]) == (f"{far_lab.net}.10", f"{far_lab.net}.100")
    assert asked(lab, 2) == {"10": 2}
    # When nobody needs it any more the leg goes.
    assert node.put(replace(led_to(serving, lab.member(11)), version=9)).failure is None
    assert lab.get()["who"] == f"{lab.net}.11"
    outside = subprocess.run(["ip", "-n", f"amphora-{spec.amphora_id}", "link", "show", "eth-far"], capture_output=True)
    assert outside.returncode != 0


@pytest.fixture
def behind(lab, node):
    """The address of a member behind a router, which has the address .3 on the VIP's network."""
    router, end_, net = f"router-{lab.tag}", f"behind-{lab.tag}", f"198.19.{int(lab.tag[:2], 16)}"
    with contextlib.ExitStack() as stack:
        for name in (router, end_):
            subprocess.run(["ip", "netns", "add", name], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        batch(f"link add r{lab.tag} type veth peer name eth0 netns {router}",
              f"link set r{lab.tag} master {lab.bridge} up",
              f"-n {router} link add eth1 type veth peer name eth0 netns {end_}")
        batch(f"addr add {lab.net}.3/24 dev eth0", f"addr add {net}.1/24 dev eth1", "link set eth0 up",
              "link set eth1 up", inside=router)
        batch(f"addr add {net}.10/24 dev eth0", "link set eth0 up", f"route add default via {net}.1", inside=end_)
        subprocess.run(["ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
        server = subprocess.Popen(
            ["ip", "netns", "exec", end_, sys.executable, str(Path(__file__).with_name("members.py"))],
            stdout=subprocess.PIPE)
        stack.callback(end, server)
        assert server.stdout.readline() == b"ready\n"
        yield f"{net}.10"


def batch(*lines, inside=None):
    for line in lines:
        subprocess.run(["ip", *(["-n", inside] if inside else []), *line.split()], check=True)


def serves_from(lab, address):
    try:
        return lab.get()["who"] == address and asked(lab, 2) == {"10": 2}
    except OSError:
        return False


@pytest.mark.carries("members behind the VIP subnet's gateway")
def test_a_member_behind_the_gateway_is_reached(lab, node, serving, behind):
    leg, gateway = serving.interfaces[0], f"{lab.net}.3"
    leg = replace(leg, addresses=(replace(leg.addresses[0], gateway=gateway),))
    vips = (replace(serving.vips[0], gateway=gateway),)
    spec = led_to(serving, replace(lab.member(10), address=behind))
    assert node.put(replace(spec, interfaces=(leg,), vips=vips)).failure is None
    assert serves_from(lab, behind)


@pytest.mark.carries("host_routes of a subnet")
def test_a_member_is_reached_the_way_that_the_subnet_prescribes(lab, node, serving, behind):
    ways = ((behind.rpartition(".")[0] + ".0/24", f"{lab.net}.3"),)
    leg, vip = serving.interfaces[0], serving.vips[0]
    known = replace(leg, addresses=(replace(leg.addresses[0], host_routes=ways),))
    spec = led_to(serving, replace(lab.member(10), address=behind))
    prescribed = replace(spec, interfaces=(known,), vips=(replace(vip, host_routes=ways),))
    assert node.put(prescribed).failure is None
    assert serves_from(lab, behind)
    assert node.put(replace(prescribed, version=9, interfaces=(leg,), vips=(vip,))).failure is None
    assert not serves_from(lab, behind)
    assert node.put(replace(prescribed, version=10)).failure is None
    assert serves_from(lab, behind)
