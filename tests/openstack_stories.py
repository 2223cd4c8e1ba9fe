# SPDX-License-Identifier: Apache-2.0
"""What the tests of a real cloud do again and again with a tenant's street."""

from collections import Counter

from openstack_cloud import SECONDS, until


def active(tenant, lb, *, seconds=SECONDS):
    balancer = tenant.connection.load_balancer
    return until(lambda: next(
        (found for found in [balancer.get_load_balancer(lb.id)] if found.provisioning_status == "ACTIVE"), None),
        seconds=seconds)


def tree(street, **more):
    members = [{"address": server.address, "protocol_port": 8080, "subnet_id": street.members.id}
               for server in street.servers]
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
    listener = {"protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    asked = {"vip_subnet_id": street.vip.id, "listeners": [listener], "admin_state_up": True} | more
    return street.tenant.connection.load_balancer.create_load_balancer(name="web", **asked)


def both(street, address):
    """Both servers answer in turn."""
    return until(lambda: Counter(street.get(address) for _ in range(4)) == {"server-1": 2, "server-2": 2})


def amphorae(street, lb):
    balancer = street.admin.load_balancer
    return [one for one in balancer.amphorae(loadbalancer_id=lb.id) if one.status == "ALLOCATED"]
