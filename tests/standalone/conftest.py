# SPDX-License-Identifier: Apache-2.0
"""A host for each test that needs one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "state")
    yield host
    if host.running is not None and host.running.poll() is None:
        host.interrupt()
    host.statera("down", "--purge")
    for server in host.servers:
        server.shutdown()
        server.server_close()
