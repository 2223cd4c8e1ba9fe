# SPDX-License-Identifier: Apache-2.0
"""Neutron as the API in front: a real neutron-server with our plugin, and behind it our API with Keystone's tokens."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openstack_cloud as world
import pytest
from control_cloud import control_cloud_or_skip
from openstack_cloud import PROGRAMS, run, until

ROOT = Path(__file__).parent.parent.parent
NEUTRON = ["/usr/bin/python3", "-c", "from neutron.cmd.eventlet.server import main; main()"]
OF_THE_LAB = (Path("/etc/neutron/neutron.conf"), Path("/etc/neutron/plugins/ml2/ml2_conf.ini"))
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
OURS = """\
[DEFAULT]
state_path = {folder}
[api_settings]
bind_host = {host}
bind_port = {port}
auth_strategy = keystone
[controller_worker]
compute_driver = noop
network_driver = noop
[keystone_authtoken]
auth_type = password
{login}
"""
LOGIN = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name",
         "user_domain_id", "project_domain_id")


class Front:
    """Neutron's endpoint, asked with a token or without."""

    def __init__(self, url: str, admin: Any) -> None:
        self.url, self.admin = url, admin

    def ask(self, verb: str, path: str, body: Any = None, *, authenticated: bool = True) -> Any:
        return self.admin.session.request(
            f"{self.url}/v2.0{path}", verb, json=body, raise_exc=False, authenticated=authenticated)

    def is_up(self) -> bool:
        try:
            return bool(self.ask("GET", "/extensions/lbaasv2").status_code == 200)
        except Exception:  # keystoneauth has a class for each way in which nobody listens
            return False


@pytest.fixture(scope="module")
def front(admin: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    neutron, *more = OF_THE_LAB if world.is_named() else [control_cloud_or_skip().folder / "neutron" / "neutron.conf"]
    if not neutron.exists():
        pytest.skip(f"{neutron} is not here: only lab/openstack-up's machine can run a neutron-server of its own")
    folder = tmp_path_factory.mktemp("front")
    login = "\n".join(re.findall(rf"(?m)^(?:{'|'.join(LOGIN)}) = .*$", service_user(neutron.read_text())))
    host = re.search(r"(?m)^bind_host = (.*)$", neutron.read_text())[1]  # type: ignore[index]
    ours, theirs = free_port(host), free_port(host)
    (folder / "octavia.conf").write_text(OURS.format(folder=folder, host=host, port=ours, login=login))
    (folder / "neutron.conf").write_text(theirs_of(neutron.read_text(), port=theirs))
    (folder / "neutron_lbaas.conf").write_text(f"[service_auth]\nauth_type = password\n{login}\n")
    (folder / "services_lbaas.conf").write_text(f"[octavia]\nbase_url = http://{host}:{ours}\n")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "site"), str(ROOT))
    run(str(PROGRAMS / "octavia-db-manage"), "--config-file", str(folder / "octavia.conf"), "upgrade", "head")
    system = {**os.environ, "PATH": SYSTEM_PATH, "PYTHONPATH": str(folder / "site")}
    with ExitStack() as stack:
        for name in ("octavia-api", "octavia-worker"):
            stack.enter_context(running([str(PROGRAMS / name), "--config-file", str(folder / "octavia.conf")], folder))
        stack.enter_context(running([
            *NEUTRON, *(f"--config-file={file}" for file in (folder / "neutron.conf", *more))], folder, env=system))
        found = Front(f"http://{host}:{theirs}", admin)
        until(found.is_up)
        yield found


def service_user(text: str) -> str:
    """Who Neutron is: a service token counts only from somebody with the role of a service."""
    return text.partition("[keystone_authtoken]\n")[2].partition("\n[")[0]


def theirs_of(text: str, *, port: int) -> str:
    """A neutron.conf for a second neutron-server, with the plugin."""
    text = re.sub(r"(?m)^bind_port = .*\n", "", text)
    text = re.sub(r"(?m)^(service_plugins) = .*$", r"\1 = router,statera_lbaas", text)
    text = re.sub(r"(?m)^(bind_host = .*)$", rf"\1\nbind_port = {port}", text)
    return re.sub(r"(?m)^(rpc_workers) = .*$", r"\1 = 0", text)


def free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str], folder: Path, env: Any = None) -> Iterator[None]:
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        process.wait(world.SECONDS)
        print(f"{log.name}: {log.read_text()[-1500:]}")


def test_a_load_balancer_lives_on_neutrons_endpoint(front: Front) -> None:
    made = front.ask("POST", "/lbaas/loadbalancers", {"loadbalancer": {"name": "front", "vip_subnet_id": SUBNET}})
    assert made.status_code == 201, made.text
    path = f"/lbaas/loadbalancers/{made.json()['loadbalancer']['id']}"
    until(lambda: front.ask("GET", path).json()["loadbalancer"]["provisioning_status"] == "ACTIVE")
    shown = front.ask("GET", f"{path}?fields=name").json()
    assert shown == {"loadbalancer": {"name": "front"}}
    listed = front.ask("GET", "/lbaas/loadbalancers?name=front&limit=1").json()["loadbalancers"]
    assert [each["id"] for each in listed] == [made.json()["loadbalancer"]["id"]]
    assert front.ask("PUT", path, {"loadbalancer": {"name": "new"}}).json()["loadbalancer"]["name"] == "new"
    assert front.ask("DELETE", f"{path}?cascade=true").status_code == 204
    until(lambda: front.ask("GET", path).status_code == 404)


def test_refusals_are_said_in_both_forms(front: Front) -> None:
    refused = front.ask("GET", "/lbaas/pools/no-such-pool")
    assert refused.status_code == 404
    assert refused.json()["faultstring"] == refused.json()["NeutronError"]["message"] == "Pool no-such-pool not found."


def test_nobody_comes_in_without_a_token_and_neutron_serves_its_own(front: Front) -> None:
    assert front.ask("GET", "/lbaas/loadbalancers", authenticated=False).status_code == 401
    assert front.ask("GET", "/networks").status_code == 200
    assert front.ask("GET", "/extensions/lbaasv2").json()["extension"]["name"] == "Load balancing service"
