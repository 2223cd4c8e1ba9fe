# SPDX-License-Identifier: Apache-2.0
"""From a request for an L7 policy to the packets that follow it."""

from benchmarks.client import body_of, tree, until
from benchmarks.rig import Cloud, Network


def test_a_policy_sends_requests_to_its_pool_and_a_rule_changes_at_once(world: tuple[Cloud, Network]) -> None:
    cloud, network = world
    api = cloud.api()
    wanted = tree(network.subnet_id, network.servers, name="seven", members=1, monitor=False)
    made = api.post("/v2/lbaas/loadbalancers", wanted)["loadbalancer"]
    lb, vip = made["id"], made["vip_address"]
    api.wait_for(lb, "ACTIVE")
    pool = api.post("/v2/lbaas/pools", {"pool": {
        "loadbalancer_id": lb, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "name": "other"}})["pool"]
    api.wait_for(lb, "ACTIVE")
    address = network.servers[1]
    api.post(f"/v2/lbaas/pools/{pool['id']}/members", {"member": {"address": address, "protocol_port": 80}})
    api.wait_for(lb, "ACTIVE")
    policy = api.post("/v2/lbaas/l7policies", {"l7policy": {
        "listener_id": made["listeners"][0]["id"], "action": "REDIRECT_TO_POOL", "redirect_pool_id": pool["id"],
    }})["l7policy"]
    api.wait_for(lb, "ACTIVE")
    rules = f"/v2/lbaas/l7policies/{policy['id']}/rules"
    rule = api.post(rules, {"rule": {"type": "HOST_NAME", "compare_type": "EQUAL_TO", "value": vip}})["rule"]
    api.wait_for(lb, "ACTIVE")
    assert {body_of(vip) for _ in range(6)} == {f"{address}:80"}
    until(lambda: api.get(f"/v2/lbaas/pools/{pool['id']}")["pool"]["operating_status"] == "ONLINE")
    api.put(f"{rules}/{rule['id']}", {"rule": {"value": "else.example"}})
    api.wait_for(lb, "ACTIVE")
    assert {body_of(vip) for _ in range(6)} == {f"{network.servers[0]}:80"}
    api.put(f"/v2/lbaas/l7policies/{policy['id']}", {"l7policy": {"action": "REJECT"}})
    api.put(f"{rules}/{rule['id']}", {"rule": {"value": vip}})
    api.wait_for(lb, "ACTIVE")
    assert body_of(vip) is None
    api.delete(f"/v2/lbaas/l7policies/{policy['id']}")
    api.wait_for(lb, "ACTIVE")
    assert {body_of(vip) for _ in range(6)} == {f"{network.servers[0]}:80"}
    api.delete(f"/v2/lbaas/loadbalancers/{lb}?cascade=true")
    api.close()
