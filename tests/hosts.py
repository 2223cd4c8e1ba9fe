# SPDX-License-Identifier: Apache-2.0
"""A data centre on one machine: hosts and controllers in network namespaces of their own, joined by one switch.

Each host runs a real `statera-agent`, each controller an api, a worker and a health manager; one of them
keeps house. The database is a file, or a server in a namespace of its own. Everybody has an address on the
switch, this process too, and any two can be cut off from each other. A second switch joins the hosts' ports
`phys0`, for bridges that an operator plugs together. Nothing is left afterwards.
"""

import contextlib
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from msgspec import yaml
from pyroute2 import netns
from servers import Database, Process, database

from benchmarks.client import Api, Document, body_of, until
from benchmarks.load import Outcome
from benchmarks.rig import command, free_cidr, inside, ip, load
from statera.commands import home

API_PORT, NODES_PORT = 9876, 5555
SERVICES = ("octavia-api", "octavia-worker", "octavia-health-manager")
Answer = TypeVar("Answer")


class Place:
    """A network namespace on the switch."""

    def __init__(self, switch: "Switch", name: str, number: int) -> None:
        self.name, self.address = name, switch.address(number)
        self.namespace = f"{switch.tag}-{name}"
        switch.plug(self.namespace, "eth0", f"{self.address}/24", "lan", f"l{number}")

    def run(self, *argv: str) -> str:
        """What a command says that runs here."""
        done = subprocess.run(inside(self.namespace, *argv), capture_output=True, text=True)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def cut(self, other: "Place") -> None:
        """Hear nothing from *other* and say nothing to it."""
        self._nft(CUT.format(address=other.address))

    def heal(self) -> None:
        """Hear everybody again."""
        self._nft("add table inet cut; delete table inet cut")

    def _nft(self, rules: str) -> None:
        self.run("nft", rules)


CUT = """
add table inet cut
add chain inet cut in {{ type filter hook input priority -300; }}
add chain inet cut out {{ type filter hook output priority -300; }}
add rule inet cut in ip saddr {address} drop
add rule inet cut out ip daddr {address} drop
"""


class Box(Place):
    """A machine of a tenant: a namespace with one leg on a host's bridge. It asks, and it can serve."""

    def __init__(self, host: "Host", bridge: str, address: str, *, gateway: str | None = None, mtu: int = 1450) -> None:
        tag = uuid.uuid4().hex[:8]
        self.name, self.address, self.namespace = f"box-{tag}", address.partition("/")[0], f"{host.namespace}-{tag}"
        self._processes: list[Process] = []
        self._folder = host.folder
        ip("netns", "add", self.namespace)
        ip("-n", host.namespace, "link", "add", f"bx{tag}", "mtu", str(mtu), "type", "veth", "peer", "name", "eth0",
           "netns", self.namespace, "mtu", str(mtu))
        ip("-n", host.namespace, "link", "set", f"bx{tag}", "master", bridge, "up")
        for words in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up"),
                      ("addr", "add", address, "dev", "eth0")):
            ip("-n", self.namespace, *words)
        if gateway:
            ip("-n", self.namespace, "route", "add", "default", "via", gateway)

    def serve(self, body: str, port: int = 80) -> None:
        """Answer every HTTP request with *body*."""
        file = self._folder / f"{self.namespace}.cfg"
        file.write_text(SITE.format(port=port, body=body))
        process = Process(["haproxy", "-db", "-f", file], file.with_suffix(".log"), namespace=self.namespace)
        process.start()
        self._processes.append(process)
        until(lambda: self.get("127.0.0.1", port=port) == body)

    def get(self, address: str, *, port: int = 80, timeout_seconds: float = 1.0) -> str | None:
        """The body of a 200 to one request from here, None for anything else."""
        return self.inside(lambda: body_of(address, port=port, timeout_seconds=timeout_seconds))

    def inside(self, act: Callable[[], Answer]) -> Answer:
        """Do something in a thread that is here."""
        with ThreadPoolExecutor(1, initializer=netns.setns, initargs=(self.namespace,)) as thread:
            return thread.submit(act).result()

    @contextlib.contextmanager
    def load(self, address: str, *, clients: int = 4, at_least: int = 0) -> Iterator[Callable[[], Outcome]]:
        """Clients here that ask all the time; the function ends them and tells what they met."""
        with load(address, clients=clients, at_least=at_least, namespace=self.namespace) as finish:
            yield finish

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        netns.remove(self.namespace)


