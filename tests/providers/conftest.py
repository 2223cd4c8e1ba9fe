# SPDX-License-Identifier: Apache-2.0
"""An API with a vendor's driver installed, and the driver agent that it answers to."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from compat.conftest import PROJECT, SUBNET, World, empty_database, worlds  # noqa: F401  fixtures are taken by name
from octavia_lib.api.drivers.driver_lib import DriverLibrary

from statera.commands.driver_agent import Desk, sockets
from statera.config import ControllerWorker, DriverAgent
from statera.controller.queue import Queue
from statera.controller.world import World as Outside
from statera.drivers.compute.noop import NoopCompute
from statera.drivers.network.noop import NoopNetwork

METADATA = "Metadata-Version: 2.1\nName: vendor\nVersion: 1.0\n"
ENTRY_POINTS = "[octavia.api.drivers]\nvendor = vendor:Vendor\nbroken = vendor:NoSuchClass\n"
PROVIDERS = {"api_settings": {
    "enabled_provider_drivers": "amphora:Ours.,vendor:Somebody else's.,broken:Does not load."}}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The vendor's package, where Python finds it."""
    site = tmp_path_factory.mktemp("site")
    info = site / "vendor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "vendor.py").write_text((Path(__file__).parent / "vendor.py").read_text())
    sys.path.insert(0, str(site))
    import vendor

    yield vendor.Vendor
    sys.path.remove(str(site))


class Shop(World):
    """The API with the vendor's driver; *driver* remembers, *library* is what the vendor answers through."""

    driver: Any
    library: DriverLibrary

    def told(self) -> list[Any]:
        """What the driver was told since the last time."""
        said, self.driver.told = self.driver.told, []
        return list(said)

    def answer(self, provisioning: str = "ACTIVE", operating: str | None = None, **ids: Any) -> None:
        """The driver says the same of all objects, by the library's words for their kinds."""
        statuses = {"provisioning_status": provisioning, **({"operating_status": operating} if operating else {})}
        self.library.update_loadbalancer_status({
            kind: [{"id": each["id"], **statuses} for each in (some if isinstance(some, list) else [some])]
            for kind, some in ids.items()})

    def made(self, kind: str, plural: str, path: str = "", **values: Any) -> Any:
        """A new object of the API of which the driver says that it is there."""
        shown = self.post(path or f"/{plural}", **{kind: values})[kind]
        lb_id = shown["loadbalancers"][0]["id"] if "loadbalancers" in shown else self.lb_id
        self.answer(**{plural if plural != "rules" else "l7rules": shown}, loadbalancers={"id": lb_id},
                    **{name: shown.get(name, []) for name in ("listeners", "pools") if name != plural})
        return shown

    lb_id = ""

    def balancer(self, **values: Any) -> Any:
        """A load balancer of the vendor's that is ACTIVE."""
        wanted = {"vip_subnet_id": SUBNET, "project_id": PROJECT, "provider": "vendor", **values}
        lb = self.post("/loadbalancers", loadbalancer=wanted)["loadbalancer"]
        self.lb_id = lb["id"]
        self.answer(loadbalancers=lb, operating="ONLINE")
        return lb

    def passes(self, patience_seconds: float = 300) -> list[str]:
        """What the passes say that are due now."""
        outside = Outside(store=self.store, compute=NoopCompute(), network=NoopNetwork(),
                          provider_patience_seconds=patience_seconds)
        queue = Queue(outside, ControllerWorker(), owner="test")
        said = []
        while sentence := queue.run_once():
            said.append(sentence)
        return said


@pytest.fixture
def shop(installed: Any, worlds: Callable[..., World], tmp_path: Path) -> Iterator[Shop]:  # noqa: F811
    world = worlds(**PROVIDERS)
    shop = Shop(world.store, world.app)
    paths = {f"{name}_socket_path": str(tmp_path / f"{name}.sock") for name in ("status", "stats", "get")}
    installed.told = []
    with ExitStack() as stack:
        options = DriverAgent(**paths, unknown_object_seconds=0.2)
        for socket in sockets(Desk(world.store, options), options):
            stack.enter_context(socket)
        shop.driver = installed
        shop.library = DriverLibrary(*paths.values())
        yield shop
