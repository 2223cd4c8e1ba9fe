# SPDX-License-Identifier: Apache-2.0
"""Legs that no bridge of ours carries: for another network service's agent, and interfaces of a virtual machine."""

import subprocess
from uuid import uuid4

import pytest
from msgspec.structs import replace

from statera.agent import namespace
from statera.wire import Address, Interface

MAC = "fa:16:3e:77:77:77"


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def device():
    name = f"tap{uuid4().hex[:11]}"
    yield name
    subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)


def leg(lab, **how):
    return Interface(name="eth2", network_id="members", addresses=(Address(ip=f"{lab.net}.150", prefix=32),),
                     mac_address=MAC, **how)


def test_the_networks_own_agent_finds_the_device_by_its_name(lab, node, serving, device):
    wide = replace(serving, version=2, interfaces=(*serving.interfaces, leg(lab, device=device, mtu=1450)))
    assert node.put(wide).failure is None
    assert node.put(replace(wide, version=3)).failure is None
    assert "mtu 1450" in ip("link", "show", device)
    assert "master" not in ip("link", "show", device)
    inner = ip("-n", namespace.name_of(serving.amphora_id), "link", "show", "eth2")
    assert MAC in inner
    assert "mtu 1450" in inner
    assert namespace.is_plugged(serving.amphora_id, wide.interfaces)
    node.put(replace(serving, version=4))
    assert device not in ip("-br", "link")
    assert lab.get()


def test_an_interface_of_the_machine_is_found_by_its_address(lab, node, serving, device):
    wide = replace(serving, version=2, interfaces=(*serving.interfaces, leg(lab)))
    assert node.put(wide).failure == f"no interface of this machine has the hardware address {MAC} (yet)"
    ip("link", "add", device, "type", "veth", "peer", "name", f"{device[:12]}-b", "address", MAC)
    assert node.put(replace(wide, version=3)).failure is None
    assert f"{device[:12]}-b" not in ip("-br", "link")
    inner = ip("-n", namespace.name_of(serving.amphora_id), "addr", "show", "eth2")
    assert MAC in inner
    assert f"{lab.net}.150" in inner
    assert lab.get()
