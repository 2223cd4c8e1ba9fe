# SPDX-License-Identifier: Apache-2.0
"""A vendor's driver, unmodified: what it is told, what its refusals become, and what its answers bring about."""

import socket
from types import SimpleNamespace

import pytest
from compat.conftest import SUBNET
from octavia_lib.api.drivers.data_models import UnsetType
from octavia_lib.api.drivers.exceptions import UpdateStatusError

from statera.api import delegate
from statera.drivers.network.noop import NoopNetwork
from statera.drivers.protocols import Vip, VipAddress, VipRequest
from statera.errors import Invalid


def statuses(shop, path):
    (shown,) = shop.get(path).values()
    return shown["provisioning_status"], shown["operating_status"]


def test_a_load_balancer_lives_from_create_to_delete_by_what_its_driver_says(shop):
    wanted = {"vip_subnet_id": SUBNET, "project_id": "p", "provider": "vendor", "name": "a"}
    lb = shop.post("/loadbalancers", loadbalancer=wanted)["loadbalancer"]
    (verb, told), = shop.told()
    assert (verb, told.loadbalancer_id, told.name) == ("loadbalancer_create", lb["id"], "a")
    assert told.vip_address == "198.51.100.9"
    assert (lb["vip_address"], lb["vip_port_id"]) == ("198.51.100.9", f"vip-{lb['id']}"[:36])
    path = f"/loadbalancers/{lb['id']}"
    assert statuses(shop, path) == ("PENDING_CREATE", "OFFLINE")
    assert any("wait for the driver of provider vendor" in said for said in shop.passes())

    shop.answer(loadbalancers=lb, operating="ONLINE")
    assert statuses(shop, path) == ("ACTIVE", "ONLINE")

    shop.delete(path)
    assert shop.told()[0][0] == "loadbalancer_delete"
    assert statuses(shop, path)[0] == "PENDING_DELETE"
    shop.answer("DELETED", loadbalancers=lb)
    assert any("finish the delete" in said for said in shop.passes())
    shop.refused(404, "GET", path)


