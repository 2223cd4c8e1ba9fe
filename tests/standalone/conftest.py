# SPDX-License-Identifier: Apache-2.0
"""A host for each test that needs one."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from running import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with closing(Host(tmp_path / "state")) as host:
        yield host
