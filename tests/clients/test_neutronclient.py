# SPDX-License-Identifier: Apache-2.0
"""The load balancing calls of python-neutronclient, from when this API was Neutron's."""

import inspect
import re

import pytest
from clients.page import Page
from neutronclient.v2_0.client import Client

GONE = re.compile("agent")
"""Calls about agents of a service that Octavia never had."""
PLAIN = {"list_loadbalancers", "show_loadbalancer", "create_loadbalancer", "update_loadbalancer", "delete_loadbalancer",
         "retrieve_loadbalancer_stats", "retrieve_loadbalancer_status", "list_listeners", "show_listener",
         "create_listener", "update_listener", "delete_listener"}
"""Those without `lbaas` in their names."""


@pytest.fixture
def subnet(cloud):
    with cloud.connect("admin") as admin:
        network = admin.network.create_network(name="neutronclient")
        return admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="192.0.2.0/24").id


def calls():
    return {name for name, _ in inspect.getmembers(Client, inspect.isfunction)
            if "lbaas" in name and not GONE.search(name) and not name.startswith("_")} | PLAIN


class Recorder:
    """The client, which remembers what was called."""

    def __init__(self, client, page):
        self._client, self._page, self.called = client, page, set()

    def __getattr__(self, name):
        def call(*given):
            result = getattr(self._client, name)(*given)
            self.called.add(name)
            self._page.add(name, "works")
            return result

        return call


def life(api, word, root, *, parent=(), create, change, plural=""):
    """Create, show, list and change one object; its id."""
    plural = plural or f"{word}s"
    (made,) = getattr(api, f"create_{word}")(*parent, {root: create}).values()
    assert getattr(api, f"show_{word}")(made["id"], *parent)[root]["id"] == made["id"]
    (found,) = getattr(api, f"list_{plural}")(*parent).values()
    assert made["id"] in {each["id"] for each in found}
    changed = getattr(api, f"update_{word}")(made["id"], *parent, {root: change})[root]
    assert {name: changed[name] for name in change} == change
    return made["id"]


def test_every_call_works(cloud, subnet):
    page = Page("python-neutronclient: the LBaaS v2 calls")
    with cloud.connect("member") as member:
        api = Recorder(Client(session=member.session, endpoint_override=cloud.api, retries=0), page)
        lb = life(api, "loadbalancer", "loadbalancer", create={"vip_subnet_id": subnet}, change={"name": "old"})
        assert lb in {each["id"] for each in api.list_lbaas_loadbalancers()["loadbalancers"]}
        assert "bytes_in" in api.retrieve_loadbalancer_stats(lb)["stats"]
        assert api.retrieve_loadbalancer_status(lb)["statuses"]["loadbalancer"]["id"] == lb
        listener = life(api, "listener", "listener", change={"name": "http"}, create={
            "loadbalancer_id": lb, "protocol": "HTTP", "protocol_port": 80})
        pool = life(api, "lbaas_pool", "pool", change={"name": "blue"}, create={
            "listener_id": listener, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"})
        member = life(api, "lbaas_member", "member", parent=(pool,), change={"weight": 3}, create={
            "address": "192.0.2.9", "protocol_port": 80})
        monitor = life(api, "lbaas_healthmonitor", "healthmonitor", change={"delay": 7}, create={
            "pool_id": pool, "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2})
        policy = life(api, "lbaas_l7policy", "l7policy", plural="lbaas_l7policies", change={"name": "no"}, create={
            "listener_id": listener, "action": "REJECT"})
        rule = life(api, "lbaas_l7rule", "rule", parent=(policy,), change={"value": "/y"}, create={
            "type": "PATH", "compare_type": "EQUAL_TO", "value": "/x"})
        api.delete_lbaas_l7rule(rule, policy)
        api.delete_lbaas_l7policy(policy)
        api.delete_lbaas_healthmonitor(monitor)
        api.delete_lbaas_member(member, pool)
        api.delete_lbaas_pool(pool)
        api.delete_listener(listener)
        api.delete_loadbalancer(lb)
    assert api.called == calls()
    page.keep()
