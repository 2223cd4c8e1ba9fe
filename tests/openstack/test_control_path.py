# SPDX-License-Identifier: Apache-2.0
"""Load balancers in the books of a real Keystone and a real Neutron, whether or not anybody plugs their ports."""

import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from control_cloud import control_cloud_or_skip
from openstack.exceptions import ConflictException
from openstack_cloud import is_named, until
from openstack_stories import active, amphorae

LISTENER = {"protocol": "HTTP", "protocol_port": 80}
PAIR = '{"loadbalancer_topology": "ACTIVE_STANDBY"}'


@pytest.fixture(scope="module")
def worker():
    """What failed is tried again soon."""
    return "retry_max_seconds = 2"


def wish(lot, **more):
    asked = {"vip_subnet_id": lot.vip.id, "listeners": [LISTENER]} | more
    return lot.tenant.connection.load_balancer.create_load_balancer(name="web", **asked)


def made(lot, **more):
    return active(lot.tenant, wish(lot, **more))


def rules(lot, lb):
    [group] = lot.admin.network.security_groups(name=f"lb-{lb.id}")
    return {(rule["protocol"], rule["port_range_min"], rule["remote_ip_prefix"], rule["remote_group_id"] == group.id)
            for rule in group.security_group_rules if rule["direction"] == "ingress"}


def events(statera, lb):
    """What the operator reads."""
    return statera.say("lb", "events", lb.id)


def test_what_is_made_for_a_load_balancer_and_that_it_ends_with_it(statera, lot):
    lb = made(lot)
    [amphora] = amphorae(lot, lb)
    ports = {port.name: port for port in lot.ports()}
    assert set(ports) == {f"octavia-lb-{lb.id}", f"octavia-lb-vrrp-{amphora.id}"}
    vrrp = ports[f"octavia-lb-vrrp-{amphora.id}"]
    assert (vrrp.id, vrrp.device_id) == (amphora.vrrp_port_id, amphora.id)
    assert [pair["ip_address"] for pair in vrrp.allowed_address_pairs] == [lb.vip_address]
    assert ports[f"octavia-lb-{lb.id}"].project_id == lot.tenant.project_id
    assert rules(lot, lb) >= {("tcp", 80, None, False)}
    lot.tenant.connection.load_balancer.delete_load_balancer(lb, cascade=True)
    until(lambda: not lot.ports())


def test_the_group_follows_the_listeners(statera, lot):
    balancer, lb = lot.tenant.connection.load_balancer, made(lot)
    [listener] = lb.listeners
    balancer.update_listener(listener["id"], allowed_cidrs=["192.0.2.0/24"])
    active(lot.tenant, lb)
    assert {rule for rule in rules(lot, lb) if rule[1] == 80} == {("tcp", 80, "192.0.2.0/24", False)}


def test_a_failover_keeps_the_vips_port(statera, lot):
    lb = made(lot)
    [before] = amphorae(lot, lb)
    lot.admin.load_balancer.failover_load_balancer(lb.id)
    until(lambda: [one.id for one in amphorae(lot, lb)] != [before.id] and len(amphorae(lot, lb)) == 1)
    after = active(lot.tenant, lb)
    assert (after.vip_port_id, after.vip_address) == (lb.vip_port_id, lb.vip_address)
    until(lambda: len(lot.ports()) == 2)


def test_the_two_of_a_pair_may_speak_with_each_other(statera, lot):
    flavors = lot.admin.load_balancer
    profile = flavors.create_flavor_profile(name="pair", provider_name="amphora", flavor_data=PAIR)
    flavor = flavors.create_flavor(name="pair", flavor_profile_id=profile.id, is_enabled=True)
    lb = made(lot, flavor_id=flavor.id, listeners=[])
    assert rules(lot, lb) == {("vrrp", None, None, True), ("tcp", 1025, None, True), ("udp", 1024, None, True)}
    lot.tenant.connection.load_balancer.delete_load_balancer(lb, cascade=True)
    until(lambda: not list(lot.tenant.connection.load_balancer.load_balancers()))
    flavors.delete_flavor(flavor)
    flavors.delete_flavor_profile(profile)


@pytest.mark.parametrize("own", [False, True], ids=["a new port", "a port of the tenant's"])
def test_a_wish_that_is_refused_leaves_the_ports_as_they_were(statera, lot, own):
    port = lot.tenant.connection.network.create_port(network_id=lot.vip.network_id) if own else None
    where = {"vip_subnet_id": None, "vip_port_id": port.id} if port else {}
    with pytest.raises(ConflictException, match="already using protocol HTTP and protocol_port 80"):
        wish(lot, listeners=[LISTENER, LISTENER], **where)
    assert [(one.id, one.device_id) for one in lot.ports()] == ([(port.id, "")] if port else [])
    if port:
        lot.tenant.connection.network.delete_port(port)


