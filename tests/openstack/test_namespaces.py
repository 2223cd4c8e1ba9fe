# SPDX-License-Identifier: Apache-2.0
"""Amphorae in namespaces of a network node: load balancers of a real cloud in seconds, without a virtual machine."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from openstack_cloud import PROGRAMS, run, until
from openstack_stories import active, amphorae, both, tree

from statera.agent import namespace

pytestmark = pytest.mark.usefixtures("traffic")


def test_a_whole_tree_by_the_unmodified_client(statera, street, monkeypatch):
    auth = street.tenant.connection.config.auth
    env = {**os.environ, **{f"OS_{name.upper()}": value for name, value in auth.items()}}
    for name in ("OS_USER_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME", "OS_CLOUD"):
        env.pop(name, None)

    def lb(*words):
        done = subprocess.run([str(PROGRAMS / "openstack"), "loadbalancer", *words, "--wait"], env=env, check=False,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    lb("create", "--name", "web", "--vip-subnet-id", street.vip.id)
    lb("listener", "create", "--name", "l", "--protocol", "HTTP", "--protocol-port", "80", "web")
    lb("pool", "create", "--name", "p", "--listener", "l", "--protocol", "HTTP", "--lb-algorithm", "ROUND_ROBIN")
    for server in street.servers:
        lb("member", "create", "--address", server.address, "--protocol-port", "8080", "--subnet-id",
           street.members.id, "p")
    [made] = street.tenant.connection.load_balancer.load_balancers()
    both(street, made.vip_address)


def test_from_the_wish_to_the_packet(statera, street):
    started = time.monotonic()
    lb = tree(street)
    active(street.tenant, lb)
    seconds = time.monotonic() - started
    both(street, lb.vip_address)
    print(f"\nACTIVE after {seconds:.2f} s, traffic after {time.monotonic() - started:.2f} s")


def test_a_floating_address_leads_to_the_vip(statera, street):
    lb = tree(street)
    active(street.tenant, lb)
    floating = street.tenant.connection.network.create_ip(
        floating_network_id=street.external_id, port_id=lb.vip_port_id)
    until(lambda: run("curl", "-s", "-m", "2", f"http://{floating.floating_ip_address}/", check=False) in (
        "server-1", "server-2"))
    street.tenant.connection.network.delete_ip(floating)


def test_only_who_is_allowed_gets_in(statera, street):
    balancer = street.tenant.connection.load_balancer
    lb = active(street.tenant, tree(street))
    both(street, lb.vip_address)
    listener = lb.listeners[0]["id"]
    balancer.update_listener(listener, allowed_cidrs=["192.0.2.0/24"])
    active(street.tenant, lb)
    until(lambda: street.get(lb.vip_address, seconds=1) == "")
    assert group_rules(street, lb) == {("tcp", 80, "192.0.2.0/24")}
    balancer.update_listener(listener, allowed_cidrs=["10.71.0.0/24"])
    active(street.tenant, lb)
    both(street, lb.vip_address)
    balancer.delete_listener(listener)
    active(street.tenant, lb)
    assert group_rules(street, lb) == set()


def group_rules(street, lb):
    """What lets anybody in but other amphorae of the load balancer."""
    [group] = street.admin.network.security_groups(name=f"lb-{lb.id}")
    return {(rule["protocol"], rule["port_range_min"], rule["remote_ip_prefix"])
            for rule in group.security_group_rules if rule["direction"] == "ingress" and not rule["remote_group_id"]}


def test_a_failover_keeps_the_vip(statera, street):
    lb = active(street.tenant, tree(street))
    [before] = amphorae(street, lb)
    street.admin.load_balancer.failover_load_balancer(lb.id)
    until(lambda: [one.id for one in amphorae(street, lb)] != [before.id] and len(amphorae(street, lb)) == 1)
    active(street.tenant, lb)
    both(street, lb.vip_address)


def test_a_port_of_the_tenants_own_holds_the_vip(statera, street):
    network = street.tenant.connection.network
    own = network.create_port(network_id=street.vip.network_id, name="mine")
    lb = tree(street, vip_subnet_id=None, vip_port_id=own.id)
    active(street.tenant, lb)
    assert lb.vip_address == own.fixed_ips[0]["ip_address"]
    both(street, lb.vip_address)
    street.tenant.connection.load_balancer.delete_load_balancer(lb, cascade=True)
    until(lambda: network.get_port(own.id).device_id == "")
    network.delete_port(own)


def test_of_a_pair_the_other_one_takes_over(statera, street):
    flavors = street.admin.load_balancer
    profile = flavors.create_flavor_profile(
        name="pair", provider_name="amphora", flavor_data='{"loadbalancer_topology": "ACTIVE_STANDBY"}')
    flavor = flavors.create_flavor(name="pair", flavor_profile_id=profile.id, is_enabled=True)
    lb = active(street.tenant, tree(street, flavor_id=flavor.id))
    both(street, lb.vip_address)
    holder = until(lambda: next((one for one in amphorae(street, lb) if bears(one.id, lb.vip_address)), None))
    victims = [int(path.read_text()) for path in Path("/run/statera").glob(f"{holder.id}/keepalived.pid")]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    both(street, lb.vip_address)
    street.tenant.connection.load_balancer.delete_load_balancer(lb, cascade=True)
    until(lambda: not list(street.tenant.connection.load_balancer.load_balancers()))
    flavors.delete_flavor(flavor)
    flavors.delete_flavor_profile(profile)


def bears(amphora_id, ip):
    if not namespace.exists(amphora_id):
        return False
    return f" {ip}/" in run("ip", "-n", namespace.name_of(amphora_id), "addr", "show", check=False)


def test_a_neutron_that_hangs_delays_and_nothing_more(statera, street):
    lab = Path(os.environ.get("LAB", "/var/lib/openstack-lab"))
    if not (lab / "pid" / "neutron-server").exists():
        pytest.skip("only the lab's Neutron may be stopped")
    session = int((lab / "pid" / "neutron-server").read_text().split()[0])
    lb = street.tenant.connection.load_balancer.create_load_balancer(name="late", vip_subnet_id=street.vip.id)
    os.killpg(session, signal.SIGSTOP)
    try:
        time.sleep(3)
    finally:
        os.killpg(session, signal.SIGCONT)
    active(street.tenant, lb)
