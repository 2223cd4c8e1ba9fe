# SPDX-License-Identifier: Apache-2.0
"""Ansible's modules for load balancers, from the collection openstack.cloud."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from clients.page import Page

ROOT = Path(__file__).parent.parent.parent / ".ansible"
PLAYBOOK = Path(__file__).with_name("loadbalancer.yml")
MODULES = ROOT / "collections" / "ansible_collections" / "openstack" / "cloud" / "plugins" / "modules"

pytestmark = pytest.mark.skipif(not MODULES.exists(), reason="no Ansible; script/test installs it in .ansible")


def play(cloud, wanted, text="first"):
    """How many tasks changed something. Fail if one failed."""
    done = subprocess.run(
        [ROOT / "bin" / "ansible-playbook", "-i", "localhost,", "-e", f"wanted={wanted}", "-e", f"text={text}", "-e",
         f"ansible_python_interpreter={ROOT / 'bin' / 'python'}", PLAYBOOK],
        env=os.environ | {
            "OS_CLIENT_CONFIG_FILE": str(cloud.folder / "clouds.yaml"), "ANSIBLE_HOME": str(cloud.folder),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_LOCALHOST_WARNING": "false",
            "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"changed=(\d+)", done.stdout)[1])


@pytest.fixture
def subnet(cloud):
    with cloud.connect("admin") as admin:
        network = admin.network.create_network(name="ansible", is_shared=True)
        return admin.network.create_subnet(name="ansible", network_id=network.id, ip_version=4, cidr="192.0.2.0/24")


def names():
    """The modules about load balancers that come with the collection."""
    return {file.stem for file in MODULES.glob("*.py") if file.stem.startswith(("lb_", "loadbalancer"))}


def test_a_playbook_makes_what_it_says_once_and_removes_it(cloud, subnet):
    assert names() == set(re.findall(r"- openstack\.cloud\.(\w+):", PLAYBOOK.read_text()))
    assert play(cloud, "present") == 5
    assert play(cloud, "present") == 0
    assert play(cloud, "present", text="second") == 1
    assert play(cloud, "absent") == 5
    page = Page("Ansible: the modules of `openstack.cloud`")
    for name in names():
        page.add(name, "works")
    page.keep()