# A cloud in trouble.


def test_a_quota_that_was_met_is_told_and_when_it_is_raised_nobody_has_to_do_anything(statera, lot):
    service = lot.admin.session.get_project_id()
    before = lot.admin.network.get_quota(service)
    lot.admin.network.update_quota(service, security_groups=0)
    try:
        lb = wish(lot)
        until(lambda: "quota_met" in events(statera, lb))
        assert "Neutron refuses: Quota exceeded for resources: ['security_group']" in events(statera, lb)
    finally:
        lot.admin.network.update_quota(service, security_groups=before.security_groups)
    active(lot.tenant, lb)


def test_an_amphoras_port_that_is_gone_comes_back_with_a_failover(statera, lot):
    lb = made(lot)
    [before] = amphorae(lot, lb)
    lot.admin.network.delete_port(before.vrrp_port_id)
    lot.admin.load_balancer.failover_load_balancer(lb.id)
    until(lambda: len(lot.ports()) == 2)
    active(lot.tenant, lb)
    assert [one.vrrp_port_id for one in amphorae(lot, lb)] != [before.vrrp_port_id]


def test_a_vips_port_that_is_gone_comes_back_with_its_addresses(statera, lot):
    lb = made(lot)
    lot.admin.network.delete_port(lb.vip_port_id)
    lot.admin.load_balancer.failover_load_balancer(lb.id)
    until(lambda: lot.tenant.connection.load_balancer.get_load_balancer(lb.id).vip_port_id != lb.vip_port_id)
    active(lot.tenant, lb)
    after = lot.tenant.connection.load_balancer.get_load_balancer(lb.id)
    port = lot.admin.network.get_port(after.vip_port_id)
    assert [one["ip_address"] for one in port.fixed_ips] == [lb.vip_address] == [after.vip_address]
    assert port.name == f"octavia-lb-{lb.id}"
    assert "port_restored" in events(statera, lb)


def test_a_vips_address_that_another_has_since_is_told(statera, lot):
    lb = made(lot)
    lot.admin.network.delete_port(lb.vip_port_id)
    stranger = lot.admin.network.create_port(
        network_id=lot.vip.network_id, fixed_ips=[{"subnet_id": lot.vip.id, "ip_address": lb.vip_address}])
    lot.admin.load_balancer.failover_load_balancer(lb.id)
    until(lambda: "gone and cannot be made anew" in events(statera, lb))
    lot.admin.network.delete_port(stranger)
    until(lambda: lot.tenant.connection.load_balancer.get_load_balancer(lb.id).vip_port_id != lb.vip_port_id)
    active(lot.tenant, lb)


def test_a_network_that_is_gone_is_told_and_the_load_balancer_can_be_deleted(statera, lot):
    lb = made(lot)
    for port in lot.ports():
        lot.admin.network.delete_port(port)
    lot.admin.network.delete_network(lot.vip.network_id)
    lot.admin.load_balancer.failover_load_balancer(lb.id)
    until(lambda: f"subnet {lot.vip.id} is no more in Neutron" in events(statera, lb))
    until(lambda: lot.admin.load_balancer.get_load_balancer(lb.id).provisioning_status == "ERROR")


def test_a_neutron_that_hangs_delays_and_nothing_more(statera, lot):
    lb = made(lot)
    with hanging_neutron():
        lot.tenant.connection.load_balancer.update_listener(lb.listeners[0]["id"], allowed_cidrs=["192.0.2.0/24"])
        until(lambda: lot.admin.load_balancer.get_load_balancer(lb.id).provisioning_status == "PENDING_UPDATE")
    active(lot.tenant, lb)
    assert {rule for rule in rules(lot, lb) if rule[1] == 80} == {("tcp", 80, "192.0.2.0/24", False)}


@contextmanager
def hanging_neutron():
    """It takes connections and answers nobody."""
    lab = Path(os.environ.get("LAB", "/var/lib/openstack-lab")) / "pid" / "neutron-server"
    if is_named() and not lab.exists():
        pytest.skip("only a Neutron of our own may be stopped")
    leader = int(lab.read_text().split()[0]) if is_named() else control_cloud_or_skip().servers["neutron"].pid
    os.killpg(leader, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(leader, signal.SIGCONT)