SITE = """\
global
    maxconn 1000
    nbthread 1
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend web
    bind :::{port} v4v6
    http-request return status 200 content-type text/plain string "{body}"
"""


class Host(Place):
    """A machine that carries amphorae: an agent with its own state folder."""

    def __init__(self, switch: "Switch", name: str, number: int, folder: Path) -> None:
        super().__init__(switch, name, number)
        switch.plug(self.namespace, "phys0", None, "phys", f"p{number}")
        self.folder = folder
        self.state = folder / name
        self.state.mkdir()
        self.configuration = folder / f"{name}.conf"
        self.agent = Process(
            [command("statera-agent"), "run", "--config-file", self.configuration], folder / f"{name}.log",
            namespace=self.namespace)
        self._boxes: list[Box] = []

    def configure(self, endpoints: Sequence[str], options: str = "") -> None:
        self.configuration.write_text(AGENT.format(host=self, endpoints=",".join(endpoints)) + options)

    def plug(self, bridge: str, address: str, *, gateway: str | None = None, mtu: int = 1450) -> Box:
        """A tenant's machine on a bridge of this host; *address* with prefix."""
        box = Box(self, bridge, address, gateway=gateway, mtu=mtu)
        self._boxes.append(box)
        return box

    def has_link(self, name: str) -> bool:
        return f'"ifname":"{name}"' in self.run("ip", "-j", "link").replace(" ", "")

    def amphorae(self) -> set[str]:
        """The ids of those whose files are here."""
        return {path.name for path in (self.state / "amphorae").glob("*")}

    def close(self) -> None:
        """Nothing of the host is left; what the agent made goes by its own teardown."""
        for box in self._boxes:
            box.close()
        self.agent.kill()
        self.run(command("python3"), "-c", TEARDOWN, str(self.state))


TEARDOWN = """
import sys
from pathlib import Path
from statera.agent.teardown import teardown
teardown(Path(sys.argv[1]))
"""
AGENT = """\
[DEFAULT]
host = {host.name}
state_path = {host.state}
[agent]
endpoints = {endpoints}
node_name = {host.name}
"""


class Controller(Place):
    """An api, a worker and a health manager at one address; *services* by name."""

    def __init__(self, switch: "Switch", name: str, number: int, folder: Path, files: Sequence[Path]) -> None:
        super().__init__(switch, name, number)
        own = folder / f"{name}.conf"
        own.write_text(CONTROLLER.format(place=self, api=API_PORT, nodes=NODES_PORT))
        self._options = [word for file in (*files, own) for word in ("--config-file", file)]
        self._folder = folder
        self.services = {service: self.service(service) for service in SERVICES}
        self.url = f"http://{self.address}:{API_PORT}"
        self.endpoint = f"{self.address}:{NODES_PORT}"

    def service(self, name: str) -> Process:
        """A process of ours that is not started yet."""
        log = self._folder / f"{self.name}-{name}.log"
        return Process([command(name), *self._options], log, namespace=self.namespace)

    def start(self) -> None:
        for process in self.services.values():
            process.start()

    def is_ready(self) -> bool:
        """Whether the api answers and nodes could connect."""
        listening = subprocess.run(
            inside(self.namespace, "ss", "-Hltn"), capture_output=True, text=True, check=True).stdout
        return f":{API_PORT} " in listening and f":{NODES_PORT} " in listening

    def said(self) -> str:
        return "\n".join(f"{process.log.name}: {process.said()[-2000:]}" for process in self.services.values())


CONTROLLER = """\
[DEFAULT]
host = {place.name}
[api_settings]
bind_host = {place.address}
bind_port = {api}
[health_manager]
bind_ip = {place.address}
bind_port = {nodes}
"""


