# SPDX-License-Identifier: Apache-2.0
"""The real ovn-octavia-provider with OVN's real databases, behind our real processes."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from statera.store.engine import Store
from statera.store.migrations.upgrade import upgrade

from .ovn import ADDRESS, Northbound, Ports, databases, neutron

SECONDS = 90
CONFIG = """\
[DEFAULT]
state_path = {folder}
[database]
connection = sqlite:///{folder}/statera.db
[api_settings]
bind_port = {port}
auth_strategy = noauth
enabled_provider_drivers = amphora:Ours.,ovn:Load balancing by OVN.
[controller_worker]
compute_driver = noop
network_driver = noop
[ovn]
ovn_nb_connection = {northbound.remote}
ovn_sb_connection = {northbound.southbound}
ovsdb_retry_max_interval = 2
[driver_agent]
enabled_provider_agents = ovn
provider_agent_shutdown_timeout = 5
[service_auth]
auth_type = password
auth_url = {neutron}/v3
username = octavia
password = secret
user_domain_name = Default
project_domain_name = Default
project_name = service
[neutron]
endpoint_override = {neutron}
"""
SERVICES = ("driver_agent", "worker", "api")
OWN_RUN = 'mount --bind "$0" /run/octavia && exec "$@"'
"""OVN's provider knows the sockets only in their usual place, so each test run has a place of its own."""


