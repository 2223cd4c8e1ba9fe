# SPDX-License-Identifier: Apache-2.0
"""All of Statera as real processes, with real traffic."""

from collections.abc import Iterator

import pytest

from benchmarks.rig import Cloud, Network, playground

TIDY_OFTEN = """
[house_keeping]
cleanup_interval = 1
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cloud, Network]]:
    """One `statera up` for all tests, with a network full of web servers."""
    with playground(tmp_path_factory.mktemp("world"), options=TIDY_OFTEN) as running:
        yield running
