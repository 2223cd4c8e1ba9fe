# SPDX-License-Identifier: Apache-2.0
"""Amphorae in virtual machines: Nova boots the image, the agent joins, traffic passes."""

import re
import time
from datetime import datetime

import pytest
from openstack_cloud import until
from openstack_stories import active, amphorae, both, tree

BOOT_SECONDS = 300.0
"""A guest without KVM takes about a minute, and others may need the processors too."""
APART = "[nova]\nenable_anti_affinity = True\nanti_affinity_policy = soft-anti-affinity"


@pytest.fixture(scope="module", autouse=True)
def by_nova(machines, traffic, admin, statera):
    """The same services, with machines from now on."""
    if not list(admin.image.images(tag="amphora")):
        pytest.skip("no image with the tag amphora; `statera image build` and `statera image upload` make one")
    network = next(net for net in admin.network.networks() if net.name.endswith("mgmt-net"))
    flavor = admin.compute.find_flavor("m1.amphora")
    statera.down()
    worker = f"amp_boot_network_list = {network.id}\namp_flavor_id = {flavor.id}\n{APART}"
    statera.configure(compute="nova", worker=worker)
    statera.up()


def servers(street, lb):
    made = street.admin.compute.servers(details=True, name="^amphora-")
    return [server for server in made if server.metadata.get("load_balancer_id") == lb.id]


def scheduled(street, lb, *, count):
    """All servers, once there are so many and each has a host."""
    found = servers(street, lb)
    return found if len(found) == count and all(one.compute_host for one in found) else None


def dialled_in(statera):
    """When the newest machine had booted and its agent was heard, by the clock that logs use."""
    log = (statera.state / "log" / "octavia-health-manager.log").read_text()
    said = re.findall(r"(\d+-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) .*node \S+ \(amphora-\S+\) connected", log)
    return datetime.fromisoformat(said[-1])


def test_from_the_wish_to_the_packet_through_a_machine_and_its_successor(statera, street):
    started = time.monotonic()
    lb = tree(street)
    [server] = until(lambda: [one for one in servers(street, lb) if one.status == "ACTIVE"], seconds=BOOT_SECONDS)
    by_nova = time.monotonic() - started
    active(street.tenant, lb, seconds=BOOT_SECONDS)
    ready, dialled = time.monotonic() - started, dialled_in(statera)
    own = (datetime.now() - dialled).total_seconds()
    both(street, lb.vip_address)
    print(f"\nserver ACTIVE after {by_nova:.1f} s, load balancer ACTIVE after {ready:.1f} s, {own:.1f} s"
          f" after its machine was there,"
          f" traffic after {time.monotonic() - started:.1f} s")
    print(server.name, server.addresses)
    [amphora] = amphorae(street, lb)
    assert (amphora.compute_id, server.name) == (server.id, f"amphora-{amphora.id}")
    assert amphora.lb_network_ip in str(server.addresses)
    nics = [each.net_id for each in street.admin.compute.server_interfaces(server)]
    assert set(nics) >= {street.vip.network_id, street.members.network_id}

    street.admin.load_balancer.failover_load_balancer(lb.id)
    until(lambda: [one.id for one in servers(street, lb)] not in ([], [server.id])
          and len(servers(street, lb)) == 1, seconds=BOOT_SECONDS)
    active(street.tenant, lb, seconds=BOOT_SECONDS)
    both(street, lb.vip_address)
    print(f"replaced after {time.monotonic() - started - ready:.1f} s")


def test_a_member_network_is_plugged_into_the_running_machine(statera, street):
    balancer = street.tenant.connection.load_balancer
    listener = {"protocol": "HTTP", "protocol_port": 80}
    lb = balancer.create_load_balancer(name="later", vip_subnet_id=street.vip.id, listeners=[listener])
    lb = active(street.tenant, lb, seconds=BOOT_SECONDS)
    pool = balancer.create_pool(listener_id=lb.listeners[0]["id"], protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    for server in street.servers:
        balancer.create_member(pool, address=server.address, protocol_port=8080, subnet_id=street.members.id)
    active(street.tenant, lb, seconds=BOOT_SECONDS)
    both(street, lb.vip_address)


def test_a_server_that_was_deleted_behind_our_back_is_replaced(statera, street):
    lb = active(street.tenant, tree(street), seconds=BOOT_SECONDS)
    [server] = servers(street, lb)
    street.admin.compute.delete_server(server)
    until(lambda: [one.id for one in servers(street, lb)] not in ([], [server.id]), seconds=BOOT_SECONDS)
    until(lambda: street.get(lb.vip_address), seconds=BOOT_SECONDS)


def test_a_pair_is_kept_apart_in_the_zone_that_was_asked_for(statera, street):
    balancer, name = street.admin.load_balancer, "statera-test"
    zone = next(zone.name for zone in street.admin.compute.availability_zones() if zone.state["available"])
    pair = balancer.create_flavor_profile(
        name=name, provider_name="amphora", flavor_data='{"loadbalancer_topology": "ACTIVE_STANDBY"}')
    flavor = balancer.create_flavor(name=name, flavor_profile_id=pair.id, is_enabled=True)
    data = f'{{"compute_zone": "{zone}"}}'
    place = balancer.create_availability_zone_profile(
        name=name, provider_name="amphora", availability_zone_data=data)
    balancer.create_availability_zone(name=name, availability_zone_profile_id=place.id, is_enabled=True)
    lb = tree(street, flavor_id=flavor.id, availability_zone=name)
    two = until(lambda: scheduled(street, lb, count=2), seconds=BOOT_SECONDS)
    assert {one.availability_zone for one in two} == {zone}
    [group] = [group for group in street.admin.compute.server_groups() if group.name == f"octavia-lb-{lb.id}"]
    assert sorted(group.member_ids) == sorted(one.id for one in two)
    assert "soft-anti-affinity" in (group.policy, *(group.policies or ()))

    street.tenant.connection.load_balancer.delete_load_balancer(lb, cascade=True)
    until(lambda: not servers(street, lb), seconds=BOOT_SECONDS)
    until(lambda: group.id not in {one.id for one in street.admin.compute.server_groups()})
    until(lambda: not list(street.tenant.connection.load_balancer.load_balancers()))
    balancer.delete_availability_zone(name)
    balancer.delete_availability_zone_profile(place)
    balancer.delete_flavor(flavor)
    balancer.delete_flavor_profile(pair)
