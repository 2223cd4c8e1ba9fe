# SPDX-License-Identifier: Apache-2.0
"""The OpenStack cloud that the environment names (OS_CLOUD, or OS_AUTH_URL and friends), as its administrator.

`script/test-openstack` names the one of `lab/openstack-up`. Without any it is a cloud that only keeps books, and tests
that need machines or traffic are skipped.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import openstack
import pytest
from control_cloud import control_cloud_or_skip
from msgspec import Struct

from statera.config import Endpoint, ServiceAuth
from statera.drivers.cloud import Cloud, Service
from statera.drivers.protocols import Caller

WARNINGS = ("DeprecationWarning", "PendingDeprecationWarning")
"""The SDK warns about parts of itself."""


PROGRAMS = Path(sys.executable).parent
SECONDS = 120.0
"""Longest wait for anything: clouds are slow."""


def until(claim: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
    """Wait for something true and return it."""
    end = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.1)
    return found


def run(*command: str, check: bool = True) -> str:
    """What the command says."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Tenant(Struct, frozen=True):
    """A user who is a member of a project of the same name."""

    name: str
    caller: Caller
    connection: Any

    @property
    def project_id(self) -> str:
        return str(self.caller.project_id)


def cloud_or_skip() -> Any:
    """The administrator's connection."""
    return openstack.connect() if is_named() else control_cloud_or_skip().connect()


def is_named() -> bool:
    return bool(os.environ.get("OS_CLOUD") or os.environ.get("OS_AUTH_URL"))


def environment() -> dict[str, str]:
    """What names the cloud to a command, beside our own environment."""
    if is_named():
        return {}
    auth = {f"OS_{name.upper()}": value for name, value in control_cloud_or_skip().auth.items()}
    return {**auth, "OS_REGION_NAME": "RegionOne"}


def has_machines(connection: Any) -> bool:
    access = connection.session.auth.get_access(connection.session)
    return any(service["type"] == "compute" for service in access.service_catalog.catalog)


def need_machines(connection: Any) -> None:
    if not has_machines(connection):
        pytest.skip("this cloud has no Nova; script/test-openstack starts one that has")


def need_traffic(connection: Any) -> None:
    if not any(agent.agent_type == "DHCP agent" and agent.is_alive for agent in connection.network.agents()):
        pytest.skip("no agents plug this cloud's ports; script/test-openstack starts one that has some")


PLUGGERS = ("Linux bridge agent", "Open vSwitch agent")


def plugger(connection: Any) -> Any:
    """The agent that plugs the ports of a host, of several the first."""
    return next(agent for agent in sorted(connection.network.agents(), key=lambda agent: str(agent.host))
                if agent.agent_type in PLUGGERS)


def service_auth(connection: Any) -> ServiceAuth:
    """The administrator as our service user."""
    auth = connection.config.auth
    names = [name for name in ServiceAuth.__struct_fields__ if name in auth]
    return ServiceAuth(**{name: auth[name] for name in names})


def service(connection: Any, name: str, title: str) -> Service:
    return Cloud(service_auth(connection)).service(name, title, Endpoint(region_name=connection.config.region_name))


@contextmanager
def tenants(admin: Any, count: int) -> Iterator[list[Tenant]]:
    """Members of as many new projects, which are removed afterwards."""
    made = []
    try:
        for _ in range(count):
            made.append(_tenant(admin, f"statera-test-{uuid4().hex[:8]}"))
        yield made
    finally:
        for tenant in made:
            tenant.connection.close()
            admin.identity.delete_user(admin.identity.find_user(tenant.name))
            admin.identity.delete_project(tenant.project_id)


def _tenant(admin: Any, name: str) -> Tenant:
    identity, password = admin.identity, uuid4().hex
    project = identity.create_project(name=name, domain_id="default")
    user = identity.create_user(name=name, password=password, domain_id="default", default_project_id=project.id)
    for role in ("member", "load-balancer_member", "creator"):
        if found := identity.find_role(role):
            identity.assign_project_role_to_user(project, user, found)
    auth = {"auth_url": admin.config.auth["auth_url"], "username": name, "password": password, "project_name": name,
            "user_domain_id": "default", "project_domain_id": "default"}
    connection = openstack.connect(
        load_envvars=False, load_yaml_config=False, auth=auth, region_name=admin.config.region_name)
    return Tenant(name, Caller(project_id=project.id, token=connection.auth_token), connection)