class Switch:
    """Two bridges in a namespace: `lan`, on which all are, and `phys`, for the hosts' second ports."""

    def __init__(self) -> None:
        self.tag = f"st{uuid.uuid4().hex[:6]}"
        self._cidr = free_cidr().rpartition(".")[0]
        self._namespace = f"{self.tag}-switch"
        self._namespaces = [self._namespace]
        ip("netns", "add", self._namespace)
        for bridge in ("lan", "phys"):
            ip("-n", self._namespace, "link", "add", bridge, "type", "bridge")
            ip("-n", self._namespace, "link", "set", bridge, "up")
        self._root = f"{self.tag}r"
        ip("link", "add", self._root, "type", "veth", "peer", "name", "root", "netns", self._namespace)
        ip("-n", self._namespace, "link", "set", "root", "master", "lan", "up")
        ip("addr", "add", f"{self.address(254)}/24", "dev", self._root)
        ip("link", "set", self._root, "up")

    def address(self, number: int) -> str:
        return f"{self._cidr}.{number}"

    def plug(self, namespace: str, name: str, address: str | None, bridge: str, port: str) -> None:
        """Give the namespace, made if need be, an interface on one of the bridges."""
        if namespace not in self._namespaces:
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
            self._namespaces.append(namespace)
        ip("-n", self._namespace, "link", "add", port, "type", "veth", "peer", "name", name, "netns", namespace)
        ip("-n", self._namespace, "link", "set", port, "master", bridge, "up")
        if address:
            ip("-n", namespace, "addr", "add", address, "dev", name)
        ip("-n", namespace, "link", "set", name, "up")

    def close(self) -> None:
        for namespace in self._namespaces:
            netns.remove(namespace)
        subprocess.run(["ip", "link", "del", self._root], check=False, stderr=subprocess.DEVNULL)


class DataCentre:
    """Made by `data_centre`; *options* are sections of everybody's octavia.conf."""

    def __init__(self, folder: Path, switch: Switch, *, server: Database | None, database: Place | None,
                 controllers: int, hosts: int, options: str) -> None:
        self.folder, self.switch, self.server, self.database = folder, switch, server, database
        self.home = home.Home(folder / "control")
        self.home.state.mkdir(mode=0o700)
        home.prepare(self.home, home.Binds(api=home.API, nodes=home.NODES))
        with self.home.configuration.open("a") as file:
            file.write(options)
            if server:
                file.write(f"\n[database]\nconnection = {server.url}\n")
        self.controllers = [
            Controller(switch, f"c{number}", 10 + number, folder, [self.home.configuration])
            for number in range(1, controllers + 1)]
        self.hosts = [Host(switch, f"h{number}", 100 + number, folder) for number in range(1, hosts + 1)]
        self.housekeeping = self.controllers[0].service("octavia-housekeeping")
        for host in self.hosts:
            host.configure([controller.endpoint for controller in self.controllers], options)
        self._password = yaml.decode(self.home.clouds.read_bytes())["clouds"]["statera"]["auth"]["password"]
        self._apis: list[Api] = []

    def start(self) -> None:
        """Everything, until all hosts are connected."""
        self.command("octavia-db-manage", "--config-file", str(self.home.configuration), "upgrade", "head")
        for controller in self.controllers:
            controller.start()
        self.housekeeping.start()
        for controller in self.controllers:
            until(controller.is_ready, seconds=60, step_seconds=0.1, otherwise=controller.said)
        for host in self.hosts:
            self.join(host)
            host.agent.start()
        self.wait_for_hosts(*self.hosts)

    def plug_together(self, bridge: str) -> None:
        """Give each host a bridge of its operator's, with its port `phys0` on it."""
        for host in self.hosts:
            host.run("ip", "link", "add", bridge, "type", "bridge")
            host.run("ip", "link", "set", "phys0", "master", bridge)
            host.run("ip", "link", "set", bridge, "up")

    def join(self, host: Host) -> str:
        """Make the host a node, as an operator does; what the command says."""
        words = self.statera("node", "token", "--name", host.name).split()
        given = {name: words[words.index(name) + 1] for name in ("--token", "--ca-fingerprint")}
        return host.run(command("statera-agent"), "join", "--config-file", str(host.configuration),
                        *(word for pair in given.items() for word in pair))

    def statera(self, *args: str) -> str:
        """What the operator's command says."""
        return self.command("statera", *args, "--state", str(self.home.state))

    def command(self, name: str, *args: str) -> str:
        place = self.controllers[0]
        return place.run(command(name), *args)

    def node_states(self) -> dict[str, str]:
        """How `statera node list` calls each node's state."""
        rows = [line.split() for line in self.statera("node", "list").splitlines()[1:]]
        return {row[0]: row[1] for row in rows if row}

    def amphorae_on(self, host: Host) -> int:
        """How many the store says that the host carries."""
        rows = [line.split() for line in self.statera("node", "list").splitlines()[1:]]
        return next(int(next(word for word in row[2:] if word.isdigit())) for row in rows if row[0] == host.name)

    def wait_for_hosts(self, *hosts: Host) -> None:
        """Until these have been connected since their agents began."""
        until(lambda: all("connected: this node" in host.agent.said_lately() for host in hosts), seconds=60,
              step_seconds=0.1, otherwise=lambda: "\n".join(host.agent.said()[-2000:] for host in hosts))

    def api(self, number: int = 0) -> Api:
        """A client for one controller's api; for one thread."""
        api = Api(self.controllers[number].url, home.ADMIN, self._password)
        self._apis.append(api)
        return api

    def new_network(self, api: Api, cidr: str = "10.77.0.0/24", *, pool: tuple[int, int] = (100, 250),
                    **network: Any) -> "Network":
        """A network with a subnet; addresses of ports come from *pool*, the others are the test's."""
        wanted = {"name": f"n-{uuid.uuid4().hex[:6]}", **network}
        made = api.post("/network/v2.0/networks", {"network": wanted})["network"]
        start = cidr.rpartition(".")[0]
        subnet = api.post("/network/v2.0/subnets", {"subnet": {
            "network_id": made["id"], "cidr": cidr, "ip_version": 4,
            "allocation_pools": [{"start": f"{start}.{pool[0]}", "end": f"{start}.{pool[1]}"}]}})["subnet"]
        bridge = made["provider:physical_network"]
        for host in self.hosts:
            until(lambda host=host: host.has_link(bridge), seconds=30, step_seconds=0.1, otherwise=host.agent.said)
        return Network(made["id"], subnet["id"], cidr, bridge)

    def placed(self, load_balancer_id: str) -> dict[str, Host]:
        """The host of each amphora of a load balancer that is there, by its role."""
        found = self.api().get(f"/v2/octavia/amphorae?loadbalancer_id={load_balancer_id}")["amphorae"]
        return {
            amphora["role"]: host for amphora in found for host in self.hosts if amphora["id"] in host.amphorae()}

    def cut(self, one: Place, other: Place) -> None:
        """A partition between two."""
        one.cut(other)
        other.cut(one)

    def heal(self) -> None:
        """All reach all again."""
        for place in (*self.controllers, *self.hosts, self.database):
            if place is not None:
                place.heal()

    def close(self) -> None:
        for api in self._apis:
            api.close()
        for process in [self.housekeeping, *(p for c in self.controllers for p in c.services.values())]:
            process.kill()
        for host in self.hosts:
            host.close()