def test_every_kind_is_told_with_its_own_id_and_answered_for_by_itself(shop):
    lb = shop.balancer()
    pool = shop.made("pool", "pools", loadbalancer_id=lb["id"], protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    listener = shop.made("listener", "listeners", loadbalancer_id=lb["id"], protocol="HTTP", protocol_port=80,
                         default_pool_id=pool["id"], insert_headers={"X-Forwarded-For": "true"})
    shop.answer(pools=pool, listeners=listener, loadbalancers=lb)
    member = shop.post(f"/pools/{pool['id']}/members", member={"address": "192.0.2.1", "protocol_port": 80})["member"]
    assert statuses(shop, f"/pools/{pool['id']}/members/{member['id']}")[0] == "PENDING_CREATE"
    shop.answer(members=member, pools=pool, listeners=listener, loadbalancers=lb, operating="ONLINE")
    monitor = shop.made("healthmonitor", "healthmonitors", pool_id=pool["id"], type="HTTP", delay=2, timeout=1,
                        max_retries=1)
    shop.answer(healthmonitors=monitor, pools=pool, listeners=listener, loadbalancers=lb)
    policy = shop.made("l7policy", "l7policies", listener_id=listener["id"], action="REJECT")
    shop.answer(l7policies=policy, listeners=listener, loadbalancers=lb)
    rule = shop.post(f"/l7policies/{policy['id']}/rules", rule={
        "type": "PATH", "compare_type": "STARTS_WITH", "value": "/x"})["rule"]
    shop.answer(l7rules=rule, l7policies=policy, listeners=listener, loadbalancers=lb)

    told = dict(shop.told())
    assert told["pool_create"].pool_id == pool["id"]
    assert told["pool_create"].loadbalancer_id == lb["id"]
    assert told["listener_create"].listener_id == listener["id"]
    assert told["listener_create"].default_pool.pool_id == pool["id"]
    assert told["listener_create"].insert_headers == {"X-Forwarded-For": "true"}
    assert (told["member_create"].member_id, told["member_create"].pool_id) == (member["id"], pool["id"])
    assert told["health_monitor_create"].healthmonitor_id == monitor["id"]
    assert told["l7policy_create"].l7policy_id == policy["id"]
    assert (told["l7rule_create"].l7rule_id, told["l7rule_create"].value) == (rule["id"], "/x")
    for path in (f"/pools/{pool['id']}/members/{member['id']}", f"/listeners/{listener['id']}",
                 f"/pools/{pool['id']}", f"/healthmonitors/{monitor['id']}", f"/l7policies/{policy['id']}",
                 f"/l7policies/{policy['id']}/rules/{rule['id']}"):
        assert statuses(shop, path)[0] == "ACTIVE", path
    assert statuses(shop, f"/pools/{pool['id']}/members/{member['id']}")[1] == "ONLINE"


def test_a_change_tells_what_was_and_of_what_is_only_what_was_sent(shop):
    lb = shop.balancer()
    listener = shop.made("listener", "listeners", loadbalancer_id=lb["id"], protocol="HTTP", protocol_port=80,
                         name="old")
    shop.told()
    shop.put(f"/listeners/{listener['id']}", listener={"name": "new", "timeout_client_data": None})
    (verb, before, after), = shop.told()
    assert (verb, before.name, before.protocol_port) == ("listener_update", "old", 80)
    assert (after.listener_id, after.name, after.timeout_client_data) == (listener["id"], "new", 50000)
    assert isinstance(after.protocol_port, UnsetType)
    assert isinstance(after.admin_state_up, UnsetType)


def test_a_whole_tree_is_told_at_once_and_each_part_is_answered_for(shop):
    lb = shop.balancer(listeners=[{"protocol": "HTTP", "protocol_port": 80, "default_pool": {
        "name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
        "members": [{"address": "192.0.2.1", "protocol_port": 80}]}}])
    (_, told), = shop.told()
    assert [each.protocol_port for each in told.listeners] == [80]
    assert [member.address for member in told.pools[0].members] == ["192.0.2.1"]
    assert told.pools[0].healthmonitor is None
    assert statuses(shop, f"/loadbalancers/{lb['id']}")[0] == "ACTIVE"
    assert statuses(shop, f"/listeners/{lb['listeners'][0]['id']}")[0] == "PENDING_CREATE"


def test_all_members_of_a_pool_are_told_at_once(shop):
    lb = shop.balancer()
    pool = shop.made("pool", "pools", loadbalancer_id=lb["id"], protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    shop.told()
    answer = shop.call("PUT", f"/pools/{pool['id']}/members", {"members": [
        {"address": f"192.0.2.{n}", "protocol_port": 80} for n in (1, 2)]})
    assert answer.status_code == 202
    (verb, pool_id, members), = shop.told()
    assert (verb, pool_id, sorted(each.address for each in members)) == (
        "member_batch_update", pool["id"], ["192.0.2.1", "192.0.2.2"])


@pytest.mark.parametrize(("name", "status", "fault"), [
    ("unsupported", 501, "Provider 'vendor' does not support a requested option: that name is not supported"),
    ("broken", 500, "Provider 'vendor' reports error: the box is on fire"),
    ("surprise", 500, "Provider 'vendor' reports error: nobody foresaw this"),
])
def test_what_the_driver_refuses_is_not_kept(shop, name, status, fault):
    lb = shop.balancer()
    wanted = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80, "name": name}
    assert shop.refused(status, "POST", "/listeners", {"listener": wanted}) == fault
    assert shop.get("/listeners")["listeners"] == []
    assert statuses(shop, f"/loadbalancers/{lb['id']}")[0] == "ACTIVE"


def test_what_the_driver_does_not_do_is_501(shop):
    lb = shop.balancer()
    said = shop.refused(501, "PUT", f"/loadbalancers/{lb['id']}/failover")
    assert said.startswith("Provider 'vendor' does not support a requested action: ")
    assert statuses(shop, f"/loadbalancers/{lb['id']}")[0] == "ACTIVE"


@pytest.mark.parametrize(("address", "status"), [("198.51.100.1", 409), ("198.51.100.2", 201)],
                         ids=["taken", "left-to-the-network"])
def test_the_vip_is_the_drivers_if_it_wants(shop, address, status):
    answer = shop.call("POST", "/loadbalancers", {"loadbalancer": {
        "vip_subnet_id": SUBNET, "vip_address": address, "project_id": "p",
        "provider": "vendor"}})
    assert answer.status_code == status
    if status == 409:
        assert answer.json["faultstring"] == "The VIP IP address is already in use: somebody has it"
    else:
        assert answer.json["loadbalancer"]["vip_address"] == address


class Ports(NoopNetwork):
    """Remembers which ports were discarded."""

    def __init__(self):
        super().__init__()
        self.discarded = []

    def discard_port(self, port_id):
        self.discarded.append(port_id)


@pytest.mark.parametrize(("own", "discarded"), [(None, ["more", "vip"]), ("mine", ["more"])],
                         ids=["a port of the driver's", "a port of the tenant's"])
def test_ports_of_what_is_refused_later_are_no_more(own, discarded):
    made = Vip(port_id=own or "vip", network_id="n", addresses=(("s", "198.51.100.9"),), additional_port_ids=("more",))
    driver = SimpleNamespace(vip=lambda *_, **__: made)
    service = SimpleNamespace(network=Ports(), drivers=SimpleNamespace(get=lambda _: driver))
    request = VipRequest(load_balancer_id="lb", project_id="p", network_id="n", port_id=own,
                         addresses=(VipAddress(subnet_id="s"),))
    with pytest.raises(Invalid), delegate.vip(service, "vendor", request, qos_policy_id=None, group_ids=[]):
        raise Invalid("no such pool")
    assert sorted(service.network.discarded) == discarded


def test_further_vips_have_ports_of_their_own(shop):
    lb = shop.balancer(additional_vips=[{"subnet_id": "0f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"}])
    assert lb["additional_vips"] == [{
        "subnet_id": "0f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1", "ip_address": "2001:db8::9",
        "port_id": f"more-{lb['id']}"[:36]}]


def test_one_change_waits_for_the_answer_to_the_one_before(shop):
    lb = shop.balancer()
    shop.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "one"})
    said = shop.refused(409, "PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"name": "two"}})
    assert said == f"Invalid state PENDING_UPDATE of loadbalancer resource {lb['id']}"


def test_the_first_driver_that_does_not_load_is_501_and_harms_no_other(shop):
    said = shop.refused(501, "POST", "/loadbalancers", {"loadbalancer": {
        "vip_subnet_id": SUBNET, "project_id": "p", "provider": "broken"}})
    assert said == "Provider 'broken' was not found."
    assert shop.balancer()["provider"] == "vendor"


def test_flavors_are_the_drivers_to_judge(shop):
    known = shop.get("/providers/vendor/flavor_capabilities")["flavor_capabilities"]
    assert known == [{"name": "speed", "description": "How fast it is."}]
    bad = {"name": "x", "provider_name": "vendor", "flavor_data": '{"colour": "red"}'}
    assert "only speed, not ['colour']" in shop.refused(501, "POST", "/flavorprofiles", {"flavorprofile": bad})
    profile = shop.post("/flavorprofiles", flavorprofile={**bad, "flavor_data": '{"speed": "high"}'})["flavorprofile"]
    flavor = shop.post("/flavors", flavor={"name": "fast", "flavor_profile_id": profile["id"]})["flavor"]
    shop.balancer(provider="vendor", flavor_id=flavor["id"])
    assert shop.told()[0][1].flavor == {"speed": "high"}
    shop.refused(501, "GET", "/providers/vendor/availability_zone_capabilities")


def test_an_error_is_shown_explained_and_can_be_deleted_again(shop):
    lb = shop.balancer()
    listener = shop.made("listener", "listeners", loadbalancer_id=lb["id"], protocol="HTTP", protocol_port=80)
    shop.put(f"/listeners/{listener['id']}", listener={"name": "new"})
    shop.answer("ERROR", listeners=listener, operating="ERROR")
    shop.answer(loadbalancers=lb)
    assert statuses(shop, f"/listeners/{listener['id']}") == ("ERROR", "ERROR")
    assert statuses(shop, f"/loadbalancers/{lb['id']}")[0] == "ACTIVE"
    reasons = [event["reason"] for event in shop.get(f"/loadbalancers/{lb['id']}/events")["events"]]
    assert "provider_error" in reasons

    shop.call("DELETE", f"/loadbalancers/{lb['id']}", query={"cascade": "true"})
    shop.answer("ERROR", loadbalancers=lb)
    assert statuses(shop, f"/loadbalancers/{lb['id']}")[0] == "ERROR"
    shop.told()
    assert shop.call("DELETE", f"/loadbalancers/{lb['id']}", query={"cascade": "true"}).status_code == 204
    assert shop.told()[0][0] == "loadbalancer_delete"


def test_a_driver_that_never_answers_is_given_up_on_and_may_answer_late(shop):
    lb = shop.balancer()
    listener = shop.post("/listeners", listener={
        "loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80})["listener"]
    assert any("give up waiting for the driver of provider vendor" in said for said in shop.passes(patience_seconds=-1))
    assert statuses(shop, f"/loadbalancers/{lb['id']}")[0] == "ERROR"
    assert statuses(shop, f"/listeners/{listener['id']}")[0] == "ERROR"
    newest = shop.get(f"/loadbalancers/{lb['id']}/events")["events"][0]
    assert (newest["reason"], newest["fault"]) == ("provider_silent", "operator")
    shop.answer(loadbalancers=lb, listeners=listener)
    assert statuses(shop, f"/loadbalancers/{lb['id']}")[0] == "ACTIVE"
    assert statuses(shop, f"/listeners/{listener['id']}")[0] == "ACTIVE"


def test_a_deleted_member_goes_when_the_driver_says_so(shop):
    lb = shop.balancer()
    pool = shop.made("pool", "pools", loadbalancer_id=lb["id"], protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    member = shop.post(f"/pools/{pool['id']}/members", member={
        "address": "192.0.2.1", "protocol_port": 80, "tags": ["a"]})["member"]
    shop.answer(members=member, pools=pool, loadbalancers=lb)
    path = f"/pools/{pool['id']}/members/{member['id']}"
    shop.delete(path)
    assert statuses(shop, path)[0] == "PENDING_DELETE"
    shop.answer("DELETED", members=member)
    shop.answer(pools=pool, loadbalancers=lb)
    shop.refused(404, "GET", path)


def test_statistics_come_from_the_driver(shop):
    lb = shop.balancer()
    listener = shop.made("listener", "listeners", loadbalancer_id=lb["id"], protocol="HTTP", protocol_port=80)
    totals = {"bytes_in": 1, "bytes_out": 2, "active_connections": 3, "total_connections": 4, "request_errors": 5}
    for _ in range(2):
        shop.library.update_listener_statistics({"listeners": [{"id": listener["id"], **totals}]})
    assert shop.get(f"/listeners/{listener['id']}/stats")["stats"] == totals
    assert shop.get(f"/loadbalancers/{lb['id']}/stats")["stats"] == totals


def test_the_driver_may_ask_for_every_kind(shop):
    lb = shop.balancer(name="a")
    pool = shop.made("pool", "pools", loadbalancer_id=lb["id"], protocol="HTTP", lb_algorithm="SOURCE_IP")
    assert shop.library.get_loadbalancer(lb["id"]).name == "a"
    assert shop.library.get_pool(pool["id"]).lb_algorithm == "SOURCE_IP"
    assert shop.library.get_listener("no-such-listener") is None


@pytest.mark.parametrize("status", [
    {"loadbalancers": [{"provisioning_status": "ACTIVE"}]},
    {"loadbalancers": [{"id": "x", "provisioning_status": "MERRY"}]},
    {"listeners": ["not an object"]},
], ids=["no-id", "no-such-status", "no-object"])
def test_a_report_that_makes_no_sense_is_refused_by_name(shop, status):
    with pytest.raises(UpdateStatusError) as refused:
        shop.library.update_loadbalancer_status(status)
    assert refused.value.status_object == next(iter(status))


def test_answers_for_what_is_gone_are_taken_in_silence(shop):
    shop.answer(loadbalancers={"id": "no-such-load-balancer"})
    shop.answer("DELETED", members={"id": "no-such-member"})


@pytest.mark.parametrize("sent", [b"", b"hello\n", b"5\n[1,2]", b"9\n{}", b"2\n[]", b"99999999999999999999\n{}"],
                         ids=["nothing", "no-number", "list", "cut-off", "no-object", "too-large"])
def test_garbage_at_a_socket_ends_that_connection_only(shop, sent):
    with socket.socket(socket.AF_UNIX) as garbled:
        garbled.settimeout(10)
        garbled.connect(shop.library.status_socket)
        garbled.sendall(sent)
        garbled.shutdown(socket.SHUT_WR)
        assert garbled.recv(1) == b""
    shop.balancer()
