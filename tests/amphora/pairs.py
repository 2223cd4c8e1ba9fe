# SPDX-License-Identifier: Apache-2.0
"""Two hosts with an amphora each for the same VIP; who of them serves; and how to end one."""

import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

from msgspec.structs import replace

from statera.agent import legs, namespace
from statera.model.fleet import Role
from statera.wire import PersistenceSpec, VrrpSpec

ARP = 0x0806
BY_SOURCE = PersistenceSpec(type="SOURCE_IP")


def pair(lab, persistence=BY_SOURCE):
    """Master and backup, each as its host and its spec."""
    specs = []
    for role, own, peer, priority in ((Role.MASTER, 100, 101, 254), (Role.BACKUP, 101, 100, 253)):
        vrrp = VrrpSpec(priority=priority, peer_ip=f"{lab.net}.{peer}", advert_seconds=0.1)
        spec = lab.spec(role=role, address=f"{lab.net}.{own}", vrrp=vrrp, load_balancer_id="pair")
        spec = replace(spec, pools=(replace(spec.pools[0], session_persistence=persistence),))
        node = lab.host(role.lower())
        node.carry(lab.network, spec.amphora_id)
        specs.append((node, spec))
    lab.start_members()
    for node, spec in specs:
        assert node.put(spec).failure is None
    return specs


def vrrp_words(node):
    return [up.vrrp for up in list(node.said) if getattr(up, "vrrp", None)][-1:]


def who_serves(both, wait_until):
    """The one that bears the VIP, then the other one."""
    wait_until(lambda: sorted(vrrp_words(both[0][0]) + vrrp_words(both[1][0])) == ["BACKUP", "MASTER"])
    return both if vrrp_words(both[0][0]) == ["MASTER"] else [both[1], both[0]]


def kill_all(_node, spec):
    """End all that runs in its namespace."""
    for pid in namespace.processes(spec.amphora_id):
        os.kill(pid, signal.SIGKILL)


def cut_off(node, spec):
    """As if its machine had lost power."""
    node.stop()
    subprocess.run(["ip", "link", "set", legs.outer_name(spec.amphora_id, "eth1"), "down"], check=True)
    kill_all(node, spec)


def kill_haproxy(node, spec):
    for pid in node.pids(spec):
        os.kill(pid, signal.SIGKILL)


def kill_keepalived(node, spec):
    pid = int(node.home(spec).keepalived_pid.read_text())
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        for victim in (pid, *map(int, children.read().split())):
            os.kill(victim, signal.SIGKILL)


@contextmanager
def watched(lab):
    """Ask the VIP again and again; the list of when there was an answer."""
    answers, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                lab.get(patience_seconds=0.1)
            except OSError:
                continue
            answers.append(time.monotonic())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def longest_gap(answers):
    return max(later - earlier for earlier, later in pairwise(answers))


def who_answers(lab, seconds=0.3):
    """The hardware addresses that claim the VIP when the network is asked who has it."""
    found, until = set(), time.monotonic() + seconds
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as raw:
        raw.bind((lab.bridge, ARP))
        own, vip = raw.getsockname()[4], socket.inet_aton(lab.vip)
        asked = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + socket.inet_aton(f"{lab.net}.1") + bytes(6) + vip
        raw.send(b"\xff" * 6 + own + struct.pack("!H", ARP) + asked)
        while select.select([raw], [], [], max(0.0, until - time.monotonic()))[0]:
            packet = raw.recv(100)[14:]
            if packet[6:8] == b"\0\2" and packet[14:18] == vip:
                found.add(packet[8:14])
    return found
