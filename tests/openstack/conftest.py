# SPDX-License-Identifier: Apache-2.0
"""Statera as the load-balancing service of a real OpenStack cloud, on the machine that `lab/openstack-up` made one.

The API listens where the service catalogue says, amphorae run in namespaces of this machine as Neutron's host.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import openstack_cloud as world
import pytest
from control_cloud import free_port
from msgspec import Struct
from openstack_cloud import PROGRAMS, run, until

NODES = os.environ.get("STATERA_NODES", "172.31.0.1:5555" if world.is_named() else f"127.0.0.1:{free_port()}")
"""Where machines in the management network reach the health manager."""


def pytest_itemcollected(item: pytest.Item) -> None:
    for category in world.WARNINGS:
        item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}"))


CONFIGURATION = """
[DEFAULT]
state_path = {state}
[api_settings]
bind_host = {api.hostname}
bind_port = {api.port}
auth_strategy = keystone
[keystone_authtoken]
www_authenticate_uri = {auth.auth_url}
auth_type = password
{login}
[service_auth]
{login}
[neutron]
region_name = {region}
[nova]
region_name = {region}
[glance]
region_name = {region}
[database]
connection = sqlite:///{state}/statera.db
[controller_worker]
compute_driver = {compute}
network_driver = neutron
{worker}
[certificates]
cert_manager = {secrets}
[health_manager]
bind_ip = 0.0.0.0
bind_port = {node_port}
controller_ip_port_list = {machines}
[house_keeping]
cleanup_interval = 2
[agent]
endpoints = {nodes}
node_name = {host}
"""


class Statera(Struct, frozen=True):
    """All services of ours in one process tree below *state*."""

    admin: Any
    state: Path

    def configure(
        self, *, compute: str = "hosts", worker: str = "", secrets: str = "local", machines: str = NODES
    ) -> None:
        auth = world.service_auth(self.admin)
        names = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name",
                 "user_domain_id", "project_domain_id")
        login = "\n".join(f"{name} = {value}" for name in names if (value := getattr(auth, name)))
        self.state.mkdir(exist_ok=True)
        api = urlsplit(self.admin.session.get_endpoint(service_type="load-balancer", interface="public"))
        (self.state / "octavia.conf").write_text(CONFIGURATION.format(
            state=self.state, api=api, auth=auth, login=login, region=self.admin.config.region_name, compute=compute,
            worker=worker, secrets=secrets, node_port=NODES.split(":")[1], nodes=NODES, machines=machines,
            host=world.plugger(self.admin).host))

    def up(self) -> None:
        run(str(PROGRAMS / "statera"), "up", "--state", str(self.state), "--detach")

    def down(self) -> None:
        run(str(PROGRAMS / "statera"), "down", "--state", str(self.state), "--purge", check=False)

    def say(self, *words: str) -> str:
        """A command for operators, and what it answers."""
        return run(str(PROGRAMS / "statera"), *words, "--state", str(self.state))

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {line}" for path in sorted((self.state / "log").glob("*"))
                         for line in path.read_text(errors="replace").splitlines()[-15:])


@pytest.fixture(scope="session")
def admin() -> Iterator[Any]:
    with world.cloud_or_skip() as connection:
        yield connection


@pytest.fixture(scope="session")
def machines(admin: Any) -> None:
    world.need_machines(admin)


@pytest.fixture(scope="session")
def traffic(admin: Any) -> None:
    world.need_traffic(admin)


@pytest.fixture
def unstarted(admin: Any, tmp_path: Path) -> Statera:
    """Only for commands."""
    return Statera(admin, tmp_path / "state")


@pytest.fixture(scope="module")
def worker() -> str:
    """More lines of the section [controller_worker], for modules that want some."""
    return ""


@pytest.fixture(scope="module")
def statera(admin: Any, worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Statera]:
    services = Statera(admin, tmp_path_factory.mktemp("statera"))
    services.configure(worker=worker)
    services.up()
    yield services
    print(services.logs())
    services.down()


class Lot(Struct, frozen=True):
    """A tenant's own network, in which nothing is built yet."""

    admin: Any
    tenant: world.Tenant
    vip: Any

    def ports(self) -> list[Any]:
        """All but DHCP's and the router's."""
        found = self.admin.network.ports(network_id=self.vip.network_id)
        return [port for port in found if not port.device_owner.startswith("network:")]


@pytest.fixture
def lot(admin: Any) -> Iterator[Lot]:
    with world.tenants(admin, 1) as (tenant,):
        network = tenant.connection.network
        net = network.create_network(name="statera-lot")
        yield Lot(admin, tenant, network.create_subnet(network_id=net.id, ip_version=4, cidr="10.73.0.0/24"))
        if admin.network.find_network(net.id):
            admin.network.delete_network(net)
        for group in admin.network.security_groups(project_id=tenant.project_id):
            admin.network.delete_security_group(group)


class Server(Struct, frozen=True):
    """A web server that says its name, in a namespace of this machine, on a port of a tenant's network."""

    name: str
    address: str
    port_id: str

    def __str__(self) -> str:
        return self.address


ANSWER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = sys.argv[1].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.handle_error = lambda *_: None
http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""


