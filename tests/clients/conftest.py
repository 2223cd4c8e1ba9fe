# SPDX-License-Identifier: Apache-2.0
"""A cloud of a real Keystone and our own `octavia-api` and `octavia-worker`, with amphorae that only pretend."""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import openstack
import pytest
import requests
from msgspec import Struct

ROOT = Path(__file__).parent.parent.parent
KEYSTONE = ROOT / ".keystone" / "bin" / "python"
PROGRAMS = Path(sys.executable).parent

ROLES = {
    "admin": ("admin", "member", "reader"), "member": ("member", "reader"), "reader": ("reader",),
    "observer": ("load-balancer_observer",), "octavia": ("service", "admin"), "forger": ("member",),
}
PROJECTS = ("demo", "other", "service")
"""Users of the project demo, and their roles; octavia's are in the project service."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """The SDK warns about parts of itself."""
    for category in ("DeprecationWarning", "PendingDeprecationWarning"):
        item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}"))


class Cloud(Struct, frozen=True):
    """Where things listen, and who may ask."""

    keystone: str
    api: str
    folder: Path

    def connect(self, user: str, *, project: str = "demo") -> Any:
        """The SDK's connection for one of `ROLES`."""
        return openstack.connect(load_envvars=False, load_yaml_config=False, **self.login(user, project=project))

    def login(self, user: str, *, project: str = "demo") -> dict[str, Any]:
        return {
            "auth": {"auth_url": self.keystone, "username": user, "password": "secret", "project_name": project,
                     "user_domain_id": "default", "project_domain_id": "default"},
            "region_name": "RegionOne", "interface": "public", "identity_api_version": "3",
        }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running(*command: object, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended afterwards."""
    with log.open("wb") as output, subprocess.Popen(
        list(map(str, command)), stdout=output, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, *, seconds: float = 90) -> None:
    """Return when *url* answers; fail with the log when the process is gone or takes too long."""
    until = time.monotonic() + seconds
    with requests.Session() as session:
        while True:
            try:
                session.get(url, timeout=5)
                return
            except requests.ConnectionError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Keystone of our own, with users, roles and projects."""
    if not KEYSTONE.exists():
        pytest.skip("no Keystone; script/test installs one in .keystone")
    folder, port = tmp_path_factory.mktemp("keystone"), free_port()
    log, url = folder / "server.log", f"http://127.0.0.1:{port}/v3"
    server = Path(__file__).with_name("keystone_server.py")
    with running(KEYSTONE, server, folder, port, log=log) as process:
        wait_for(url, process, log)
        populate(url)
        yield url


def populate(url: str) -> None:
    with openstack.connect(load_envvars=False, load_yaml_config=False, **Cloud(url, "", Path()).login(
            "admin", project="admin")) as connection:
        identity = connection.identity
        roles = {role.name: role for role in identity.roles()}
        for name in {name for names in ROLES.values() for name in names} - roles.keys():
            roles[name] = identity.create_role(name=name)
        projects = {name: identity.create_project(name=name, domain_id="default") for name in PROJECTS}
        for user, names in ROLES.items():
            found = identity.find_user(user) or identity.create_user(name=user, password="secret", domain_id="default")
            project = projects["service" if user == "octavia" else "demo"]
            for name in names:
                identity.assign_project_role_to_user(project, found, roles[name])
        identity.assign_project_role_to_user(projects["other"], identity.find_user("reader"), roles["member"])


CONFIGURATION = """
[DEFAULT]
state_path = {folder}/state
[database]
connection = sqlite:///{folder}/octavia.db
[api_settings]
bind_port = {port}
auth_strategy = keystone
enabled_provider_drivers = amphora:The Octavia Amphora driver.,octavia:Its alias.,noop_driver:The no-op driver.
default_provider_driver = amphora
{api}
[controller_worker]
compute_driver = noop
network_driver = local
[certificates]
cert_manager = noop
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = octavia
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
service_token_roles = service
service_token_roles_required = true
{more}
"""


@pytest.fixture(scope="session")
def clouds(keystone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cloud]]:
    """Makes clouds with options of their own."""
    with ExitStack() as stack:
        def make(*, api: str = "", more: str = "") -> Cloud:
            folder, port = tmp_path_factory.mktemp("cloud"), free_port()
            file = folder / "octavia.conf"
            file.write_text(CONFIGURATION.format(folder=folder, port=port, keystone=keystone, api=api, more=more))
            (folder / "state").mkdir(mode=0o700)
            subprocess.run([PROGRAMS / "octavia-db-manage", "--config-file", file, "upgrade", "head"], check=True,
                           capture_output=True)
            for program in ("octavia-api", "octavia-worker"):
                log = folder / f"{program}.log"
                process = stack.enter_context(running(PROGRAMS / program, "--config-file", file, log=log))
                if program == "octavia-api":
                    wait_for(f"http://127.0.0.1:{port}/", process, log)
            return Cloud(keystone, f"http://127.0.0.1:{port}", folder)

        yield make


@pytest.fixture(scope="session")
def cloud(clouds: Callable[..., Cloud]) -> Cloud:
    """The cloud that the service catalogue leads to; `openstack` knows its users by name."""
    made = clouds()
    with made.connect("admin") as connection:
        for type, url in (("load-balancer", made.api), ("network", f"{made.api}/network")):
            service = connection.identity.create_service(name=type, type=type)
            connection.identity.create_endpoint(
                service_id=service.id, interface="public", url=url, region_id="RegionOne")
    file = made.folder / "clouds.yaml"
    file.write_bytes(msgspec.yaml.encode({"clouds": {name: made.login(name) for name in ROLES if name != "octavia"}}))
    return made


PATIENCE_SECONDS = 120


class Shell:
    """The `openstack` command as *user* types it."""

    def __init__(self, process: subprocess.Popen[bytes], user: str) -> None:
        self._process, self._user = process, user

    def run(self, *words: str) -> str:
        """What it prints. Fail with what it complained about."""
        status, said, complained = self.try_to(*words)
        assert status == 0, (words, complained, said)
        return said

    def show(self, *words: str) -> Any:
        """What it prints, as data."""
        return msgspec.json.decode(self.run(*words, "-f", "json"))

    def try_to(self, *words: str) -> tuple[int, str, str]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(["--os-cloud", self._user, *words]) + b"\n")
        stdin.flush()
        assert select.select([stdout], [], [], PATIENCE_SECONDS)[0], f"openstack {' '.join(words)} does not end"
        return msgspec.json.decode(stdout.readline(), type=tuple[int, str, str])


@pytest.fixture(scope="session")
def shell(cloud: Cloud) -> Iterator[Callable[[str], Shell]]:
    """The command for any user of the cloud."""
    program = Path(__file__).with_name("shell.py")
    environment = os.environ | {"OS_CLIENT_CONFIG_FILE": str(cloud.folder / "clouds.yaml")}
    with (cloud.folder / "shell.log").open("wb") as log, subprocess.Popen(
        [sys.executable, "-W", "ignore", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        env=environment,
    ) as process:
        yield lambda user: Shell(process, user)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)
