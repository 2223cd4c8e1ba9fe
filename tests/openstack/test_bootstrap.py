# SPDX-License-Identifier: Apache-2.0
"""A cloud is prepared by one command, checked by another, and taken back by a third."""

import subprocess

import pytest
from click.testing import CliRunner
from openstack_cloud import environment, service_auth

from statera.commands.openstack import cloud


@pytest.fixture
def say(admin, tmp_path):
    """Run a command; its exit status and what it says. The cloud is that of the environment."""
    configuration = tmp_path / "etc" / "octavia.conf"

    def run(*words):
        command = [*words, "--configuration", str(configuration), "--load-balancers", "7"]
        done = CliRunner().invoke(cloud, command, env=environment())
        return done.exit_code, done.output

    run.configuration = configuration
    return run


@pytest.fixture
def with_key(tmp_path):
    """Options for a public key that is new."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return "--ssh-key", str(tmp_path / "key.pub")


def test_prepare_check_and_take_back(machines, say, with_key, admin):
    password = service_auth(admin).password
    status, planned = say("bootstrap", "--dry-run")
    assert status == 0
    assert "flavor of machines: missing, would be made" in planned
    assert not say.configuration.exists()
    try:
        status, made = say("bootstrap", "--password", password, *with_key)
        assert status == 0, made
        assert "flavor of machines: statera-amphora: 1 CPU, 512 MB, 2 GB" in made
        assert "is written" in made
        assert say.configuration.stat().st_mode & 0o777 == 0o600
        flavor = admin.compute.find_flavor("statera-amphora")
        assert f"amp_flavor_id = {flavor.id}" in say.configuration.read_text()
        assert "amp_ssh_key_name = statera" in say.configuration.read_text()
        assert admin.compute.find_keypair("statera", user_id=admin.identity.find_user("octavia").id)
        status, again = say("bootstrap", *with_key)
        assert status == 0
        assert "missing" not in again.replace("still missing", "")
        assert "is kept as it is" in again
        _, found = say("doctor")
        assert "ok      quotas of the service project" in found
        assert "MISSING flavor" not in found
    finally:
        status, gone = say("teardown", "--yes", *with_key)
    assert status == 0, gone
    assert "SSH key: statera removed" in gone
    assert "flavor of machines: statera-amphora removed" in gone
    assert admin.compute.find_flavor("statera-amphora") is None
    status, found = say("doctor")
    assert status == 1
    assert "MISSING flavor of machines: `statera openstack bootstrap` makes it" in found


def test_namespaces_need_less(say, admin):
    how = ("--compute-driver", "hosts")
    status, made = say("bootstrap", "--password", service_auth(admin).password, *how)
    try:
        assert status == 0, made
        assert "machines" not in made
        assert "compute_driver = hosts\n" in say.configuration.read_text()
        status, found = say("doctor", *how)
        assert status == 0, found
        assert "MISSING" not in found
    finally:
        status, gone = say("teardown", "--yes", *how)
    assert status == 0, gone
    assert admin.identity.find_user("octavia")


def test_what_others_made_stays(machines, say, admin):
    say("teardown", "--yes")
    assert admin.identity.find_user("octavia")
    assert admin.network.find_network("lb-mgmt-net")