class Cloud:
    """Our API with OVN behind it."""

    def __init__(self, port: int, northbound: Northbound, ports: Ports) -> None:
        self.port, self.northbound, self.ports = port, northbound, ports

    def ask(self, verb: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(verb, f"/v2.0/lbaas{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def make(self, path: str, kind: str, **values: Any) -> str:
        """The id of a new object that OVN's provider says is ACTIVE."""
        status, shown = self.ask("POST", path, {kind: values})
        assert status == 201, shown
        id = str(shown[kind]["id"])
        wait_for(lambda: self.status(f"{path}/{id}") == "ACTIVE", f"{path}/{id} is ACTIVE")
        return id

    def status(self, path: str) -> str:
        status, shown = self.ask("GET", path)
        if status == 404:
            return "gone"
        (found,) = shown.values()
        return str(found["provisioning_status"])

    def is_up(self) -> bool:
        try:
            return self.ask("GET", "/providers")[0] == 200
        except OSError:
            return False


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("ovn")
    (folder / "run").mkdir()
    Path("/run/octavia").mkdir(exist_ok=True)
    with ExitStack() as stack:
        northbound = stack.enter_context(databases(folder))
        url, ports = stack.enter_context(neutron())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = folder / "octavia.conf"
        config.write_text(CONFIG.format(folder=folder, port=port, northbound=northbound, neutron=url))
        store = Store(f"sqlite:///{folder}/statera.db")
        upgrade(store)
        store.close()
        for service in SERVICES:
            stack.enter_context(running(service, config, folder))
        made = Cloud(port, northbound, ports)
        wait_for(made.is_up, "the API answers")
        wait_for((folder / "run" / "get.sock").exists, "the driver agent listens")
        yield made


class running:
    """One of our services, in a place of its own for sockets."""

    def __init__(self, service: str, config: Path, folder: Path) -> None:
        code = f"from statera.commands.{service} import main; main()"
        self.command = ["unshare", "--mount", "sh", "-c", OWN_RUN, str(folder / "run"), sys.executable, "-c", code,
                        "--config-file", str(config)]
        self.log = folder / f"{service}.log"

    def __enter__(self) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)


def test_a_load_balancer_of_ovn_from_our_api_to_the_northbound_database_and_back(cloud: Cloud) -> None:
    subnet, network = str(uuid4()), str(uuid4())
    cloud.northbound.ask("ls-add", f"neutron-{network}")
    lb = cloud.make("/loadbalancers", "loadbalancer", provider="ovn", name="east", project_id="p",
                    vip_subnet_id=subnet, vip_network_id=network)
    shown = cloud.ask("GET", f"/loadbalancers/{lb}")[1]["loadbalancer"]
    assert (shown["provider"], shown["vip_address"]) == ("ovn", ADDRESS)
    assert shown["vip_port_id"] in cloud.ports.kept
    pool = cloud.make("/pools", "pool", loadbalancer_id=lb, protocol="TCP", lb_algorithm="SOURCE_IP_PORT")
    listener = cloud.make("/listeners", "listener", loadbalancer_id=lb, protocol="TCP", protocol_port=80,
                          default_pool_id=pool)
    members = [cloud.make(f"/pools/{pool}/members", "member", address=f"198.51.100.{n}", protocol_port=8080,
                          subnet_id=subnet) for n in (11, 12)]
    assert cloud.northbound.load_balancers() == {lb: {f"{ADDRESS}:80": "198.51.100.11:8080,198.51.100.12:8080"}}
    assert cloud.status(f"/listeners/{listener}") == "ACTIVE"

    for path, kind in ((f"/listeners/{listener}", "listener"), (f"/pools/{pool}", "pool"),
                       (f"/pools/{pool}/members/{members[1]}", "member"), (f"/loadbalancers/{lb}", "loadbalancer")):
        status, said = cloud.ask("PUT", path, {kind: {"name": "new", "admin_state_up": True}})
        assert status == 200, said
        for changed in (path, f"/loadbalancers/{lb}", f"/listeners/{listener}", f"/pools/{pool}"):
            wait_for(lambda changed=changed: cloud.status(changed) == "ACTIVE", f"{changed} is ACTIVE again")

    assert cloud.ask("DELETE", f"/pools/{pool}/members/{members[0]}")[0] == 204
    wait_for(lambda: cloud.status(f"/pools/{pool}/members/{members[0]}") == "gone", "the member is gone")
    wait_for(lambda: cloud.status(f"/loadbalancers/{lb}") == "ACTIVE", "ACTIVE again")
    assert cloud.northbound.load_balancers() == {lb: {f"{ADDRESS}:80": "198.51.100.12:8080"}}

    status, said = cloud.ask("POST", "/listeners", {"listener": {
        "loadbalancer_id": lb, "protocol": "HTTP", "protocol_port": 81}})
    assert (status, said["faultstring"]) == (
        501, "Provider 'ovn' does not support a requested option: OVN provider does not support HTTP protocol")

    assert cloud.ask("DELETE", f"/loadbalancers/{lb}?cascade=true")[0] == 204
    wait_for(lambda: cloud.status(f"/loadbalancers/{lb}") == "gone", "the load balancer is gone")
    assert cloud.northbound.load_balancers() == {}
    assert cloud.ports.kept == {}


def test_a_whole_tree_in_one_request_becomes_active_in_ovn(cloud: Cloud) -> None:
    subnet, network = str(uuid4()), str(uuid4())
    cloud.northbound.ask("ls-add", f"neutron-{network}")
    pool = {"name": "web", "protocol": "TCP", "lb_algorithm": "SOURCE_IP_PORT",
            "members": [{"address": "198.51.100.21", "protocol_port": 8080, "subnet_id": subnet}]}
    lb = cloud.make("/loadbalancers", "loadbalancer", provider="ovn", project_id="p", vip_subnet_id=subnet,
                    vip_network_id=network, listeners=[
                        {"name": "one", "protocol": "TCP", "protocol_port": 80, "default_pool": pool}])
    wait_for(lambda: cloud.northbound.vips(lb) == {f"{ADDRESS}:80": "198.51.100.21:8080"}, "the VIP leads there")
    listeners, pools = (cloud.ask("GET", f"/{kind}?loadbalancer_id={lb}")[1][kind] for kind in ("listeners", "pools"))
    for path in (f"/listeners/{listeners[0]['id']}", f"/pools/{pools[0]['id']}", f"/loadbalancers/{lb}"):
        wait_for(lambda path=path: cloud.status(path) == "ACTIVE", f"{path} is ACTIVE")
    assert cloud.ask("DELETE", f"/loadbalancers/{lb}?cascade=true")[0] == 204
    wait_for(lambda: cloud.status(f"/loadbalancers/{lb}") == "gone", "the load balancer is gone")
