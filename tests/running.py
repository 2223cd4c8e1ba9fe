# SPDX-License-Identifier: Apache-2.0
"""`statera up` with a state folder and ports of its own, as tests of the whole thing need it."""

import base64
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

BIN = Path(sys.executable).parent


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_args: object) -> None:
        """Silent."""


class Host:
    """A state folder with ports of its own, and the commands on it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.api, self.nodes = free_bind(), free_bind()
        self.running: subprocess.Popen[str] | None = None
        self.servers: list[ThreadingHTTPServer] = []

    def up(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.statera("up", "--api-bind", self.api, "--health-bind", self.nodes, *args)

    def statera(self, *args: str) -> subprocess.CompletedProcess[str]:
        argv = (str(BIN / "statera"), *args, "--state", str(self.state))
        return subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)

    def start(self) -> None:
        """`statera up` in the foreground, until it says that it is ready."""
        argv = (str(BIN / "statera"), "up", "--api-bind", self.api, "--health-bind", self.nodes,
                "--state", str(self.state))
        self.running = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.running.stdout is not None
        said = []
        for line in self.running.stdout:
            said.append(line)
            if "is ready after" in line:
                return
        raise AssertionError("".join(said))

    def call(self, path: str, **body: Any) -> Any:
        """GET, or POST *body*, as the administrator."""
        return self.send("POST" if body else "GET", path, **body)

    def send(self, verb: str, path: str, **body: Any) -> Any:
        """Any request as the administrator; what was answered, None for nothing."""
        cloud = msgspec.yaml.decode((self.state / "clouds.yaml").read_bytes())["clouds"]["statera"]["auth"]
        credentials = base64.b64encode(f"{cloud['username']}:{cloud['password']}".encode()).decode()
        request = urllib.request.Request(
            f"http://{self.api}/{path}", data=json.dumps(body).encode() if body else None, method=verb,
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            said = answer.read()
            return json.loads(said) if said else None

    def balance(self, cidr: str, gateway: str) -> str:
        """A load balancer whose only member is a web server on this host; its VIP, once it answers."""
        network = self.call("network/v2.0/networks", network={"name": "web"})["network"]
        subnet = self.call("network/v2.0/subnets", subnet={
            "network_id": network["id"], "cidr": cidr, "ip_version": 4})["subnet"]
        assert within(10, Path(f"/sys/class/net/{network['provider:physical_network']}/bridge").exists)
        within(5, lambda: self.serve(gateway))
        tree = {"name": "lb", "vip_subnet_id": subnet["id"], "listeners": [{
            "protocol": "HTTP", "protocol_port": 80, "default_pool": {
                "name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [
                    {"address": gateway, "protocol_port": self.servers[0].server_port}]}}]}
        vip: str = self.call("v2/lbaas/loadbalancers", loadbalancer=tree)["loadbalancer"]["vip_address"]
        assert within(20, lambda: status(vip) == 200)
        return vip

    def serve(self, address: str) -> bool:
        """Have a web server on *address*; False while the host does not bear it yet."""
        try:
            server = ThreadingHTTPServer((address, 0), Hello)
        except OSError:
            return False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers.append(server)
        return True

    def close(self) -> None:
        """Leave nothing behind."""
        if self.running is not None and self.running.poll() is None:
            self.interrupt()
        self.statera("down", "--purge")
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        assert self.running is not None
        self.running.send_signal(signal.SIGINT)
        self.running.communicate(timeout=60)
        return self.running.returncode

    def process(self, name: str) -> int | None:
        """The service's process, if there is one."""
        wanted = (str(BIN / name).encode(), str(self.state / "octavia.conf").encode())
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if all(word in line for word in wanted):
                return int(path.parent.name)
        return None


def free_bind() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def status(host: str) -> int:
    """Of one GET on a connection of its own; 0 for no answer."""
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def within(seconds: float, true: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()