class Street(Struct, frozen=True):
    """A tenant's own two networks, joined with each other and the world by a router, and servers in the second."""

    admin: Any
    tenant: world.Tenant
    vip: Any
    members: Any
    external_id: str
    servers: tuple[Server, ...]

    def client(self, *words: str) -> str:
        """A client in the VIP's network: the namespace of its DHCP server."""
        return run("ip", "netns", "exec", f"qdhcp-{self.vip.network_id}", *words, check=False)

    def get(self, address: str, *, seconds: float = 2) -> str:
        return self.client("curl", "-s", "-m", str(seconds), f"http://{address}/")


@pytest.fixture(scope="module")
def street(admin: Any, traffic: None) -> Iterator[Street]:
    with world.tenants(admin, 1) as (tenant,):
        network, made = tenant.connection.network, []
        external = next(net for net in admin.network.networks(is_router_external=True))
        router = network.create_router(name="statera-test", external_gateway_info={"network_id": external.id})
        subnets = []
        for name, cidr in (("vip", "10.71.0.0/24"), ("members", "10.72.0.0/24")):
            net = network.create_network(name=f"statera-{name}")
            subnets.append(network.create_subnet(network_id=net.id, ip_version=4, cidr=cidr, name=net.name))
            network.add_interface_to_router(router, subnet_id=subnets[-1].id)
        try:
            for number in (1, 2):
                made.append(_serve(admin, tenant, subnets[1], f"server-{number}"))
            yield Street(admin, tenant, *subnets, external.id, tuple(server for server, _ in made))
        finally:
            for server, process in made:
                process.kill()
                process.wait()
                run("ip", "netns", "del", server.name)
                if world.plugger(admin).agent_type == "Open vSwitch agent":
                    run("ovs-vsctl", "--if-exists", "del-port", f"tap{server.port_id[:11]}")
            _clear(admin, tenant, router, subnets)


def _serve(admin: Any, tenant: world.Tenant, subnet: Any, label: str) -> tuple[Server, Any]:
    agent = world.plugger(admin)
    group = admin.network.create_security_group(name="open", project_id=tenant.project_id)
    admin.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", ether_type="IPv4", project_id=tenant.project_id)
    port = admin.network.create_port(
        network_id=subnet.network_id, project_id=tenant.project_id, name=label, binding_host_id=agent.host,
        device_owner="statera:test", device_id=label, security_groups=[group.id])
    address, name, tap = port.fixed_ips[0]["ip_address"], f"{label}-{uuid4().hex[:6]}", f"tap{port.id[:11]}"
    run("ip", "netns", "add", name)
    device = _plug(agent, port, tap, name)
    for words in (("link", "set", "lo", "up"), ("link", "set", device, "mtu", "1400", "up"),
                  ("addr", "add", f"{address}/24", "dev", device),
                  ("route", "add", "default", "via", subnet.gateway_ip)):
        run("ip", "-n", name, *words)
    process = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", ANSWER, label])
    return Server(name, address, port.id), process


def _plug(agent: Any, port: Any, tap: str, name: str) -> str:
    """What the port is called in the namespace."""
    if agent.agent_type == "Open vSwitch agent":
        run("ovs-vsctl", "add-port", agent.configuration["integration_bridge"], tap, "--", "set", "Interface", tap,
            "type=internal", f"external_ids:iface-id={port.id}", "external_ids:iface-status=active",
            f'external_ids:attached-mac="{port.mac_address}"')
        run("ip", "link", "set", tap, "address", port.mac_address, "netns", name)
        return tap
    run("ip", "link", "add", tap, "type", "veth", "peer", "name", "eth0", "address", port.mac_address, "netns", name)
    run("ip", "link", "set", tap, "up")
    return "eth0"


def _clear(admin: Any, tenant: world.Tenant, router: Any, subnets: list[Any]) -> None:
    network = admin.network
    for ip in network.ips(project_id=tenant.project_id):
        network.delete_ip(ip)
    for subnet in subnets:
        network.remove_interface_from_router(router, subnet_id=subnet.id)
    network.delete_router(router)
    for subnet in subnets:
        for port in network.ports(network_id=subnet.network_id):
            if not port.device_owner.startswith("network:"):
                network.delete_port(port)
        network.delete_network(subnet.network_id)
    for group in network.security_groups(project_id=tenant.project_id):
        network.delete_security_group(group)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test ends with the cloud as it was: no load balancer, port, group or server more than before."""
    place = next((name for name in ("street", "lot") if name in request.fixturenames), None)
    if place is None:
        yield
        return
    admin, tenant = request.getfixturevalue("admin"), request.getfixturevalue(place).tenant
    request.getfixturevalue("statera")
    before = inventory(admin)
    yield
    balancer = tenant.connection.load_balancer
    for lb in balancer.load_balancers():
        balancer.delete_load_balancer(lb, cascade=True)
    until(lambda: not list(balancer.load_balancers()))
    until(lambda: inventory(admin) <= before, seconds=30)


def inventory(admin: Any) -> set[str]:
    """All that we might have made in the cloud."""
    network = admin.network
    servers = admin.compute.servers(name="^amphora-") if world.has_machines(admin) else ()
    return {
        *(f"server {server.id} {server.name}" for server in servers),
        *(f"port {port.id} {port.name}" for port in network.ports() if not port.device_owner.startswith("network:")),
        *(f"group {group.id} {group.name}" for group in network.security_groups() if group.name.startswith("lb-")),
    }
