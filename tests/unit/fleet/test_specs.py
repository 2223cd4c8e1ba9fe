# SPDX-License-Identifier: Apache-2.0
"""What an amphora is to run, from what its tenant wants."""

import pytest
from msgspec import structs

from statera.fleet.specs import build
from statera.model.fleet import Amphora, Port, Role
from statera.model.limits import Limits
from statera.model.tree import (
    AdditionalVip,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
    SessionPersistence,
)
from statera.wire import (
    Address,
    Interface,
    L7PolicySpec,
    L7RuleSpec,
    MonitorSpec,
    PersistenceSpec,
    Predecessor,
    VrrpSpec,
)

NEW = {"created_version": 1, "wanted_version": 1}
VIP_PORT = Port(port_id="p1", network_id="n-vip", subnet_id="s-vip", ip_address="10.0.0.11", cidr="10.0.0.0/24",
                gateway_ip="10.0.0.1", mac_address="fa:16:3e:00:00:01", mtu=1450, bridge="st-vip")
VIP6_PORT = Port(port_id="p2", network_id="n-vip", subnet_id="s-vip6", ip_address="2001:db8::11", cidr="2001:db8::/64")
MEMBER_PORT = Port(port_id="p3", network_id="0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", subnet_id="s-m",
                   ip_address="10.1.0.11", cidr="10.1.0.0/16")
MONITOR = HealthMonitor(id="h", pool_id="p", type="HTTP", delay=5, timeout=3, max_retries=3, http_version=1.1, **NEW)
MEMBER = Member(id="m", pool_id="p", address="10.0.0.20", protocol_port=80, weight=None, **NEW)
POOL = Pool(id="p", protocol="HTTP", lb_algorithm="ROUND_ROBIN", members=(MEMBER,), healthmonitor=MONITOR,
            session_persistence=SessionPersistence(type="SOURCE_IP"), **NEW)
LISTENER = Listener(id="l", protocol="HTTP", protocol_port=80, default_pool_id="p", connection_limit=None, **NEW)
LB = LoadBalancer(id="lb", project_id="t", provider="amphora", topology="SINGLE", version=7, listeners=(LISTENER,),
                  pools=(POOL,), vip_address="10.0.0.100", vip_subnet_id="s-vip", **NEW)
ALONE = Amphora(id="a", load_balancer_id="lb", role=Role.STANDALONE, born_version=1, ports=(VIP_PORT,))
MASTER = structs.replace(ALONE, role=Role.MASTER)
BACKUP = structs.replace(ALONE, id="b", role=Role.BACKUP, ports=(structs.replace(VIP_PORT, ip_address="10.0.0.12"),))
NEXT = structs.replace(BACKUP, id="c", ports=(structs.replace(VIP_PORT, ip_address="10.0.0.13"),))

off = {"admin_state_up": False}
going = {"deleting": True}


def with_pool(**changes):
    return structs.replace(LB, pools=(structs.replace(POOL, **changes),))


def with_listener(**changes):
    return structs.replace(LB, listeners=(structs.replace(LISTENER, **changes),))


def test_a_whole_tree_becomes_a_spec():
    spec = build(LB, ALONE, [ALONE])
    assert (spec.amphora_id, spec.load_balancer_id, spec.version, spec.enabled) == ("a", "lb", 7, True)
    assert [(listener.id, listener.default_pool_id) for listener in spec.listeners] == [("l", "p")]
    assert spec.listeners[0].connection_limit == -1
    assert [(member.id, member.weight, member.enabled) for member in spec.pools[0].members] == [("m", 1, True)]
    assert spec.pools[0].monitor == MonitorSpec(type="HTTP", delay=5, timeout=3, max_retries=3, http_version=1.1)
    assert spec.pools[0].session_persistence == PersistenceSpec(type="SOURCE_IP")
    assert spec.vrrp is None


@pytest.mark.parametrize(("lb", "listeners", "pools"), [
    pytest.param(LB, ["l"], ["p"], id="all on"),
    pytest.param(with_listener(**off), [], [], id="listener off takes its pool along"),
    pytest.param(with_listener(**going), [], [], id="listener being deleted"),
    pytest.param(with_listener(default_pool_id=None), ["l"], [], id="pool that nobody uses"),
    pytest.param(with_pool(**off), ["l"], [], id="pool off"),
    pytest.param(with_pool(**going), ["l"], [], id="pool being deleted"),
    pytest.param(structs.replace(LB, listeners=(LISTENER, structs.replace(LISTENER, id="l2", protocol_port=81))),
                 ["l", "l2"], ["p"], id="pool that two listeners share"),
])
def test_what_is_left_out(lb, listeners, pools):
    spec = build(lb, ALONE, [])
    assert [listener.id for listener in spec.listeners] == listeners
    assert [pool.id for pool in spec.pools] == pools
    assert all(listener.default_pool_id in [*pools, None] for listener in spec.listeners)


