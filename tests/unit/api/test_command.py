# SPDX-License-Identifier: Apache-2.0
"""octavia-api says in a sentence why it does not start."""

import socket

import pytest

from statera.commands.api import require_identity, require_port
from statera.config import ApiSettings
from statera.errors import SetupError


@pytest.mark.parametrize(("strategy", "host"), [
    ("noauth", "127.0.0.1"), ("noauth", "::1"), ("testing", "localhost"), ("keystone", "0.0.0.0"), ("basic", "::"),
])
def test_who_may_listen_where(strategy, host):
    require_identity(ApiSettings(auth_strategy=strategy, bind_host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_without_identity_only_this_host_may_call(host):
    with pytest.raises(SetupError, match="bind_host has to be a loopback address"):
        require_identity(ApiSettings(auth_strategy="noauth", bind_host=host))


def test_a_port_in_use_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            require_port("127.0.0.1", port)
