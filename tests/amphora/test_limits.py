# SPDX-License-Identifier: Apache-2.0
"""An amphora's limits hold, change while it serves, and are spoken of when they are hit."""

import contextlib
import socket
import subprocess
import sys

import pytest
from msgspec.structs import replace

from statera.agent import cgroup, runtime
from statera.model.limits import Limits
from statera.wire import Report

TREES = cgroup.here()
KNOBS = {1: ("memory.limit_in_bytes", "cpu.cfs_quota_us"), 2: ("memory.max", "cpu.max")}
HOG = {"memory": "x = bytearray(300 << 20)", "cpu": "while True: pass"}

pytestmark = pytest.mark.skipif(not {"memory", "cpu"} <= TREES.keys(), reason="needs control groups for memory and CPU")


def limited(lab, node, *, listener=None, **limits):
    spec = lab.spec(limits=Limits(**limits))
    spec = replace(spec, listeners=(replace(spec.listeners[0], **(listener or {})),))
    node.carry(lab.network, spec.amphora_id)
    assert node.put(spec).failure is None
    return spec


def knob(spec, name):
    file = KNOBS[TREES[name].version][("memory", "cpu").index(name)]
    return (cgroup.folder(spec.amphora_id, name) / file).read_text().split()[0]


def effective(node, spec, limited_by):
    return node.wait(lambda up: isinstance(up, Report) and up.amphora_id == spec.amphora_id and up.effective
                     and up.effective.limited_by == limited_by).effective


def alarm(node, reason, seconds=20):
    found = node.wait(lambda up: isinstance(up, Report) and any(one.reason == reason for one in up.alarms or ()),
                      seconds=seconds)
    return next(one for one in found.alarms if one.reason == reason)


@pytest.mark.carries("memory and CPUs of a flavor, changed live", "max_connections of a flavor")
def test_limits_hold_and_change_while_it_serves(lab, node):
    spec = limited(lab, node, memory_mb=128, cpus=0.5)
    assert (knob(spec, "memory"), knob(spec, "cpu")) == (str(128 << 20), "50000")
    assert set(node.pids(spec)) <= set(cgroup.processes(spec.amphora_id))
    shown = effective(node, spec, "memory")
    info = node.call(runtime.info(node.home(spec).socket))
    assert (shown.max_connections, info["Nbthread"]) == (int(info["Maxconn"]), "1")
    assert (shown.memory_mb, shown.cpus, shown.file_descriptors) == (128, 0.5, int(info["Ulimit-n"]))
    pids = node.pids(spec)
    with lab.load() as came:
        applied = node.put(replace(spec, version=2, limits=Limits(memory_mb=256, cpus=1.5, max_connections=900)))
        assert (applied.failure, applied.how) == (None, "reload")
    assert set(came["outcome"]) == {"200"}
    assert (knob(spec, "memory"), knob(spec, "cpu"), node.pids(spec)[0]) == (str(256 << 20), "150000", pids[0])
    assert effective(node, spec, "flavor").max_connections == 900
    more = Limits(memory_mb=300, cpus=1.5, max_connections=900)
    assert node.put(replace(spec, version=3, limits=more)).how == "nothing"
    assert knob(spec, "memory") == str(300 << 20)


@contextlib.contextmanager
def hog(spec, what):
    """A process among the amphora's that takes more than it should."""
    child = subprocess.Popen([sys.executable, "-c", f"input()\n{what}\nprint(flush=True)\ninput()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert cgroup.adopt(spec.amphora_id, [child.pid])
        child.stdin.write(b"\n")
        child.stdin.flush()
        yield child
    finally:
        child.kill()
        child.communicate()


def test_memory_that_is_in_use_stays(lab, node, wait_until):
    spec = limited(lab, node, memory_mb=256)
    with hog(spec, "x = bytearray(100 << 20)") as child:
        child.stdout.readline()
        node.put(replace(spec, version=2, limits=Limits(memory_mb=64)))
        assert knob(spec, "memory") == str(256 << 20)
        node.wait(lambda up: isinstance(up, Report) and up.effective and up.effective.memory_mb is None)
    wait_until(lambda: knob(spec, "memory") == str(64 << 20), seconds=20)
    assert lab.get()


@contextlib.contextmanager
def held(lab, count):
    """Connections that ask for nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((lab.vip, 80), timeout=5))
        yield


@pytest.mark.carries("a limit that is hit is an event, once")
def test_a_full_listener_is_an_alarm_once(lab, node):
    spec = limited(lab, node, listener={"connection_limit": 3})
    with held(lab, 4):
        first = alarm(node, "connection_limit_reached")
        assert (first.object_type, first.object_id) == ("listener", spec.listeners[0].id)
        assert first.message.endswith(": 3")
    (listener,) = spec.listeners
    node.wait(lambda up: isinstance(up, Report) and up.listeners.get(listener.id) == "OPEN")
    with held(lab, 4):
        node.wait(lambda up: isinstance(up, Report) and up.listeners.get(listener.id) == "FULL" and not up.full)
    assert len([up for up in node.said if isinstance(up, Report) and up.alarms]) == 1


def test_a_full_amphora_is_an_alarm(lab, node):
    limited(lab, node, max_connections=5)
    with held(lab, 7):
        assert alarm(node, "max_connections_reached").message.endswith(": 5")


@pytest.mark.parametrize(("name", "reason", "value"), [
    pytest.param("memory", "memory_limit_reached", "64 MB", id="memory"),
    pytest.param("cpu", "cpu_limit_reached", "0.1 CPUs", id="CPU"),
])
def test_who_takes_too_much_is_held_back_and_told(lab, node, name, reason, value):
    spec = limited(lab, node, memory_mb=64, cpus=0.1)
    node.wait(lambda up: isinstance(up, Report) and up.effective)
    with hog(spec, HOG[name]) as child:
        assert value in alarm(node, reason, seconds=30).message
        assert name == "cpu" or child.wait(10) == -9
