# SPDX-License-Identifier: Apache-2.0
"""Who gets a connection when more than the client's address counts."""

import json
import socket

import pytest
from msgspec.structs import replace


def who(lab, port):
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.bind(("", port))
        link.connect((lab.vip, 80))
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: link.recv(65536), b""))
        return json.loads(answer.partition(b"\r\n\r\n")[2])["who"], link.getsockname()[1]


@pytest.mark.carries("SOURCE_IP_PORT")
def test_source_and_port_choose_the_member(lab, node, serving):
    pool = replace(serving.pools[0], lb_algorithm="SOURCE_IP_PORT")
    assert node.put(replace(serving, version=2, pools=(pool,))).failure is None
    first = [who(lab, 0) for _ in range(16)]
    assert len({member for member, _ in first}) == 2
    assert [who(lab, port) for _, port in first] == first
