# SPDX-License-Identifier: Apache-2.0
"""Many changes are few reloads, and however many there are, old workers end and take bounded room."""

import contextlib
import socket
import time

from amphora.test_survival import pss_kilobytes
from msgspec.structs import replace

from statera.agent import runtime
from statera.config import Agent, Settings
from statera.wire import Applied


def slower(spec, version):
    """Another timeout, which needs a reload."""
    return replace(spec, version=version, listeners=(
        replace(spec.listeners[0], timeout_client_data=3_600_000 + version),))


def reloads(node, spec):
    """How often the master was reloaded."""
    answer = node.call(runtime.ask(node.home(spec).master_socket, "@master show proc"))
    return int(next(line.split()[2] for line in answer.splitlines() if "master" in line))


def test_a_hundred_changes_in_a_second_are_a_few_reloads(lab, node, serving):
    with lab.load(clients=4) as came:
        began = time.monotonic()
        for version in range(2, 102):
            node.call(node.host.put(slower(serving, version)))
            time.sleep(0.01)
        took = time.monotonic() - began
        node.wait(lambda up: isinstance(up, Applied) and up.version == 101)
    count = reloads(node, serving)
    print(f"\n100 changes in {took:.1f} s: {count} reloads")
    assert count <= 4 * took + 3
    assert set(came["outcome"]) == {"200"}
    assert lab.get()


def test_old_workers_with_long_connections_are_bounded_and_the_youngest_stay(lab, wait_until):
    node = lab.host("node", Settings(agent=Agent(most_old_workers=3)))
    spec = lab.spec()
    node.carry(lab.network, spec.amphora_id)
    lab.start_members()
    assert node.put(spec).failure is None
    workers, last = [], None
    with contextlib.ExitStack() as stack:
        for version in range(2, 12):
            # A request that is not finished keeps its worker.
            last = stack.enter_context(socket.create_connection((lab.vip, 80)))
            last.sendall(b"GET / HTTP/1.1\r\n")
            assert node.put(slower(spec, version)).how == "reload"
            workers.append(len(node.pids(spec)) - 1)
        wait_until(lambda: len(node.pids(spec)) <= 1 + 4)
        memory = sum(map(pss_kilobytes, node.pids(spec))) / 1024
        print(f"\n10 reloads under open connections: {workers} workers, in the end {memory:.0f} MB")
        last.sendall(b"Host: test\r\nConnection: close\r\n\r\n")
        assert last.recv(100).startswith(b"HTTP/1.1 200")
    wait_until(lambda: len(node.pids(spec)) == 2)


def test_an_old_worker_ends_when_its_time_is_over(lab, wait_until):
    node = lab.host("node", Settings(agent=Agent(hard_stop_seconds=2)))
    spec = lab.spec()
    node.carry(lab.network, spec.amphora_id)
    lab.start_members()
    assert node.put(spec).failure is None
    with socket.create_connection((lab.vip, 80)) as open_:
        open_.sendall(b"GET / HTTP/1.1\r\n")
        old = node.pids(spec)[-1]
        assert node.put(slower(spec, 2)).how == "reload"
        assert old in node.pids(spec)
        wait_until(lambda: old not in node.pids(spec))
    assert lab.get()
