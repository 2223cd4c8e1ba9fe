# SPDX-License-Identifier: Apache-2.0
"""A small data centre for each test: a bridge, members in a namespace of their own, hosts that carry amphorae."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pyroute2 import IPRoute

from statera.agent import process, runtime
from statera.agent.files import Home
from statera.agent.host import Host
from statera.agent.teardown import teardown
from statera.config import Settings
from statera.model.fleet import Role
from statera.wire import (
    Address,
    Applied,
    Interface,
    ListenerSpec,
    LocalNetwork,
    MemberSpec,
    PoolSpec,
    Report,
    Roster,
    Spec,
    Up,
)

ABLE = os.geteuid() == 0 and all(shutil.which(name) for name in ("haproxy", "keepalived", "nft", "nsenter"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not ABLE and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs root, haproxy, keepalived and nft"))


class Lab:
    """A network `10.x.y.0/24`: .1 and .2 are the host, .10… members, .100… amphorae, .200 the VIP."""

    members_script = Path(__file__).with_name("members.py")

    def __init__(self, folder: Path) -> None:
        self.tag = uuid.uuid4().hex[:8]
        self.folder = folder
        self.net = f"10.{int(self.tag[:2], 16)}.{int(self.tag[2:4], 16)}"
        self.bridge = f"st-{self.tag}"
        self.net6 = f"fd00:1{self.tag[:3]}:1{self.tag[3:6]}::"
        self.network = LocalNetwork(
            id=self.tag, bridge=self.bridge,
            gateways=(f"{self.net}.1/24", f"{self.net}.2/24", f"{self.net6}1/64"))
        self.vip, self.vip6 = f"{self.net}.200", f"{self.net6}200"
        self.other_net = ""
        self.hosts: list[HostRun] = []
        self._cleanups = contextlib.ExitStack()

    def host(self, name: str = "node", settings: Settings | None = None) -> "HostRun":
        """An agent on a state folder of that name; a second call is the agent's restart."""
        run = HostRun(self.folder / name, settings)
        self.hosts.append(run)
        run.call(run.host.start())
        return run

    def spec(self, **changes: Any) -> Spec:
        """An amphora with one HTTP listener on port 80 and a pool of two members."""
        amphora_id = changes.pop("amphora_id", None) or str(uuid.uuid4())
        address = changes.pop("address", f"{self.net}.100")
        pool = PoolSpec(id=f"pool-{self.tag}", protocol="HTTP", lb_algorithm="ROUND_ROBIN",
                        members=(self.member(10), self.member(11)))
        listener = ListenerSpec(id=f"listener-{self.tag}", protocol="HTTP", protocol_port=80, default_pool_id=pool.id)
        leg = Interface(name="eth1", network_id=self.tag, bridge=self.bridge,
                        addresses=(Address(ip=address, prefix=24, gateway=f"{self.net}.1"),))
        spec = Spec(
            amphora_id=amphora_id, load_balancer_id=str(uuid.uuid4()), version=1, role=Role.STANDALONE,
            interfaces=(leg,), vips=(Address(ip=self.vip, prefix=24, gateway=f"{self.net}.1"),),
            listeners=(listener,), pools=(pool,))
        return replace(spec, **changes)

    def member(self, last: int, **changes: Any) -> MemberSpec:
        port = changes.pop("protocol_port", 80)
        return MemberSpec(id=f"member-{last}-{self.tag}", address=f"{self.net}.{last}", protocol_port=port, **changes)

    def start_members(self, first: int = 10, last: int = 40) -> None:
        """Start servers on a range of addresses."""
        name = f"members-{self.tag}"
        with IPRoute() as route:
            route.link("add", ifname=f"m{self.tag}", kind="veth", peer={"ifname": f"n{self.tag}"})
            bridge, outer = route.link_lookup(ifname=self.bridge)[0], route.link_lookup(ifname=f"m{self.tag}")[0]
            route.link("set", index=outer, master=bridge, state="up")
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._cleanups.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        lines = [f"addr add {self.net}.{host}/24 dev n{self.tag}" for host in range(first, last)]
        lines += [f"addr add {self.net6}10/64 dev n{self.tag} nodad", f"link set n{self.tag} up", "link set lo up"]
        lines += [f"route add default via {self.net}.1", f"route add ::/0 via {self.net6}1 dev n{self.tag}"]
        subprocess.run(["ip", "link", "set", f"n{self.tag}", "netns", name], check=True)
        subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(lines).encode(), check=True)
        self._serve(self.members_script)

    def start_tls_members(self, bundle: Path, clients: Path) -> None:
        """Have the members speak TLS too: *bundle* is their certificate, *clients* whom they know."""
        self._serve(Path(__file__).with_name("tls_members.py"), str(bundle), str(clients))

    def start_log_server(self, last: int, port: int, file: Path) -> None:
        """Have a member write down what it is sent by TCP."""
        self._serve(Path(__file__).with_name("log_server.py"), f"{self.net}.{last}", str(port), str(file))

    def start_streams(self, port: int) -> None:
        """Have the members answer on *port* too, with connections that last if they are asked to."""
        self._serve(Path(__file__).with_name("streams.py"), str(port))

    def _serve(self, script: Path, *args: str) -> None:
        enter = ["nsenter", f"--net=/run/netns/members-{self.tag}", "--"]
        server = subprocess.Popen([*enter, sys.executable, str(script), *args], stdout=subprocess.PIPE)
        self._cleanups.callback(end, server)
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"

    def get(self, path: str = "/", **options: Any) -> dict[str, Any]:
        """Ask the VIP once; what the member saw. Raise `OSError` when nobody answers with 200."""
        return ask(options.pop("ip", self.vip), path, **options)

    @contextlib.contextmanager
    def load(self, *, clients: int = 16) -> Iterator[dict[str, Any]]:
        """Traffic to the VIP while the block runs; the dictionary says afterwards what came of it."""
        came: dict[str, Any] = {}
        script = Path(__file__).with_name("load.py")
        child = subprocess.Popen([sys.executable, str(script), self.vip, "80", str(clients)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
            yield came
            came.update(json.loads(child.communicate(timeout=20)[0]))
        finally:
            end(child)

    def close(self) -> None:
        for run in self.hosts:
            run.stop()
        for state in {run.state for run in self.hosts}:
            teardown(state)
        self._cleanups.close()


class HostRun:
    """One life of an agent, in a loop of its own thread, with what it said."""

    def __init__(self, state: Path, settings: Settings | None = None) -> None:
        self.state = state
        self.said: list[Up] = []
        self._heard = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.host = Host(settings or Settings(), state, self.emit)

    def call(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def carry(self, networks: LocalNetwork | tuple[LocalNetwork, ...], *amphora_ids: str) -> None:
        networks = networks if isinstance(networks, tuple) else (networks,)
        self.call(self.host.roster(Roster(amphorae=amphora_ids, networks=networks, report_seconds=0.1)))

    def put(self, spec: Spec) -> Applied:
        """Give the spec and wait until it runs."""
        self.call(self.host.put(spec))
        return self.wait(lambda up: isinstance(up, Applied) and up.version == spec.version
                         and up.amphora_id == spec.amphora_id)

    def wait(self, wanted: Callable[[Up], bool], *, seconds: float = 30) -> Any:
        """The last message of this kind, as soon as there is one."""
        with self._heard:
            found = self._heard.wait_for(lambda: [up for up in self.said if wanted(up)], seconds)
        assert found, f"nothing of the kind in {self.said}"
        return found[-1]

    def words(self, kind: str) -> dict[str, Any]:
        """What was reported last about each listener, pool, member, or counters."""
        merged: dict[str, Any] = {}
        for up in list(self.said):
            if isinstance(up, Report):
                merged = {**({} if up.full else merged), **getattr(up, kind)}
        return merged

    def home(self, spec: Spec) -> Home:
        return Home(self.state, spec.amphora_id)

    def pids(self, spec: Spec) -> list[int]:
        """HAProxy's master and workers."""
        home = self.home(spec)
        pid = process.find(home.haproxy_pid, str(home.haproxy_cfg))
        return [pid, *process.children(pid)] if pid else []

    def servers(self, spec: Spec) -> str:
        """HAProxy's own list of servers."""
        return str(self.call(runtime.ask(self.home(spec).socket, "show servers state")))

    def stop(self) -> None:
        if self._loop.is_closed():
            return
        self.call(self.host.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def emit(self, up: Up) -> None:
        with self._heard:
            self.said.append(up)
            self._heard.notify_all()


def end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()


def ask(ip: str, path: str = "/", *, port: int = 80, source: str | None = None, headers: str = "",
        patience_seconds: float = 2) -> dict[str, Any]:
    where = (source, 0) if source else None
    with socket.create_connection((ip, port), timeout=patience_seconds, source_address=where) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head[:60].decode() or "closed without an answer")
    cookies = [line.split(": ", 1)[1] for line in head.decode().split("\r\n") if line.lower().startswith("set-cookie")]
    return {**json.loads(body), "cookies": cookies}


def until(claim: Callable[[], Any], *, seconds: float = 20.0) -> float:
    """Wait until the claim holds (an `OSError` means not yet); how long that took."""
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        with contextlib.suppress(OSError):
            if claim():
                return time.monotonic() - started
        time.sleep(0.005)
    raise AssertionError(f"not true within {seconds} s")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    built = Lab(tmp_path)
    yield built
    built.close()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab for all tests of a module, with its node and members. The host bears more addresses, for clients."""
    built = Lab(tmp_path_factory.mktemp("wide"))
    built.other_net = f"100.{64 + int(built.tag[:2], 16) % 64}.{int(built.tag[2:4], 16)}"
    more = (*(f"{built.net}.{last}/24" for last in range(50, 58)), f"{built.net6}2/64", f"{built.other_net}.1/24")
    built.network = replace(built.network, gateways=(*built.network.gateways, *more))
    try:
        built.host().carry(built.network)
        built.start_members()
        yield built
    finally:
        built.close()


@pytest.fixture
def far_lab(tmp_path: Path) -> Iterator[Lab]:
    """Another network, which the first one's node carries too."""
    built = Lab(tmp_path / "far")
    yield built
    built.close()


@pytest.fixture
def node(lab: Lab) -> HostRun:
    """A running agent, the lab's network and its members."""
    run = lab.host()
    run.carry(lab.network)
    lab.start_members()
    return run


@pytest.fixture
def wait_until() -> Callable[..., float]:
    return until


@pytest.fixture
def serving(lab: Lab, node: HostRun) -> Spec:
    """An amphora that serves."""
    spec = lab.spec()
    node.carry(lab.network, spec.amphora_id)
    assert node.put(spec).failure is None
    return spec
