# SPDX-License-Identifier: Apache-2.0
"""Every call of openstacksdk's `connection.load_balancer`."""

import inspect

import pytest
from clients.page import Page
from openstack.load_balancer.v2._proxy import Proxy


@pytest.fixture(scope="module")
def admin(cloud):
    with cloud.connect("admin") as connection:
        yield connection


@pytest.fixture(scope="module")
def subnet(admin):
    network = admin.network.create_network(name="sdk")
    return admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="203.0.113.0/24")


class Recorder:
    """The proxy, which remembers what was called."""

    def __init__(self, proxy, page):
        self._proxy, self._page, self.called = proxy, page, set()

    def __getattr__(self, name):
        def call(*given, **named):
            result = getattr(self._proxy, name)(*given, **named)
            result = list(result) if inspect.isgenerator(result) else result
            self.called.add(name)
            self._page.add(name, "works")
            return result

        return call


def calls():
    """The proxy's own calls."""
    return {name for name, _ in inspect.getmembers(Proxy, inspect.isfunction)
            if not name.startswith("_") and name in vars(Proxy)}


def everything_of(api, word, plural, *, found, parent=(), **changes):
    """Get, find, list, update one object, by what the calls are named."""
    assert getattr(api, f"get_{word}")(found.id, *parent).id == found.id
    assert getattr(api, f"find_{word}")(found.name or found.id, *parent).id == found.id
    assert getattr(api, f"find_{word}")("nothing", *parent) is None
    assert found.id in {each.id for each in getattr(api, plural)(*parent)}
    changed = getattr(api, f"update_{word}")(found.id, *parent, **changes)
    assert {name: getattr(changed, name) for name in changes} == changes


def offers(api):
    profile = api.create_flavor_profile(name="sdk", provider_name="amphora", flavor_data="{}")
    everything_of(api, "flavor_profile", "flavor_profiles", found=profile, name="sdk profile")
    flavor = api.create_flavor(name="sdk", flavor_profile_id=profile.id)
    everything_of(api, "flavor", "flavors", found=flavor, description="good")
    api.delete_flavor(flavor, ignore_missing=False)
    api.delete_flavor_profile(profile, ignore_missing=False)
    profile = api.create_availability_zone_profile(name="sdk", provider_name="amphora", availability_zone_data="{}")
    everything_of(api, "availability_zone_profile", "availability_zone_profiles", found=profile, name="sdk profile")
    api.create_availability_zone(name="sdk", availability_zone_profile_id=profile.id)
    assert api.get_availability_zone("sdk").name == api.find_availability_zone("sdk").name == "sdk"
    assert [each.name for each in api.availability_zones()] == ["sdk"]
    assert api.update_availability_zone("sdk", description="here").description == "here"
    api.delete_availability_zone("sdk", ignore_missing=False)
    api.delete_availability_zone_profile(profile, ignore_missing=False)
    assert {"amphora", "octavia"} <= {each.name for each in api.providers()}
    assert "loadbalancer_topology" in {each.name for each in api.provider_flavor_capabilities("amphora")}


def quotas(api, project_id):
    assert api.update_quota(project_id, load_balancer=50).load_balancers == 50
    assert api.get_quota(project_id).load_balancers == 50
    assert 50 in [each.load_balancers for each in api.quotas()]
    assert api.get_quota_default().load_balancers == -1
    api.delete_quota(project_id, ignore_missing=False)


def tree(api, lb):
    listener = api.create_listener(name="sdk", load_balancer_id=lb.id, protocol="HTTP", protocol_port=80)
    everything_of(api, "listener", "listeners", found=listener, name="http")
    assert api.get_listener_statistics(listener.id).total_connections == 0
    pool = api.create_pool(name="sdk", listener_id=listener.id, protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    everything_of(api, "pool", "pools", found=pool, name="blue")
    member = api.create_member(pool, name="sdk", address="203.0.113.9", protocol_port=80)
    everything_of(api, "member", "members", found=member, parent=(pool,), weight=7)
    monitor = api.create_health_monitor(name="sdk", pool_id=pool.id, type="HTTP", delay=5, timeout=3, max_retries=2)
    everything_of(api, "health_monitor", "health_monitors", found=monitor, delay=7)
    policy = api.create_l7_policy(name="sdk", listener_id=listener.id, action="REJECT")
    everything_of(api, "l7_policy", "l7_policies", found=policy, description="no")
    rule = api.create_l7_rule(policy, type="PATH", compare_type="STARTS_WITH", value="/x")
    assert api.get_l7_rule(rule.id, policy).id == rule.id
    assert [each.id for each in api.l7_rules(policy)] == [rule.id]
    assert api.find_l7_rule(rule.id, policy).id == rule.id
    assert api.update_l7_rule(rule.id, policy, rule_value="/y").rule_value == "/y"
    api.delete_l7_rule(rule, policy, ignore_missing=False)
    api.delete_l7_policy(policy, ignore_missing=False)
    api.delete_health_monitor(monitor, ignore_missing=False)
    api.delete_member(member, pool, ignore_missing=False)
    api.delete_pool(pool, ignore_missing=False)
    api.wait_for_delete(pool, interval=0.1)
    api.delete_listener(listener, ignore_missing=False)


def amphorae(api, lb):
    (amphora,) = api.amphorae(loadbalancer_id=lb.id)
    assert api.get_amphora(amphora.id).id == api.find_amphora(amphora.id).id == amphora.id
    api.configure_amphora(amphora.id)
    api.wait_for_load_balancer(lb.id, interval=0.1)
    api.failover_amphora(amphora.id)
    api.wait_for_load_balancer(lb.id, interval=0.1)
    api.failover_load_balancer(lb.id)


def test_every_call_works(admin, subnet):
    page = Page("openstacksdk: `connection.load_balancer`")
    api = Recorder(admin.load_balancer, page)
    offers(api)
    quotas(api, admin.current_project_id)
    lb = api.create_load_balancer(name="sdk", vip_subnet_id=subnet.id, tags=["a"])
    api.wait_for_load_balancer(lb.id, interval=0.1)
    everything_of(api, "load_balancer", "load_balancers", found=lb, name="sdk web")
    assert api.get_load_balancer_statistics(lb.id).total_connections == 0
    tree(api, lb)
    api.wait_for_status(api.get_load_balancer(lb.id), "ACTIVE", interval=0.1, attribute="provisioning_status", wait=30)
    amphorae(api, lb)
    api.delete_load_balancer(lb.id, ignore_missing=False, cascade=True)
    assert api.called == calls()
    page.keep()


def test_lists_page_by_page(admin, subnet):
    api = admin.load_balancer
    made = {api.create_load_balancer(name=f"page {number}", vip_subnet_id=subnet.id).id for number in range(5)}
    assert {each.id for each in api.load_balancers(limit=2)} >= made
    for id in made:
        api.delete_load_balancer(id)
