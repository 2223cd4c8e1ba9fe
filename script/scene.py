# SPDX-License-Identifier: Apache-2.0
"""What a demonstration needs around Statera: web servers in namespaces, clients, traffic, and a look at the host."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

BIN = Path(sys.executable).parent
PORT = 8080
PREFIX = "statera-demo-"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names

APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{text}"]
"""


class Failed(Exception):
    """The story cannot go on; the message says what did not happen."""


class Sample(NamedTuple):
    """One request: when it was sent, its status (0 for none) and what came back."""

    at: float
    status: int
    body: str


def run(*argv: str, **kw: Any) -> str:
    """The program's output; raise `Failed` with what it said if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, **kw)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_for(what: str, true: Callable[[], Any], seconds: float = 30.0) -> float:
    """How long it took until *true* was; raise `Failed` that names *what* after *seconds*."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            raise Failed(f"{what}: not after {seconds:g} s")
        time.sleep(0.01)
    return time.monotonic() - began


class Server:
    """A small web server in a network namespace of its own, plugged into a bridge."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder / name
        self.namespace, self.link = f"{PREFIX}{name}", f"stdemo-{name}"
        self.process: subprocess.Popen[bytes] | None = None

    def plug(self, bridge: str, prefix_length: int) -> None:
        peer = ("peer", "name", "eth0", "netns", self.namespace)
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "add", self.link, "type", "veth", *peer)
        run("ip", "link", "set", self.link, "master", bridge, "up")
        run("ip", "-n", self.namespace, "address", "add", f"{self.address}/{prefix_length}", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def start(self, kind: str) -> None:
        """*kind* is `http.server`, Python's own, or `granian`, a WSGI server."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "index.html").write_text(f"{self.name} ({kind})")
        (self.folder / "site_app.py").write_text(APP.format(text=f"{self.name} ({kind})"))
        commands = {
            "http.server": (sys.executable, "-m", "http.server", str(PORT), "--bind", self.address),
            "granian": (str(BIN / "granian"), "--interface", "wsgi", "--host", self.address, "--port", str(PORT),
                        "site_app:app"),
        }
        self.process = subprocess.Popen(
            ("ip", "netns", "exec", self.namespace, *commands[kind]), cwd=self.folder, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_for(f"server {self.name} answers", lambda: fetch(self.address, PORT).status == 200)

    def stop(self) -> None:
        """End every process of the namespace."""
        found = subprocess.run(("ip", "netns", "pids", self.namespace), capture_output=True, text=True)
        for pid in found.stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def remove(self) -> None:
        """Stop the server and unplug it; repeating is harmless."""
        self.stop()
        subprocess.run(("ip", "link", "delete", self.link), capture_output=True)
        subprocess.run(("ip", "netns", "delete", self.namespace), capture_output=True)


def fetch(host: str, port: int = 80) -> Sample:
    """One GET on a connection of its own."""
    at = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return Sample(at, answer.status, answer.read().decode())
    except (OSError, http.client.HTTPException) as error:
        return Sample(at, 0, repr(error))
    finally:
        connection.close()


class Load:
    """Requests one after the other from some threads, until stopped; every one is kept."""

    def __init__(self, host: str, threads: int = 4) -> None:
        self.samples: list[Sample] = []
        self._host, self._stop = host, threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            self.samples.append(fetch(self._host))

    @property
    def failed(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.status != 200]

    def first_from(self, name: str, since: float) -> float | None:
        """When the first request that *name* answered was sent, after *since*."""
        found = [sample.at for sample in self.samples if sample.at >= since and sample.body.startswith(name)]
        return min(found, default=None)


class Cloud:
    """Statera as its users meet it: the OpenStack client, and plain HTTP where a look must be quick."""

    def __init__(self, state: Path) -> None:
        self.clouds = state / "clouds.yaml"
        self.environment = os.environ | {
            "OS_CLIENT_CONFIG_FILE": str(self.clouds), "OS_CLOUD": "statera", "no_proxy": "127.0.0.1"}

    def openstack(self, *args: str) -> Any:
        """What the command answers, from its JSON."""
        text = run(str(BIN / "openstack"), *args, *(() if "delete" in args else ("-f", "json")), env=self.environment)
        return json.loads(text) if text.strip() else None

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """One call of the load balancing API; None for an object that is not there."""
        cloud = yaml.safe_load(self.clouds.read_text())["clouds"]["statera"]
        credentials = f"{cloud['auth']['username']}:{cloud['auth']['password']}".encode()
        request = urllib.request.Request(
            f"{cloud['load_balancer_endpoint_override']}/v2/lbaas/{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {b64encode(credentials).decode()}", "Content-Type": "application/json"},
        )
        try:
            with DIRECT.open(request, timeout=10) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Failed(f"{method} {path}: {error.code} {error.read().decode()}") from error


def footprint(words: Sequence[str]) -> list[str]:
    """What is on this host that has one of *words* in its name or command line."""
    links = [f"link {link['ifname']}" for link in json.loads(run("ip", "-json", "link"))]
    spaces = [f"namespace {line}" for line in run("ip", "netns").splitlines()]
    there = links + spaces + _processes() + [str(path) for path in Path("/run/statera").glob("*")]
    return [line for line in there if any(word in line for word in words)]


def links_of(bridge: str) -> list[str]:
    """The bridge and what is plugged into it."""
    return [bridge, *(link["ifname"] for link in json.loads(run("ip", "-json", "link", "show", "master", bridge)))]


def _processes() -> list[str]:
    """All but our own and those that started it."""
    found, own = [], _line_of_descent(os.getpid())
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if int(path.parent.name) not in own:
            found.append(f"process {path.parent.name} {line}")
    return found


def _line_of_descent(pid: int) -> set[int]:
    """The process, its parent, and so on."""
    found = set()
    while pid:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found
