# SPDX-License-Identifier: Apache-2.0
"""A real `statera up` in a folder of its own, a client for its api, web servers, and what is left after it all."""

import contextlib
import ipaddress
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.client import Api, body_of, until
from benchmarks.load import Outcome
from statera.commands import home

READY_SECONDS = 60.0
SERVERS = 60
PORTS = (80, *range(8000, 8010))
"""On each of the farm's addresses a web server answers on these ports with `address:port`."""


class Network(Struct, frozen=True):
    """*cidr* is a /20: servers have its first addresses, ports come from the rest."""

    id: str
    subnet_id: str
    cidr: str
    bridge: str

    def address(self, number: int) -> str:
        return str(ipaddress.ip_network(self.cidr)[number])

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(self.address(10 + number) for number in range(SERVERS))


class Cloud:
    """`statera up` on free ports. Whoever starts it ends it with `purge`."""

    def __init__(self, state: Path, *, options: str = "") -> None:
        """*options* are further sections of its octavia.conf."""
        self.state = state
        self.output = state.parent / f"{state.name}.out"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Return the seconds until it says that it is ready."""
        began, offset = time.monotonic(), self.output.stat().st_size if self.output.exists() else 0
        if not self.state.exists():
            self._prepare()
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [command("statera"), "up", "--state", str(self.state)], stdout=output, stderr=output)
        until(lambda: self._is_ready(offset), seconds=READY_SECONDS, otherwise=self.output.read_text)
        return time.monotonic() - began

    def _prepare(self) -> None:
        """Write the configuration that `statera up` finds: its own, on ports that are free."""
        self.state.mkdir(mode=0o700)
        api, nodes = (home.Bind("127.0.0.1", port) for port in free_ports(2))
        place = home.Home(self.state)
        home.prepare(place, home.Binds(api=api, nodes=nodes))
        with place.configuration.open("a") as file:
            file.write(self._options)

    def _is_ready(self, offset: int) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output.read_text()
        return b"ready after" in self.output.read_bytes()[offset:]

    def stop(self, number: signal.Signals = signal.SIGINT) -> float:
        """End the services as Ctrl-C does; return how long that took."""
        began = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(60)
        return time.monotonic() - began

    def purge(self) -> str:
        """`statera down --purge`; return what it said."""
        done = subprocess.run([command("statera"), "down", "--state", str(self.state), "--purge"],
                              capture_output=True, text=True, timeout=120)
        if self._process is not None:
            self._process.wait(60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def api(self) -> Api:
        cloud = msgspec.yaml.decode((self.state / "clouds.yaml").read_bytes())["clouds"]["statera"]
        auth = cloud["auth"]
        return Api(cloud["load_balancer_endpoint_override"], auth["username"], auth["password"])

    def service(self, name: str) -> int | None:
        """The process of one of the services, which is a child of ours; None while there is none."""
        assert self._process is not None
        for pid in children(self._process.pid):
            if any(Path(word).name == name for word in command_line(pid)):
                return pid
        return None

    def kill(self, name: str) -> None:
        """End a service without a word; one that is dead already is waited for first."""
        until(lambda: self.service(name), seconds=20)
        pid = self.service(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Look into the database."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/statera.db?mode=ro", uri=True)) as database:
            return list(database.execute(statement))

    def haproxies(self, load_balancer_id: str) -> dict[str, int]:
        """The HAProxy master of each amphora of a load balancer."""
        rows = self.sql(f"SELECT id FROM amphorae WHERE load_balancer_id = '{load_balancer_id}' AND deleted_at IS NULL")
        files = {str(row[0]): Path(f"/run/statera/{row[0]}/haproxy.pid") for row in rows}
        return {amphora_id: int(file.read_text()) for amphora_id, file in files.items() if file.exists()}

    def amphora_ids(self) -> list[str]:
        """Every amphora that ever was, as long as rows are kept."""
        return [str(row[0]) for row in self.sql("SELECT id FROM amphorae")]

    def new_network(self, api: Api) -> Network:
        """A network whose addresses nobody on this host uses."""
        cidr = free_cidr()
        hosts = ipaddress.ip_network(cidr)
        name = f"bench-{uuid.uuid4().hex[:6]}"
        network = api.post("/network/v2.0/networks", {"network": {"name": name}})["network"]
        subnet = api.post("/network/v2.0/subnets", {"subnet": {
            "network_id": network["id"], "cidr": cidr, "ip_version": 4, "name": name,
            "allocation_pools": [{"start": str(hosts[256]), "end": str(hosts[-2])}],
        }})["subnet"]
        [(bridge,)] = self.sql(f"SELECT bridge FROM networks WHERE id = '{network['id']}'")
        until(lambda: Path(f"/sys/class/net/{bridge}").exists())
        return Network(network["id"], subnet["id"], cidr, bridge)


class Farm:
    """A namespace on the network's bridge in which one HAProxy plays web servers on `SERVERS` addresses."""

    def __init__(self, network: Network, folder: Path) -> None:
        tag = uuid.uuid4().hex[:8]
        self.namespace, self.leg, self._inner = f"farm-{tag}", f"fa{tag}", f"fb{tag}"
        self._network = network
        self._file = folder / f"farm-{tag}.cfg"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        prefix = self._network.cidr.partition("/")[2]
        ip("netns", "add", self.namespace)
        ip("link", "add", self.leg, "type", "veth", "peer", "name", self._inner, "netns", self.namespace)
        ip("link", "set", self.leg, "master", self._network.bridge, "up")
        lines = [f"addr add {address}/{prefix} dev {self._inner}" for address in self._network.servers]
        batch = "\n".join([*lines, f"link set {self._inner} up", "link set lo up"])
        subprocess.run(["ip", "-n", self.namespace, "-batch", "-"], input=batch.encode(), check=True)
        self._file.write_text(FARM.format(binds="\n".join(f"    bind 0.0.0.0:{port}" for port in PORTS)))
        self._process = subprocess.Popen(inside(self.namespace, "haproxy", "-db", "-f", str(self._file)))
        until(lambda: body_of(self._network.servers[-1], port=PORTS[-1]))

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, stderr=subprocess.DEVNULL)


