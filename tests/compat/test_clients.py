# SPDX-License-Identifier: Apache-2.0
"""Upstream's own clients, unmodified, against a real server."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from statera.api.standalone.users import hash_password
from statera.store import settle, tables
from statera.store.engine import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' own

PROGRAMS = Path(sys.executable).parent
PROJECT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"


class Server:
    """octavia-api with one user, on a free port; a thread of the test plays the controller."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        users = folder / "users.yaml"
        users.write_text(json.dumps({"users": [{
            "name": "ann", "password": hash_password("secret"), "project_id": PROJECT,
            "roles": ["admin", "member", "reader"]}]}))
        self.config = folder / "octavia.conf"
        self.config.write_text(
            f"[DEFAULT]\nstate_path = {folder}\n[api_settings]\nauth_strategy = basic\nbind_port = {self.port}\n"
            f"users_file = {users}\nenabled_provider_drivers = amphora:Amphora,noop_driver:Noop\n"
            "[controller_worker]\nnetwork_driver = local\n")
        self.clouds = folder / "clouds.yaml"
        url = f"http://127.0.0.1:{self.port}"
        self.clouds.write_text(json.dumps({"clouds": {"here": {
            "auth_type": "http_basic", "auth": {"endpoint": url, "username": "ann", "password": "secret"},
            "network_endpoint_override": f"{url}/network"}}}))
        self.store = Store(f"sqlite:///{folder}/statera.db")
        subprocess.run([PROGRAMS / "octavia-db-manage", "--config-file", self.config, "upgrade", "head"], check=True)
        self.process = subprocess.Popen([PROGRAMS / "octavia-api", "--config-file", self.config])
        self.wait()

    @retry(stop=stop_after_delay(30), wait=wait_fixed(0.05))
    def wait(self) -> None:
        assert self.process.poll() is None
        socket.create_connection(("127.0.0.1", self.port)).close()

    def settle(self) -> None:
        lb = tables.load_balancers
        with self.store.write() as connection:
            for row in connection.execute(lb.select()).mappings().all():
                gone = {"deleted_at": row["created_at"]} if row["deleting"] else {}
                connection.execute(lb.update().where(lb.c.id == row["id"]).values(
                    done_version=row["version"], settled_version=row["version"], **gone))
                settle.drop_deleted(connection, row["id"], row["version"])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("clients"))
    yield made
    assert made.stop() == 0
    made.store.close()


@pytest.fixture
def openstack(server: Server) -> Callable[..., Any]:
    """Runs `openstack …` and gives back what it prints as JSON."""
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(server.clouds), "OS_CLOUD": "here"}

    def run(words: str, *, prints: bool = True) -> Any:
        command = [PROGRAMS / "openstack", *words.split(), *(["-f", "json"] if prints else [])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        server.settle()
        return json.loads(done.stdout) if prints else done.stdout

    return run


def test_the_command_line_client_tells_a_whole_story(openstack: Callable[..., Any]) -> None:
    openstack("network create front")
    openstack("subnet create --network front --subnet-range 192.0.2.0/24 front")
    lb = openstack("loadbalancer create --name web --vip-subnet-id front --provider noop_driver")
    assert lb["provisioning_status"] == "PENDING_CREATE"
    assert openstack("loadbalancer show web")["provisioning_status"] == "ACTIVE"
    openstack("loadbalancer listener create --name front --protocol HTTP --protocol-port 80 web")
    openstack("loadbalancer pool create --name back --protocol HTTP --lb-algorithm ROUND_ROBIN --listener front")
    openstack("loadbalancer member create --name one --address 192.0.2.77 --protocol-port 80 back")
    openstack("loadbalancer member set --weight 7 back one", prints=False)
    assert openstack("loadbalancer member show back one")["weight"] == 7
    openstack("loadbalancer healthmonitor create --name watch --type HTTP --delay 1 --timeout 1 --max-retries 1 back")
    openstack("loadbalancer l7policy create --name turn --action REJECT front")
    openstack("loadbalancer l7rule create --type PATH --compare-type STARTS_WITH --value /x turn")
    assert [row["name"] for row in openstack("loadbalancer list")] == ["web"]
    tree = json.loads(openstack("loadbalancer status show web", prints=False))
    assert tree["loadbalancer"]["listeners"][0]["name"] == "front"
    assert openstack("loadbalancer stats show web")["bytes_in"] == 0
    assert openstack("loadbalancer quota defaults show")["load_balancer"] == -1
    assert {row["name"] for row in openstack("loadbalancer provider list")} == {"amphora", "noop_driver"}
    openstack("loadbalancer failover web", prints=False)
    openstack("loadbalancer delete --cascade web", prints=False)
    assert openstack("loadbalancer list") == []


def test_the_sdk_tells_the_same(server: Server) -> None:
    import openstack.config
    import openstack.connection

    region = openstack.config.OpenStackConfig(config_files=[str(server.clouds)]).get_one(cloud="here")
    cloud = openstack.connection.Connection(config=region)
    network = cloud.network.create_network(name="back")
    subnet = cloud.network.create_subnet(network_id=network.id, cidr="198.51.100.0/24", ip_version=4)
    client = cloud.load_balancer
    lb = client.create_load_balancer(name="sdk", vip_subnet_id=subnet.id)
    server.settle()
    assert client.find_load_balancer("sdk").provisioning_status == "ACTIVE"
    pools = [client.create_pool(name=f"p{number}", loadbalancer_id=lb.id, protocol="HTTP",
                                lb_algorithm="ROUND_ROBIN", tags=["t"]) for number in range(3)]
    assert [pool.name for pool in client.pools(limit=1, loadbalancer_id=lb.id)] == ["p0", "p1", "p2"]
    assert len(list(client.pools(tags="t"))) == 3
    member = client.create_member(pools[0], address="192.0.2.1", protocol_port=80)
    client.update_member(member, pools[0], weight=3)
    assert client.get_member(member, pools[0]).weight == 3
    assert client.get_load_balancer_statistics(lb.id).bytes_in == 0
    assert client.get_quota(PROJECT).load_balancers == -1
    server.settle()
    client.delete_load_balancer(lb, cascade=True)
    server.settle()
    assert list(client.load_balancers(name="sdk")) == []