class Network:
    """A tenant's network with one subnet."""

    def __init__(self, id: str, subnet_id: str, cidr: str, bridge: str) -> None:
        self.id, self.subnet_id, self.cidr, self.bridge = id, subnet_id, cidr, bridge
        self.prefix = cidr.rpartition(".")[0]
        self.gateway = f"{self.prefix}.1"

    def address(self, number: int) -> str:
        """With prefix length, as a box takes it."""
        return f"{self.prefix}.{number}/{self.cidr.partition('/')[2]}"


@contextlib.contextmanager
def data_centre(
    folder: Path, *, kind: str = "sqlite", controllers: int = 1, hosts: int = 2, options: str = ""
) -> Iterator[DataCentre]:
    """A running data centre; *kind* is sqlite, postgresql or mariadb. Nothing is left of it afterwards."""
    with contextlib.ExitStack() as stack:
        switch = Switch()
        stack.callback(switch.close)
        server, place = None, None
        if kind != "sqlite":
            place = Place(switch, "db", 250)
            server = stack.enter_context(database(kind, address=place.address, namespace=place.namespace))
        built = DataCentre(folder, switch, server=server, database=place, controllers=controllers, hosts=hosts,
                            options=options)
        stack.callback(built.close)
        built.start()
        yield built


def tree(network: Network, members: Sequence[Box], *, name: str = "web", **load_balancer: Any) -> Document:
    """The request for a load balancer with an HTTP listener on port 80 over these machines."""
    pool = {"name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": box.address, "protocol_port": 80} for box in members],
            "healthmonitor": {"type": "HTTP", "delay": 2, "timeout": 1, "max_retries": 2}}
    listeners = [{"name": "http", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}]
    return {"loadbalancer": {
        "name": name, "vip_subnet_id": network.subnet_id, "listeners": listeners, **load_balancer}}
