# SPDX-License-Identifier: Apache-2.0
"""Load balancers as Octavia's clients see them."""

import pytest

SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
PROJECT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"


def test_a_new_load_balancer_is_shown_whole_and_pending(world):
    lb = world.post("/loadbalancers", loadbalancer={"vip_subnet_id": SUBNET, "project_id": PROJECT})["loadbalancer"]
    assert list(lb) == [
        "listeners", "pools", "id", "name", "description", "provisioning_status", "operating_status", "admin_state_up",
        "project_id", "created_at", "updated_at", "vip_address", "vip_port_id", "vip_subnet_id", "vip_network_id",
        "vip_sg_ids", "additional_vips", "provider", "flavor_id", "vip_qos_policy_id", "tags", "availability_zone",
        "vip_vnic_type", "tenant_id"]
    assert lb["provisioning_status"] == "PENDING_CREATE"
    assert lb["operating_status"] == "OFFLINE"
    assert lb["updated_at"] is None
    assert (lb["provider"], lb["vip_vnic_type"], lb["tenant_id"]) == ("amphora", "normal", PROJECT)


def test_it_becomes_active_with_a_date(world):
    lb = world.lb()
    shown = world.get(f"/loadbalancers/{lb['id']}")["loadbalancer"]
    assert shown["provisioning_status"] == "ACTIVE"
    assert shown["updated_at"] is not None
    assert list(shown)[:2] == ["id", "name"]


def test_a_whole_life(world):
    lb = world.lb(name="web")
    changed = world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "new", "tags": ["a"]})["loadbalancer"]
    assert (changed["name"], changed["tags"], changed["provisioning_status"]) == ("new", ["a"], "PENDING_UPDATE")
    world.settle()
    world.delete(f"/loadbalancers/{lb['id']}")
    assert world.status(f"/loadbalancers/{lb['id']}") == "PENDING_DELETE"
    world.settle()
    assert world.refused(404, "GET", f"/loadbalancers/{lb['id']}") == f"Load Balancer {lb['id']} not found."
    assert world.get("/loadbalancers") == {"loadbalancers": [], "loadbalancers_links": []}


def test_children_come_and_go(world):
    lb = world.lb()
    listener, pool = world.listener(lb), None
    pool = world.pool(lb, loadbalancer_id=None, listener_id=listener["id"])
    member = world.member(pool)
    monitor = world.monitor(pool)
    shown = world.get(f"/pools/{pool['id']}")["pool"]
    assert shown["members"] == [{"id": member["id"]}]
    assert shown["healthmonitor_id"] == monitor["id"]
    assert shown["listeners"] == [{"id": listener["id"]}]
    assert world.get(f"/listeners/{listener['id']}")["listener"]["default_pool_id"] == pool["id"]
    for path in (f"/healthmonitors/{monitor['id']}", f"/pools/{pool['id']}/members/{member['id']}",
                 f"/pools/{pool['id']}", f"/listeners/{listener['id']}"):
        world.delete(path)
        assert world.status(path) == "PENDING_DELETE"
        world.settle()
        assert world.call("GET", path).status_code == 404
    assert world.get(f"/loadbalancers/{lb['id']}")["loadbalancer"]["listeners"] == []


@pytest.mark.parametrize("root", ["/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0"])
def test_four_spellings_of_one_path(world, root):
    assert world.call("GET", "/loadbalancers/", root=root).json == {"loadbalancers": [], "loadbalancers_links": []}
