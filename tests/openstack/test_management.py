# SPDX-License-Identifier: Apache-2.0
"""Machines in a network that no controller is in: agents dial out by a router, past a health manager that is away."""

import pytest
from openstack_stories import active, both, tree

pytestmark = pytest.mark.usefixtures("machines", "traffic")

HOST, AWAY = "172.31.1.1:5555", "172.31.1.254:5555"
"""The host's address on the lab's external network, and one that nobody has."""

BOOT_SECONDS = 400.0


@pytest.fixture(scope="module")
def routed(admin):
    """The id of a network behind a router that translates addresses."""
    external = admin.network.find_network("public")
    if external is None or not list(admin.image.images(tag="amphora")):
        pytest.skip("needs the lab's external network and an image with the tag amphora")
    made = admin.network.create_network(name="statera-management")
    subnet = admin.network.create_subnet(network_id=made.id, ip_version=4, cidr="10.79.0.0/24")
    router = admin.network.create_router(name="statera-management", external_gateway_info={"network_id": external.id})
    admin.network.add_interface_to_router(router, subnet_id=subnet.id)
    yield made.id
    admin.network.remove_interface_from_router(router, subnet_id=subnet.id)
    admin.network.delete_router(router)
    admin.network.delete_network(made)


def test_an_agent_dials_out_through_a_router_past_an_endpoint_that_is_away(routed, admin, statera, street):
    flavor = admin.compute.find_flavor("m1.amphora")
    statera.down()
    statera.configure(compute="nova", machines=f"{AWAY},{HOST}",
                      worker=f"amp_boot_network_list = {routed}\namp_flavor_id = {flavor.id}")
    statera.up()
    lb = tree(street)
    active(street.tenant, lb, seconds=BOOT_SECONDS)
    both(street, lb.vip_address)
    [amphora] = list(admin.load_balancer.amphorae(loadbalancer_id=lb.id))
    assert amphora.lb_network_ip.startswith("10.79.0.")
