# SPDX-License-Identifier: Apache-2.0
"""OVN's two databases and the little of Neutron that OVN's provider asks, each of a test's own."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4
from wsgiref.simple_server import WSGIRequestHandler, make_server

import falcon

SCHEMAS = Path("/usr/share/ovn")
START_SECONDS = 30
ADDRESS, CIDR = "198.51.100.7", "198.51.100.0/24"


class Northbound:
    """OVN's northbound database; `ask` runs ovn-nbctl."""

    def __init__(self, folder: Path) -> None:
        self.remote, self.southbound = (f"unix:{folder}/{name}.sock" for name in ("nb", "sb"))

    def ask(self, *words: str) -> str:
        """What ovn-nbctl prints."""
        command = ["ovn-nbctl", f"--db={self.remote}", "--timeout=10", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def load_balancers(self) -> dict[str, dict[str, str]]:
        """The VIPs of each load balancer and what they lead to, by its name."""
        names = self.ask("--bare", "--columns=name", "list", "load_balancer").split()
        return {name: self.vips(name) for name in names}

    def vips(self, name: str) -> dict[str, str]:
        shown = self.ask("--data=json", "get", "load_balancer", name, "vips").strip("{}")
        pairs = (pair.split("=") for pair in shown.split(", ") if pair)
        return {vip.strip('"'): members.strip('"') for vip, members in pairs}


@contextmanager
def databases(folder: Path) -> Iterator[Northbound]:
    """Both databases, until the block ends; a switch for each network that a test asks for is the test's to add."""
    if shutil.which("ovsdb-server") is None or not (SCHEMAS / "ovn-nb.ovsschema").exists():
        raise FileNotFoundError("ovsdb-server or OVN's schemas are missing: apt-get install ovn-central")
    servers = []
    for name in ("nb", "sb"):
        subprocess.run(["ovsdb-tool", "create", folder / f"{name}.db", SCHEMAS / f"ovn-{name}.ovsschema"], check=True)
        servers.append(subprocess.Popen(
            ["ovsdb-server", f"--remote=punix:{folder}/{name}.sock", f"--unixctl={folder}/{name}.ctl",
             folder / f"{name}.db"], stderr=subprocess.DEVNULL))
    try:
        end = time.monotonic() + START_SECONDS
        while not all((folder / f"{name}.sock").exists() for name in ("nb", "sb")):
            assert time.monotonic() < end, "ovsdb-server does not start"
            time.sleep(0.05)
        northbound = Northbound(folder)
        northbound.ask("init")
        yield northbound
    finally:
        for server in servers:
            server.terminate()
            server.wait(START_SECONDS)


class Ports:
    """Neutron's ports, subnets and routers as far as OVN's provider asks for them."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, object]] = {}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        wanted = {name: value for name, value in request.params.items() if name in ("network_id", "name")}
        response.media = {"ports": [port for port in self.kept.values() if wanted.items() <= port.items()]}

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        wanted = request.get_media()["port"]
        (fixed,) = wanted.get("fixed_ips") or [{}]
        id = str(uuid4())
        self.kept[id] = {
            "id": id, "device_id": "", **wanted,
            "fixed_ips": [{"subnet_id": fixed.get("subnet_id"), "ip_address": fixed.get("ip_address", ADDRESS)}]}
        response.status, response.media = 201, {"port": self.kept[id]}

    def on_get_one(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        if id not in self.kept:
            raise falcon.HTTPNotFound
        response.media = {"port": self.kept[id]}

    def on_delete_one(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        if self.kept.pop(id, None) is None:
            raise falcon.HTTPNotFound
        response.status = 204


class Subnets(Ports):
    """A subnet is known by the ports in it."""

    def on_get_one(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        network_id = next(port["network_id"] for port in self.kept.values() if id in str(port["fixed_ips"]))
        response.media = {"subnet": {"id": id, "cidr": CIDR, "ip_version": 4, "network_id": network_id}}


class Tokens:
    """Keystone's v3 API as far as a client needs it to find the others."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        links = [{"rel": "self", "href": f"{request.prefix}/v3"}]
        response.media = {"version": {"id": "v3.14", "status": "stable", "links": links}}

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        response.status = 201
        response.set_header("X-Subject-Token", "good-for-everything")
        response.media = {"token": {
            "methods": ["password"], "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z", "user": {"id": "u", "name": "octavia", "domain": DOMAIN},
            "project": {"id": "p", "name": "service", "domain": DOMAIN}, "roles": [],
            "catalog": [{"type": "network", "name": "neutron", "id": "n", "endpoints": [
                {"id": "e", "interface": "public", "region": "R", "region_id": "R", "url": request.prefix}]}]}}


DOMAIN = {"id": "default", "name": "Default"}


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *words: object) -> None:
        """Requests are nobody's business here."""


@contextmanager
def neutron() -> Iterator[tuple[str, Ports]]:
    """The URL of it and of Keystone, and the ports that it has."""
    ports, subnets, app = Ports(), Subnets(), falcon.App()
    subnets.kept = ports.kept
    app.add_route("/ports", ports)
    app.add_route("/ports/{id}", ports, suffix="one")
    app.add_route("/subnets/{id}", subnets, suffix="one")
    app.add_route("/v3", Tokens())
    app.add_route("/v3/auth/tokens", Tokens())
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", ports
        server.shutdown()
        thread.join()
