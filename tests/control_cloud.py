# SPDX-License-Identifier: Apache-2.0
"""The part of an OpenStack cloud that only keeps books, on this machine: a real Keystone, Neutron and Barbican.

Servers come from Debian's packages and live in a folder and on ports of their own, as long as the tests do.
"""

import atexit
import functools
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openstack
import pytest
import requests
from msgspec import Struct

from benchmarks import servers

TESTS = Path(__file__).parent
DEBIAN = "/usr/bin/python3"
KEYSTONES = (TESTS.parent / ".keystone" / "bin" / "python", Path(DEBIAN))
"""Which Python may have a Keystone: `script/test` makes the first."""

SERVICES = {"neutron": "network", "barbican": "key-manager", "octavia": "load-balancer"}
"""Who is in the service project, with the roles admin and service → what it serves; Octavia's place is ours."""
ROLES = ("service", "creator", "load-balancer_member", "load-balancer_admin", "load-balancer_observer",
         "load-balancer_quota_admin", "load-balancer_global_observer")
SECONDS = 180.0


class ControlCloud(Struct, frozen=True):
    """Where its servers keep their files, its administrator's words for `openstack.connect`, its servers by name."""

    folder: Path
    auth: dict[str, str]
    servers: dict[str, subprocess.Popen[bytes]]

    def connect(self) -> Any:
        return openstack.connect(load_envvars=False, load_yaml_config=False, auth=self.auth, region_name="RegionOne")


@functools.cache
def control_cloud_or_skip() -> ControlCloud:
    """The one of this test run; it ends with the run."""
    for module in ("neutron", "barbican"):
        if not has(Path(DEBIAN), module):
            pytest.skip(f"no OpenStack: python3-{module} is not installed; script/test installs it")
    if keystone() is None:
        pytest.skip("no OpenStack: there is no Keystone; script/test installs one in .keystone")
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(serving())


@functools.cache
def keystone() -> Path | None:
    return next((python for python in KEYSTONES if has(python, "keystone")), None)


def has(python: Path, module: str) -> bool:
    return python.exists() and subprocess.run(
        [python, "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"],
        check=False, env=clean("/")).returncode == 0


@contextmanager
def serving() -> Iterator[ControlCloud]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="st-cloud-")))
        ports = {name: free_port() for name in ("keystone", *SERVICES)}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        identity = f"{urls['keystone']}/v3"
        running = {}

        def start(name: str, python: object, script: Path, *more: str) -> None:
            home = folder / name
            home.mkdir()
            running[name] = stack.enter_context(server(home, python, script, home, ports[name], *more))

        start("keystone", keystone(), TESTS / "clients" / "keystone_server.py")
        start("barbican", DEBIAN, TESTS / "cloud" / "barbican_server.py", identity)
        database = servers.create_database(stack.enter_context(servers.mariadb()))
        start("neutron", DEBIAN, TESTS / "cloud" / "neutron_server.py", identity, database)
        auth = {"auth_url": identity, "username": "admin", "password": "secret", "project_name": "admin",
                "user_domain_id": "default", "project_domain_id": "default"}
        cloud = ControlCloud(folder, auth, running)
        answers(identity, running["keystone"], folder / "keystone" / "log")
        with cloud.connect() as connection:
            populate(connection.identity, urls)
        for name in ("barbican", "neutron"):
            answers(urls[name], running[name], folder / name / "log")
        yield cloud


@contextmanager
def server(home: Path, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """Ends with us, however we end."""
    with (home / "log").open("wb") as log, subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *map(str, command)], stdout=log, stderr=log, env=clean(str(home)), cwd=home,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def clean(home: str) -> dict[str, str]:
    """Nothing that leads Debian's Python to modules that are not Debian's."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home}


def populate(identity: Any, urls: dict[str, str]) -> None:
    roles = {role.name: role for role in identity.roles()}
    for name in set(ROLES) - roles.keys():
        roles[name] = identity.create_role(name=name)
    project = identity.create_project(name="service", domain_id="default")
    for name in SERVICES:
        user = identity.create_user(name=name, password="secret", domain_id="default")
        for role in ("admin", "service"):
            identity.assign_project_role_to_user(project, user, roles[role])
    for name, kind in SERVICES.items():
        service = identity.create_service(name=name, type=kind)
        identity.create_endpoint(service_id=service.id, interface="public", url=urls[name], region_id="RegionOne")


def answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when it does; fail with the log when it never will."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            requests.get(url, timeout=5).close()
            return
        except requests.ConnectionError:
            assert process.poll() is None, log.read_text(errors="replace")[-5000:]
            assert time.monotonic() < end, log.read_text(errors="replace")[-5000:]
            time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
