# SPDX-License-Identifier: Apache-2.0
"""Clients of UDP listeners."""

import contextlib
import socket
from collections import Counter


@contextlib.contextmanager
def client(lab, *, ip=None, source="", port=53):
    ip = ip or lab.vip
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as flow:
        flow.settimeout(1)
        flow.bind((source, 0))
        flow.connect((ip, port))
        yield flow


def who(flow):
    """The last part of the address of the member that answers."""
    flow.send(b"x")
    return flow.recv(100).decode().split(" ")[0].replace(":", ".").rsplit(".", 1)[1]


def asked(lab, count=12, **options):
    found = Counter()
    for _ in range(count):
        with client(lab, **options) as flow:
            found[who(flow)] += 1
    return dict(found)
