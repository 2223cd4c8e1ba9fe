# SPDX-License-Identifier: Apache-2.0
"""A fresh database for each test, on SQLite and on real PostgreSQL and MariaDB servers of this run's own.

A server is started once, on a unix socket or a free port, in a folder of its own, and stopped at the end.
A server program that is not installed fails the test and names the package: it is never skipped.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import delete, insert

from benchmarks import servers
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.migrations.upgrade import upgrade
from statera.store.tables import load_balancers, metadata
from statera.store.wake import announce


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    with servers.mariadb() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty database of each kind."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/statera.db"
    return servers.create_database(request.getfixturevalue(backend))


@pytest.fixture
def new_store(database_url: str) -> Iterator[Store]:
    """A store of its own, with the schema as the migrations make it."""
    store = Store(database_url)
    upgrade(store)
    yield store
    store.close()


@pytest.fixture(scope="session")
def ready(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """From a kind to the URL of a database that has the schema, made at the first call."""

    @cache
    def url_of(backend: str) -> str:
        if backend == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('ready')}/statera.db"
        else:
            url = servers.create_database(request.getfixturevalue(backend))
        store = Store(url)
        upgrade(store)
        store.close()
        return url

    return url_of


@pytest.fixture
def store(backend: str, ready: Callable[[str], str]) -> Iterator[Store]:
    """A store with the schema and no rows; faster than `new_store`, and shared one after the other."""
    store = Store(ready(backend))
    with store.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    yield store
    store.close()


@pytest.fixture
def load_balancer(store: Store) -> Callable[..., str]:
    """Write down a load balancer as the API would and return its id."""
    return lambda **facts: _add_load_balancer(store, **facts)


def _add_load_balancer(store: Store, **facts: object) -> str:
    id = str(facts.get("id") or uuid4())
    values = {
        "id": id, "project_id": "p", "provider": "amphora", "topology": "SINGLE", "created_at": utc_now(),
        "vip_subnet_id": str(uuid4()), "vip_network_id": str(uuid4()), "vip_address": "198.51.100.5", "due_ms": 1,
    }
    with store.write() as connection:
        connection.execute(insert(load_balancers).values(**(values | facts)))
        announce(connection)
    return id