FARM = """\
global
    maxconn 4000
    nbthread 1
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend web
{binds}
    http-request return status 200 content-type text/plain lf-string "%[dst]:%[dst_port]"
"""


@contextlib.contextmanager
def playground(folder: Path, *, options: str = "") -> Iterator[tuple[Cloud, Network]]:
    """A running cloud with a network full of web servers; nothing is left of it afterwards."""
    cloud = Cloud(folder / "state", options=options)
    try:
        cloud.start()
        api = cloud.api()
        network = cloud.new_network(api)
        api.close()
        farm = Farm(network, folder)
        try:
            farm.start()
            yield cloud, network
        finally:
            farm.stop()
    finally:
        cloud.stop()
        if (cloud.state / "octavia.conf").exists():
            cloud.purge()


def leftovers(cloud: Cloud, amphora_ids: Iterable[str], bridges: Sequence[str] = ()) -> list[str]:
    """What there still is of these amphorae, and which legs still hang on these bridges."""
    found = [f"namespace amphora-{id}" for id in amphora_ids if Path(f"/run/netns/amphora-{id}").exists()]
    found += [f"folder /run/statera/{id}" for id in amphora_ids if Path(f"/run/statera/{id}").exists()]
    found += [f"process {pid}: {' '.join(words)}" for pid, words in processes(str(cloud.state / "amphorae"))]
    for bridge in bridges:
        legs = Path(f"/sys/class/net/{bridge}/brif").glob("*")
        found += [f"link {leg.name} on {bridge}" for leg in legs if not leg.name.startswith("fa")]
    if (cloud.state / "statera.db").exists():
        found += [f"port {name}" for name, in cloud.sql("SELECT name FROM ports WHERE name LIKE 'octavia-lb-%'")]
    return found


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in sockets]


def free_cidr() -> str:
    """A /20 that no route of this host touches."""
    routes = json.loads(subprocess.run(["ip", "-j", "route"], capture_output=True, check=True).stdout)
    taken = [ipaddress.ip_network(route["dst"], strict=False) for route in routes if route["dst"] != "default"]
    while True:
        cidr = ipaddress.ip_network(f"10.{random.randrange(130, 250)}.{random.randrange(16) * 16}.0/20")
        if not any(cidr.overlaps(network) for network in taken):
            return str(cidr)


def inside(namespace: str, *argv: str) -> list[str]:
    """The command line that runs *argv* in a namespace."""
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *argv]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def command(name: str) -> str:
    """One of our commands, beside the Python that runs this, else the one on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or name


def children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def family(pids: Iterable[int]) -> list[int]:
    """The processes with all that they started."""
    return [member for pid in pids for member in (pid, *family(children(pid)))]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def processes(marker: str) -> list[tuple[int, list[str]]]:
    """Every process with *marker* in its command line."""
    found = [(int(path.name), command_line(int(path.name))) for path in Path("/proc").glob("[0-9]*")]
    return [(pid, words) for pid, words in found if any(marker in word for word in words)]


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory of the processes, what they share counted in parts."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def peak_bytes(pids: Iterable[int]) -> int:
    """The most memory that each of the processes has held so far, summed up."""
    lines = (line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor time that the processes have used so far, to a hundredth of a second."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in pids]
    return sum(int(words[11]) + int(words[12]) for words in fields) / os.sysconf("SC_CLK_TCK")


def in_parallel(tasks: Mapping[str, Callable[[], None]]) -> None:
    """Run all at once and raise what the first to fail raised."""
    errors: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(task,), name=name) for name, task in tasks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def load(
    address: str, *, port: int = 80, clients: int = 8, at_least: int = 0, namespace: str | None = None
) -> Iterator[Callable[[], Outcome]]:
    """Clients that ask all the time, in a process of their own; the function ends them and tells what they met."""
    argv = [sys.executable, "-m", "benchmarks.load", address, str(port), str(clients), str(at_least)]
    argv = inside(namespace, *argv) if namespace else argv
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield lambda: msgspec.json.decode(process.communicate(timeout=180)[0], type=Outcome)
    finally:
        process.kill()
        process.communicate()