RULE = L7Rule(id="r", l7policy_id="y", type="PATH", compare_type="EQUAL_TO", value="/", **NEW)
POLICY = L7Policy(id="y", listener_id="l", action="REJECT", position=1, rules=(RULE,), **NEW)
SENDER = structs.replace(POLICY, id="s", position=2, action="REDIRECT_TO_POOL", redirect_pool_id="p2")
SECOND = structs.replace(POOL, id="p2")


def with_policies(*policies, pool=SECOND, **changes):
    return structs.replace(with_listener(l7policies=policies, **changes), pools=(POOL, pool))


@pytest.mark.parametrize(("lb", "policies", "pools"), [
    pytest.param(with_policies(POLICY, SENDER), ["y", "s"], ["p", "p2"], id="all on, in their order"),
    pytest.param(with_policies(POLICY, structs.replace(SENDER, **off)), ["y"], ["p"], id="policy off"),
    pytest.param(with_policies(POLICY, structs.replace(SENDER, **going)), ["y"], ["p"], id="policy being deleted"),
    pytest.param(with_policies(POLICY, SENDER, pool=structs.replace(SECOND, **off)), ["y"], ["p"], id="its pool off"),
    pytest.param(with_policies(POLICY, SENDER, default_pool_id="p2"), ["y", "s"], ["p2"], id="its pool is the default"),
    pytest.param(with_policies(structs.replace(POLICY, rules=())), [], ["p"], id="no rules"),
    pytest.param(with_policies(structs.replace(POLICY, rules=(structs.replace(RULE, **off),))), [], ["p"],
                 id="no rule that is on"),
    pytest.param(with_policies(POLICY, SENDER, **off), [], [], id="listener off"),
    pytest.param(with_policies(POLICY, SENDER, protocol="TCP"), [], ["p"], id="listener that reads no HTTP"),
])
def test_which_policies_are_asked(lb, policies, pools):
    spec = build(lb, ALONE, [])
    assert [policy.id for listener in spec.listeners for policy in listener.l7policies] == policies
    assert [pool.id for pool in spec.pools] == pools
    assert all(listener.redirect_pool_ids == (("p2",) if "s" in policies else ()) for listener in spec.listeners)


def test_whose_it_is_where_its_log_goes_and_what_it_may_use_are_told():
    limits = Limits(memory_mb=128)
    spec = build(structs.replace(LB, log_target="tcp://10.0.0.5:514"), ALONE, [], limits=limits)
    assert (spec.project_id, spec.log_target, spec.limits) == ("t", "tcp://10.0.0.5:514", limits)


def test_a_policy_takes_its_rules_along_that_are_on():
    more = (structs.replace(RULE, id="r2", invert=True, key="k"), structs.replace(RULE, id="r3", **going))
    spec = build(with_policies(structs.replace(POLICY, rules=(RULE, *more), redirect_http_code=None)), ALONE, [])
    assert spec.listeners[0].l7policies == (L7PolicySpec(id="y", action="REJECT", rules=(
        L7RuleSpec(id="r", type="PATH", compare_type="EQUAL_TO", value="/"),
        L7RuleSpec(id="r2", type="PATH", compare_type="EQUAL_TO", value="/", key="k", invert=True))),)


@pytest.mark.parametrize(("changes", "members"), [
    pytest.param(off, [("m", False)], id="a member switched off stays to drain"),
    pytest.param(going, [], id="a member being deleted is left out"),
])
def test_members(changes, members):
    spec = build(with_pool(members=(structs.replace(MEMBER, **changes),)), ALONE, [])
    assert [(member.id, member.enabled) for member in spec.pools[0].members] == members


@pytest.mark.parametrize("changes", [pytest.param(off, id="off"), pytest.param(going, id="being deleted")])
def test_a_monitor_that_does_not_run_is_left_out(changes):
    assert build(with_pool(healthmonitor=structs.replace(MONITOR, **changes)), ALONE, []).pools[0].monitor is None


def test_a_disabled_load_balancer_says_so():
    assert not build(structs.replace(LB, **off), ALONE, []).enabled


