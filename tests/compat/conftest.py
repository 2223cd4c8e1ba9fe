# SPDX-License-Identifier: Apache-2.0
"""A whole API on an empty database, with someone who plays the controller."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from counted import statements
from falcon import testing
from oslo_config import cfg
from sqlalchemy import update

from statera.api.app import build
from statera.config import load
from statera.drivers.network.noop import NoopNetwork
from statera.drivers.secrets.noop import NoopSecrets
from statera.store import settle, tables
from statera.store.engine import Store

SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
PROJECT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"


class World:
    """An API that is asked over WSGI; `settle` is what a controller and its amphorae would bring about."""

    def __init__(self, store: Store, app: Any) -> None:
        self.store = store
        self.app = app
        self.headers: dict[str, str] = {}

    def call(
        self, verb: str, path: str, body: object = None, *, query: Any = (), headers: Any = (), raw: bytes = b"",
        root: str = "/v2.0/lbaas",
    ) -> testing.Result:
        """The answer to one request; *path* is below *root*, *query* are pairs."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        environ = testing.create_environ(
            root + path, method=verb, query_string=urlencode(query), headers={**self.headers, **sent, **dict(headers)},
            body=raw if body is None else msgspec.json.encode(body),
        )
        start = testing.StartResponseMock()
        return testing.Result(self.app(environ, start), start.status, start.headers)

    def get(self, path: str, **query: Any) -> Any:
        return ok(self.call("GET", path, query=query), 200)

    def post(self, path: str, **body: Any) -> Any:
        return ok(self.call("POST", path, body), 201)

    def put(self, path: str, **body: Any) -> Any:
        return ok(self.call("PUT", path, body), 200)

    def delete(self, path: str) -> None:
        ok(self.call("DELETE", path), 204)

    def refused(self, status: int, verb: str, path: str, body: object = None, **more: Any) -> str:
        """The fault text of a request that is answered with *status*."""
        result = self.call(verb, path, body, **more)
        assert result.status_code == status, result.text
        return str(result.json.get("faultstring", result.json.get("description")))

    def lb(self, **values: Any) -> Any:
        """A settled load balancer."""
        wanted = {"vip_subnet_id": SUBNET, "project_id": PROJECT, **values}
        lb = self.post("/loadbalancers", loadbalancer=wanted)["loadbalancer"]
        self.settle()
        return lb

    def listener(self, lb: Any, **values: Any) -> Any:
        wanted = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80, **values}
        return self.settled(self.post("/listeners", listener=wanted)["listener"])

    def pool(self, lb: Any, **values: Any) -> Any:
        wanted = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", **values}
        return self.settled(self.post("/pools", pool=wanted)["pool"])

    def member(self, pool: Any, **values: Any) -> Any:
        wanted = {"address": "192.0.2.1", "protocol_port": 80, **values}
        return self.settled(self.post(f"/pools/{pool['id']}/members", member=wanted)["member"])

    def monitor(self, pool: Any, **values: Any) -> Any:
        wanted = {"pool_id": pool["id"], "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, **values}
        return self.settled(self.post("/healthmonitors", healthmonitor=wanted)["healthmonitor"])

    def policy(self, listener: Any, **values: Any) -> Any:
        wanted = {"listener_id": listener["id"], "action": "REJECT", **values}
        return self.settled(self.post("/l7policies", l7policy=wanted)["l7policy"])

    def settled(self, shown: Any) -> Any:
        self.settle()
        return shown

    def settle(self) -> None:
        """Everything that was wished runs; what was wished away is gone."""
        lb = tables.load_balancers
        with self.store.write() as connection:
            for row in connection.execute(lb.select().where(lb.c.deleted_at.is_(None))).mappings().all():
                gone = {"deleted_at": row["created_at"]} if row["deleting"] else {}
                connection.execute(update(lb).where(lb.c.id == row["id"]).values(
                    done_version=row["version"], settled_version=row["version"], failed_version=None, **gone))
                settle.drop_deleted(connection, row["id"], row["version"])

    def fail(self, lb: Any) -> None:
        """The newest wish cannot be made to run."""
        table = tables.load_balancers
        failed = update(table).where(table.c.id == lb["id"]).values(failed_version=table.c.wanted_version)
        with self.store.write() as connection:
            connection.execute(failed)

    def statements(self, act: Callable[[], object]) -> int:
        """How many SQL statements *act* takes."""
        return len(statements(self.store.engine, act))

    def status(self, path: str) -> str:
        (shown,) = self.get(path).values()
        return str(shown["provisioning_status"])


def ok(result: testing.Result, status: int) -> Any:
    assert result.status_code == status, result.text
    return result.json if result.content else None


DEFAULTS = {"auth_strategy": "noauth", "enabled_provider_drivers": (
    "amphora:The Octavia Amphora driver.,octavia:Deprecated alias of the Octavia Amphora driver.,noop_driver:Nothing.")}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schema without a row, made once."""
    file = tmp_path_factory.mktemp("schema") / "empty.db"
    store = Store(f"sqlite:///{file}")
    tables.metadata.create_all(store.engine)
    store.close()
    return file


@pytest.fixture
def worlds(tmp_path: Path, empty_database: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds with options of their own, section by section."""
    stores = []

    def make(**sections: dict[str, Any]) -> World:
        sections["api_settings"] = DEFAULTS | sections.get("api_settings", {})
        file = tmp_path / "octavia.conf"
        file.write_text("".join(
            f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
            for section, options in sections.items()))
        conf = cfg.ConfigOpts()
        settings = load(conf, [], prog="octavia-api", files=[str(file)])
        database = tmp_path / f"statera-{len(stores)}.db"
        shutil.copy(empty_database, database)
        stores.append(Store(f"sqlite:///{database}"))
        return World(stores[-1], build(settings, conf, stores[-1], NoopNetwork(), secrets=NoopSecrets(),
                                       forecast=lambda _load_balancer_id: {"plan": [], "explanation": None}))

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds()


@pytest.fixture
def strict(worlds: Callable[..., World]) -> World:
    return worlds(api_settings={"strict_immutability": True})
