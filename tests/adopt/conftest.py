# SPDX-License-Identifier: Apache-2.0
"""Databases that the real Octavia's programs made (script/octavia_database.py), in a MariaDB of this run's own."""

import gzip
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compat.conftest import World, empty_database, worlds  # noqa: F401  fixtures are taken by name
from sqlalchemy.engine import make_url

from benchmarks import servers

HERE = Path(__file__).parent
RELEASES = ("13.0.0", "19.0.0")
"""The oldest of three years, and the newest."""


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    with servers.mariadb() as url:
        yield url


@pytest.fixture(scope="session")
def restored(mariadb: str) -> Callable[[str], str]:
    """From a release to the URL of a new database as that leaves one."""

    def restore(release: str) -> str:
        url = servers.create_database(mariadb)
        place = make_url(url)
        subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={place.query['unix_socket']}", f"--user={place.username}",
             str(place.database)],
            input=gzip.decompress((HERE / f"octavia-{release}.sql.gz").read_bytes()), check=True)
        return url

    return restore


@pytest.fixture(scope="session", params=RELEASES)
def either(request: pytest.FixtureRequest, restored: Callable[[str], str]) -> str:
    """A database that nobody changes, of each release."""
    return restored(str(request.param))


@pytest.fixture(scope="session")
def newest(restored: Callable[[str], str]) -> str:
    """A database that nobody changes, of the newest release."""
    return restored(RELEASES[-1])


@pytest.fixture
def alive(restored: Callable[[str], str]) -> str:
    """A database that the test may change."""
    return restored(RELEASES[-1])