def test_legs_are_grouped_by_network_and_keep_their_names():
    spec = build(LB, structs.replace(ALONE, ports=(VIP_PORT, MEMBER_PORT, VIP6_PORT)), [])
    assert spec.interfaces == (
        Interface(
            name="eth1", network_id="n-vip", mac_address="fa:16:3e:00:00:01", bridge="st-vip", mtu=1450,
            addresses=(Address(ip="10.0.0.11", prefix=24, gateway="10.0.0.1"), Address(ip="2001:db8::11", prefix=64)),
        ),
        Interface(
            name="eth-0f1e2d3c4b5", network_id=MEMBER_PORT.network_id,
            addresses=(Address(ip="10.1.0.11", prefix=16),),
        ),
    )


@pytest.mark.parametrize(("changes", "vips"), [
    pytest.param({}, [("10.0.0.100", 24, "10.0.0.1")], id="subnet of a port"),
    pytest.param({"vip_subnet_id": None}, [("10.0.0.100", 24, "10.0.0.1")], id="no subnet named, address decides"),
    pytest.param({"vip_address": None}, [], id="no address yet"),
    pytest.param(
        {"additional_vips": (AdditionalVip(subnet_id="s-vip6", ip_address="2001:db8::100"),)},
        [("10.0.0.100", 24, "10.0.0.1"), ("2001:db8::100", 64, None)], id="additional VIP of the other family"),
    pytest.param(
        {"additional_vips": (AdditionalVip(subnet_id="s-else", ip_address="192.0.2.9"),)},
        [("10.0.0.100", 24, "10.0.0.1"), ("192.0.2.9", 32, None)], id="additional VIP without a port"),
])
def test_vips(changes, vips):
    amphora = structs.replace(ALONE, ports=(VIP_PORT, VIP6_PORT))
    spec = build(structs.replace(LB, **changes), amphora, [])
    assert [(vip.ip, vip.prefix, vip.gateway) for vip in spec.vips] == vips


def test_who_may_still_run_somewhere_is_told_to_step_back():
    spec = build(LB, MASTER, [MASTER, BACKUP, structs.replace(NEXT, leaving=True)])
    assert spec.predecessors == (Predecessor(amphora_id=NEXT.id, ip="10.0.0.13"),)


@pytest.mark.parametrize(("amphora", "peers", "vrrp"), [
    pytest.param(MASTER, [MASTER, BACKUP], VrrpSpec(priority=254, peer_ip="10.0.0.12"), id="master"),
    pytest.param(BACKUP, [MASTER, BACKUP], VrrpSpec(priority=253, peer_ip="10.0.0.11"), id="backup"),
    pytest.param(MASTER, [MASTER], None, id="the other half is not there yet"),
    pytest.param(MASTER, [MASTER, structs.replace(BACKUP, ports=())], None, id="the other half has no port yet"),
    pytest.param(MASTER, [MASTER, structs.replace(BACKUP, leaving=True), NEXT],
                 VrrpSpec(priority=254, peer_ip="10.0.0.13"), id="backup being replaced"),
    pytest.param(MASTER, [MASTER, BACKUP, structs.replace(NEXT, born_version=9)],
                 VrrpSpec(priority=254, peer_ip="10.0.0.13", peer_ips=("10.0.0.12", "10.0.0.13")),
                 id="three while one is exchanged"),
    pytest.param(structs.replace(NEXT, born_version=9), [MASTER, BACKUP],
                 VrrpSpec(priority=253, peer_ip="10.0.0.12", peer_ips=("10.0.0.11", "10.0.0.12"), delay_seconds=1),
                 id="who comes later is silent at first"),
    pytest.param(ALONE, [ALONE, BACKUP], None, id="one that stands alone"),
])
def test_pairs(amphora, peers, vrrp):
    assert build(LB, amphora, peers).vrrp == vrrp


def test_a_port_of_an_open_vswitch_is_a_leg_of_its_own_name_which_old_agents_cannot_read():
    port = structs.replace(VIP_PORT, bridge=None, device="tapp1", switch="br-int")
    spec = build(LB, structs.replace(ALONE, ports=(port, MEMBER_PORT)), [])
    first, second = spec.interfaces
    assert (first.name, first.device, first.switch, first.port_id) == ("tapp1", "tapp1", "br-int", "p1")
    assert (second.name, second.switch, second.port_id) == ("eth-0f1e2d3c4b5", None, None)
    assert (spec.spec_version, build(LB, ALONE, []).spec_version) == (2, 1)
