# SPDX-License-Identifier: Apache-2.0
"""Legs that are ports of an Open vSwitch, a real one: its own datapath, for which no kernel module is needed."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from statera.agent import namespace
from statera.wire import Gone, Interface, Spec

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
BRIDGE = "br-int"

pytestmark = pytest.mark.skipif(
    not SCHEMA.exists(), reason="openvswitch-switch is not installed: script/test installs it")


class Switch:
    """An Open vSwitch with one bridge, as a network node has it; `ovs-vsctl` of this process finds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        subprocess.run(["ovsdb-tool", "create", folder / "conf.db", SCHEMA], check=True)
        self._start("ovsdb-server", folder / "conf.db", f"--remote=punix:{folder}/db.sock")
        self.control("--no-wait", "init")
        self.start()
        self.control("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")

    def start(self) -> None:
        self._start("ovs-vswitchd", f"unix:{self._folder}/db.sock")

    def stop(self, name: str = "ovs-vswitchd") -> None:
        process = self._processes.pop(name)
        process.terminate()
        process.wait(10)

    def close(self) -> None:
        self.control("del-br", BRIDGE)
        for name in list(self._processes):
            self.stop(name)

    def control(self, *words: str) -> str:
        return subprocess.run(["ovs-vsctl", "--timeout=10", "--retry", *words], check=True, capture_output=True,
                              text=True).stdout

    def ports(self) -> set[str]:
        return set(self.control("list-ports", BRIDGE).split())

    def _start(self, name: str, *words: "str | Path") -> None:
        self._processes[name] = subprocess.Popen(
            [shutil.which(name) or name, *words, f"--pidfile={self._folder}/{name}.pid",
             f"--unixctl={self._folder}/{name}.ctl"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    folder = tmp_path / "switch"
    folder.mkdir()
    monkeypatch.setenv("OVS_RUNDIR", str(folder))
    running = Switch(folder)
    yield running
    running.close()


@pytest.fixture
def spec(lab, switch: Switch) -> Spec:
    """An amphora on the switch, where its members are too, and the host."""
    members = f"members-{lab.tag}"
    ip("netns", "add", members)
    lab._cleanups.callback(ip, "netns", "del", members)
    ip("-n", members, "link", "set", "lo", "up")
    plug(lab, switch)
    lab._serve(lab.members_script)
    made = lab.spec()
    return replace(made, spec_version=2, interfaces=(leg(lab, made.interfaces[0]),))


def plug(lab, switch: Switch) -> None:
    """The members and the host are on the switch, for the first time or again."""
    members = f"members-{lab.tag}"
    switch.control("--if-exists", "del-port", "members")
    switch.control("add-port", BRIDGE, "members", "--", "set", "Interface", "members", "type=internal")
    subprocess.run(["ip", "-n", members, "link", "del", "members"], check=False, capture_output=True)
    ip("link", "set", "members", "netns", members)
    for last in range(10, 14):
        ip("-n", members, "addr", "add", f"{lab.net}.{last}/24", "dev", "members")
    ip("-n", members, "link", "set", "members", "up")
    ip("addr", "replace", f"{lab.net}.1/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")


def leg(lab, interface: Interface) -> Interface:
    port_id = str(uuid.uuid4())
    name = f"tap{port_id}"[:14]
    return replace(interface, name=name, device=name, port_id=port_id, bridge=None, switch=BRIDGE, mtu=1450,
                   mac_address="fa:16:3e:" + ":".join(lab.tag[n:n + 2] for n in (0, 2, 4)))


@pytest.fixture
def node(lab, spec: Spec):
    run = lab.host()
    run.carry((), spec.amphora_id)
    return run


def test_the_switch_knows_the_port_and_the_amphora_has_it(lab, switch, spec, node):
    assert node.put(spec).failure is None
    assert lab.get()["who"] in (f"{lab.net}.10", f"{lab.net}.11")
    [interface] = spec.interfaces
    ids = switch.control("get", "Interface", interface.name, "external_ids")
    assert f'iface-id="{interface.port_id}"' in ids
    assert f'attached-mac="{interface.mac_address}"' in ids
    assert "iface-status=active" in ids
    inner = ip("-n", namespace.name_of(spec.amphora_id), "link", "show", interface.name)
    assert interface.mac_address in inner
    assert "mtu 1450" in inner
    assert node.put(replace(spec, version=2)).failure is None
    assert interface.name in switch.ports()


def test_what_goes_is_no_port_any_more(lab, switch, spec, node):
    further = replace(leg(lab, spec.interfaces[0]), network_id="further", addresses=(), mac_address="fa:16:3e:00:00:01")
    wide = replace(spec, interfaces=(*spec.interfaces, further))
    assert node.put(wide).failure is None
    assert switch.ports() == {"members", *(interface.name for interface in wide.interfaces)}
    assert node.put(replace(spec, version=2)).failure is None
    assert switch.ports() == {"members", spec.interfaces[0].name}
    assert lab.get()
    node.carry(())
    node.wait(lambda up: isinstance(up, Gone))
    assert switch.ports() == {"members"}


def test_a_switch_that_starts_again_gets_its_ports_back(lab, switch, spec, node, wait_until):
    assert node.put(spec).failure is None
    switch.stop()
    switch.start()
    plug(lab, switch)
    wait_until(lambda: lab.get(patience_seconds=0.5), seconds=10)


def test_without_a_switch_it_is_said_and_tried_again(lab, switch, spec, node, wait_until):
    switch.stop("ovsdb-server")
    failure = node.put(spec).failure
    assert failure.startswith("Open vSwitch: ")
    assert "database connection failed" in failure
    switch._start("ovsdb-server", switch._folder / "conf.db", f"--remote=punix:{switch._folder}/db.sock")
    wait_until(lambda: lab.get(patience_seconds=0.5), seconds=20)
