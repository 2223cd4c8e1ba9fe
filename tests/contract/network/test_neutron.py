# SPDX-License-Identifier: Apache-2.0
"""What the `neutron` driver makes of a real Neutron, beside what every network driver promises."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openstack_cloud as world
import pytest
from msgspec import Struct

from statera.drivers.network.neutron import NeutronNetworks
from statera.drivers.protocols import Berth, Caller, VipAddress, VipRequest
from statera.errors import AddressTaken, ApiError, Conflict, GiveUp, InUse, Invalid, SubnetFull, TryAgain
from statera.model.fleet import Port
from statera.model.guard import Door, Guard

pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in world.WARNINGS]
NOWHERE = "11111111-0000-4000-8000-000000000001"
WEB = Guard(doors=(Door("tcp", 80, "0.0.0.0/0"),))


class Town(Struct, frozen=True):
    """A network of a tenant: an ordinary subnet, one with two addresses, and one of IPv6."""

    admin: Any
    tenant: world.Tenant
    stranger: world.Tenant
    neutron: NeutronNetworks
    network_id: str
    subnet_id: str
    small_id: str
    v6_id: str

    def wish(self, *addresses: VipAddress, lb: str, **values: object) -> VipRequest:
        return VipRequest(load_balancer_id=lb, project_id=self.tenant.project_id, network_id=self.network_id,
                          addresses=addresses or (VipAddress(subnet_id=self.subnet_id),), **values)

    def ports(self) -> list[Any]:
        """All but DHCP's."""
        found = self.admin.network.ports(network_id=self.network_id)
        return [port for port in found if port.device_owner != "network:dhcp"]

    def show(self, port_id: str) -> Any:
        return self.admin.network.get_port(port_id)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with world.cloud_or_skip() as admin, world.tenants(admin, 2) as (tenant, stranger):
        network = tenant.connection.network
        net = network.create_network(name="statera-test")
        subnets = [network.create_subnet(network_id=net.id, is_dhcp_enabled=False, **values) for values in (
            {"ip_version": 4, "cidr": "10.77.0.0/24"},
            {"ip_version": 4, "cidr": "10.77.1.0/29", "allocation_pools": [{"start": "10.77.1.2", "end": "10.77.1.3"}]},
            {"ip_version": 6, "cidr": "fd77::/64"},
        )]
        driver = NeutronNetworks(world.service(admin, "network", "Neutron"))
        yield Town(admin, tenant, stranger, driver, net.id, *(subnet.id for subnet in subnets))
        for port in admin.network.ports(network_id=net.id):
            admin.network.delete_port(port)
        admin.network.delete_network(net)
        for group in admin.network.security_groups(project_id=[tenant.project_id, stranger.project_id]):
            admin.network.delete_security_group(group)


@pytest.fixture
def lb(town: Town) -> Iterator[str]:
    """An id; whatever is made for it is removed, and nothing is left."""
    id = str(uuid4())
    yield id
    town.neutron.release_amphora_ports(id)
    town.neutron.release_vip(id)
    assert town.ports() == []
    assert list(town.admin.network.security_groups(name=f"lb-{id}")) == []


# What every driver promises.


def test_asking_twice_gives_the_same_ports(town: Town, lb: str) -> None:
    assert town.neutron.allocate_vip(town.wish(lb=lb)) == town.neutron.allocate_vip(town.wish(lb=lb))
    first = town.neutron.ensure_amphora_port(lb, town.subnet_id, ["10.77.0.9"])
    assert town.neutron.ensure_amphora_port(lb, town.subnet_id, ["10.77.0.9"]) == first
    assert len(town.ports()) == 2


def test_a_vip_has_the_address_that_was_asked_for(town: Town, lb: str) -> None:
    vip = town.neutron.allocate_vip(town.wish(VipAddress(subnet_id=town.subnet_id, ip_address="10.77.0.77"), lb=lb))
    assert vip.addresses == ((town.subnet_id, "10.77.0.77"),)


def test_releasing_what_is_not_there_is_success(town: Town, lb: str) -> None:
    town.neutron.release_vip(lb)
    town.neutron.release_amphora_ports(lb)


# What tenants see.


def test_a_network_is_seen_by_its_project_and_by_admins(town: Town) -> None:
    callers = (Caller(), town.tenant.caller, town.stranger.caller)
    assert [town.neutron.has_network(town.network_id, caller) for caller in callers] == [True, True, False]
    assert town.neutron.subnet(town.subnet_id, town.stranger.caller) is None
    assert town.neutron.subnets(town.network_id, town.stranger.caller) == []
    assert town.neutron.subnet(NOWHERE, town.tenant.caller) is None


def test_subnets_are_shown_as_they_are(town: Town) -> None:
    found = {subnet.id: subnet for subnet in town.neutron.subnets(town.network_id, town.tenant.caller)}
    assert set(found) == {town.subnet_id, town.small_id, town.v6_id}
    one = found[town.subnet_id]
    assert (one.cidr, one.gateway_ip, one.network_id, one.ip_version) == (
        "10.77.0.0/24", "10.77.0.1", town.network_id, 4)
    assert 240 < one.free < 255
    assert found[town.small_id].free == 2


def test_ports_groups_and_policies_are_looked_up_as_the_tenant(town: Town, lb: str) -> None:
    own = town.tenant.connection.network.create_port(network_id=town.network_id)
    group = town.tenant.connection.network.create_security_group(name="own")
    try:
        for found, caller in ((True, town.tenant.caller), (False, town.stranger.caller)):
            assert (town.neutron.port(own.id, caller) is not None) is found
            assert town.neutron.has_security_group(group.id, caller) is found
        assert town.neutron.has_qos_policy(NOWHERE, town.tenant.caller) is False
    finally:
        town.admin.network.delete_port(own)
        town.admin.network.delete_security_group(group)


# The VIP.


def test_the_vip_port_says_whose_it_is(town: Town, lb: str) -> None:
    port = town.show(town.neutron.allocate_vip(town.wish(lb=lb)).port_id)
    assert (port.name, port.device_id, port.device_owner) == (f"octavia-lb-{lb}", f"lb-{lb}", "Octavia")
    assert port.project_id == town.tenant.project_id


def test_additional_vips_come_in_the_order_of_the_request(town: Town, lb: str) -> None:
    vip = town.neutron.allocate_vip(town.wish(
        VipAddress(subnet_id=town.v6_id, ip_address="fd77::77"), VipAddress(subnet_id=town.subnet_id), lb=lb))
    assert [subnet_id for subnet_id, _ in vip.addresses] == [town.v6_id, town.subnet_id]
    assert vip.addresses[0][1] == "fd77::77"


def test_a_taken_address_is_refused_by_name(town: Town, lb: str) -> None:
    town.neutron.allocate_vip(town.wish(VipAddress(subnet_id=town.subnet_id, ip_address="10.77.0.5"), lb=lb))
    with pytest.raises(AddressTaken, match=f"10.77.0.5 is already in use in subnet {town.subnet_id}"):
        town.neutron.allocate_vip(town.wish(
            VipAddress(subnet_id=town.subnet_id, ip_address="10.77.0.5"), lb=str(uuid4())))


@pytest.mark.parametrize(("address", "error"), [
    pytest.param("10.9.0.1", Invalid, id="outside the subnet"),
    pytest.param("10.77.0.255", Invalid, id="broadcast"),
    pytest.param("nonsense", Invalid, id="no address at all"),
])
def test_an_unusable_address_leaves_nothing_behind(
    town: Town, lb: str, address: str, error: type[ApiError]
) -> None:
    with pytest.raises(error, match=address):
        town.neutron.allocate_vip(town.wish(VipAddress(subnet_id=town.subnet_id, ip_address=address), lb=lb))


def test_a_full_subnet_says_so(town: Town, lb: str) -> None:
    others = [str(uuid4()), str(uuid4())]
    for other in others:
        town.neutron.allocate_vip(town.wish(VipAddress(subnet_id=town.small_id), lb=other))
    with pytest.raises(SubnetFull, match=f"{town.small_id} .10.77.1.0/29. has no free address"):
        town.neutron.allocate_vip(town.wish(VipAddress(subnet_id=town.small_id), lb=lb))
    with pytest.raises(TryAgain, match="No more IP addresses") as refused:
        town.neutron.ensure_amphora_port(lb, town.small_id)
    assert refused.value.reason == "no_address"
    for other in others:
        town.neutron.release_vip(other)


def test_the_tenants_quota_is_the_callers_fault(town: Town, lb: str) -> None:
    town.admin.network.update_quota(town.tenant.project_id, ports=0)
    try:
        with pytest.raises(Conflict, match=r"Quota exceeded for resources: .*port"):
            town.neutron.allocate_vip(town.wish(lb=lb))
    finally:
        town.admin.network.delete_quota(town.tenant.project_id)


def test_a_port_of_the_tenant_is_borrowed_and_given_back(town: Town, lb: str) -> None:
    own = town.tenant.connection.network.create_port(network_id=town.network_id, name="mine", fixed_ips=[
        {"subnet_id": town.subnet_id, "ip_address": "10.77.0.50"}])
    vip = town.neutron.allocate_vip(town.wish(
        VipAddress(subnet_id=town.subnet_id, ip_address="10.77.0.50"), lb=lb, port_id=own.id))
    assert vip.addresses == ((town.subnet_id, "10.77.0.50"),)
    with pytest.raises(InUse):
        town.neutron.allocate_vip(town.wish(lb=str(uuid4()), port_id=own.id))
    town.neutron.guard_vip(lb, WEB, [])
    town.neutron.release_vip(lb)
    after = town.show(own.id)
    assert (after.device_id, after.device_owner, after.security_group_ids) == ("", "", own.security_group_ids)
    town.admin.network.delete_port(own)


# Amphorae.


def test_an_amphora_port_may_answer_for_the_vips(town: Town, lb: str) -> None:
    port = town.neutron.ensure_amphora_port(lb, town.subnet_id, ["10.77.0.77", "fd77::77"])
    made = town.show(port.port_id)
    assert made.name == f"octavia-lb-vrrp-{lb}"
    assert {pair["ip_address"] for pair in made.allowed_address_pairs} == {"10.77.0.77", "fd77::77"}
    assert (port.cidr, port.gateway_ip, port.mac_address) == ("10.77.0.0/24", "10.77.0.1", made.mac_address)
    assert port.mtu > 1000


def test_subnets_of_one_network_share_a_port(town: Town, lb: str) -> None:
    ports = [town.neutron.ensure_amphora_port(lb, id, vips) for id, vips in (
        (town.subnet_id, ["10.77.0.77"]), (town.v6_id, ["fd77::77"]), (town.small_id, []))]
    assert len({port.port_id for port in ports}) == 1
    made = town.show(ports[0].port_id)
    assert {pair["ip_address"] for pair in made.allowed_address_pairs} == {"10.77.0.77", "fd77::77"}
    town.neutron.release_amphora_ports(lb, keep=[town.subnet_id])
    assert [ip["subnet_id"] for ip in town.show(ports[0].port_id).fixed_ips] == [town.subnet_id]


def test_a_subnet_that_is_gone_needs_somebody(town: Town, lb: str) -> None:
    with pytest.raises(GiveUp, match=f"subnet {NOWHERE} is no more") as refused:
        town.neutron.ensure_amphora_port(lb, NOWHERE)
    assert refused.value.reason == "network_gone"


def test_a_host_without_an_agent_is_named(town: Town, lb: str) -> None:
    port = town.neutron.ensure_amphora_port(lb, town.subnet_id)
    with pytest.raises(TryAgain, match="to host nowhere"):
        town.neutron.bind(lb, port, "nowhere")


def test_a_bound_port_says_what_to_call_its_device(town: Town, lb: str) -> None:
    host = world.plugger(town.admin).host
    port = town.neutron.bind(lb, town.neutron.ensure_amphora_port(lb, town.subnet_id), host)
    assert port.device == f"tap{port.port_id[:11]}"
    assert town.show(port.port_id).binding_host_id == host


def test_a_port_of_an_open_vswitch_says_which(town: Town, lb: str) -> None:
    switches = [agent for agent in town.admin.network.agents() if agent.agent_type == "Open vSwitch agent"]
    if not switches:
        pytest.skip("this cloud has no Open vSwitch")
    for agent in (agent for agent in switches if not agent.configuration.get("ovs_hybrid_plug")):
        port = town.neutron.bind(lb, town.neutron.ensure_amphora_port(lb, town.subnet_id), agent.host)
        assert port.device == f"tap{port.port_id[:11]}"
        assert port.switch == agent.configuration["integration_bridge"]


def test_an_open_vswitch_whose_filter_we_would_pass_by_is_refused(town: Town, lb: str) -> None:
    agents = town.admin.network.agents()
    host = next((agent.host for agent in agents if agent.configuration.get("ovs_hybrid_plug")), None)
    if host is None:
        pytest.skip("no Open vSwitch of this cloud filters by iptables")
    port = town.neutron.ensure_amphora_port(lb, town.subnet_id, berth=Berth(lb, host))
    assert (port.host, port.device, port.switch) == (None, None, None)
    with pytest.raises(GiveUp, match=f"host {host} filters by iptables.* set firewall_driver = openvswitch") as refused:
        town.neutron.bind(lb, port, host)
    assert refused.value.reason == "port_unbound"


def test_a_port_is_born_where_it_will_be_used(town: Town, lb: str) -> None:
    host = world.plugger(town.admin).host
    town.neutron.allocate_vip(town.wish(lb=lb))
    port = town.neutron.ensure_amphora_port(lb, town.subnet_id, ["10.77.0.77"], berth=Berth(lb, host))
    [group] = town.admin.network.security_groups(name=f"lb-{lb}")
    made = town.show(port.port_id)
    assert (port.host, port.device) == (host, f"tap{port.port_id[:11]}")
    assert (made.binding_host_id, made.device_id, made.security_group_ids) == (host, lb, [group.id])
    town.neutron.guard_vip(lb, WEB, [port])
    assert town.show(port.port_id).revision_number == made.revision_number


def test_a_port_for_a_host_without_an_agent_is_bound_later(town: Town, lb: str) -> None:
    port = town.neutron.ensure_amphora_port(lb, town.subnet_id, berth=Berth(lb, "nowhere"))
    assert (port.host, port.device) == (None, None)
    with pytest.raises(TryAgain, match="to host nowhere") as refused:
        town.neutron.bind(lb, port, "nowhere")
    assert refused.value.reason == "port_unbound"


# Who may reach the VIP.


def rules(town: Town, lb: str) -> set[tuple[object, ...]]:
    [group] = town.admin.network.security_groups(name=f"lb-{lb}")
    return {
        (rule["ethertype"], rule["protocol"], rule["port_range_min"], rule["remote_ip_prefix"],
         rule["remote_group_id"] == group.id)
        for rule in town.admin.network.get_security_group(group.id).security_group_rules
        if rule["direction"] == "ingress"
    }


def guarded(town: Town, lb: str) -> list[Port]:
    town.neutron.allocate_vip(town.wish(lb=lb))
    return [town.neutron.ensure_amphora_port(lb, town.subnet_id, ["10.77.0.77"])]


def test_the_group_follows_the_doors(town: Town, lb: str) -> None:
    ports = guarded(town, lb)
    doors = (Door("vrrp"), Door("tcp", 80, "0.0.0.0/0"), Door("udp", 53, "::/0"))
    town.neutron.guard_vip(lb, Guard(doors=doors), ports)
    assert rules(town, lb) == {
        ("IPv4", "vrrp", None, None, True), ("IPv4", "tcp", 80, None, False), ("IPv6", "udp", 53, None, False)}
    for _ in range(2):
        town.neutron.guard_vip(lb, Guard(doors=(Door("tcp", 80, "10.1.0.0/16"),)), ports)
        assert rules(town, lb) == {("IPv4", "tcp", 80, "10.1.0.0/16", False)}


def test_vip_and_amphora_are_in_the_group_alone(town: Town, lb: str) -> None:
    ports = guarded(town, lb)
    town.neutron.guard_vip(lb, WEB, ports)
    [group] = town.admin.network.security_groups(name=f"lb-{lb}")
    assert [port.security_group_ids for port in town.ports()] == [[group.id], [group.id]]


def test_the_tenants_own_groups_stand_beside_ours(town: Town, lb: str) -> None:
    own = town.tenant.connection.network.create_security_group(name="own")
    ports = guarded(town, lb)
    town.neutron.guard_vip(lb, Guard(group_ids=(own.id,)), ports)
    assert own.id in town.show(ports[0].port_id).security_group_ids
    assert rules(town, lb) == set()
    town.neutron.guard_vip(lb, WEB, ports)
    assert own.id not in town.show(ports[0].port_id).security_group_ids
    town.admin.network.delete_security_group(own)


def test_a_policy_of_quality_comes_and_goes(town: Town, lb: str) -> None:
    policy = town.admin.network.create_qos_policy(name="statera-test", shared=True)
    ports = guarded(town, lb)
    assert town.neutron.has_qos_policy(policy.id, town.tenant.caller)
    for policy_id in (policy.id, None):
        town.neutron.guard_vip(lb, Guard(qos_policy_id=policy_id), ports)
        assert {port.qos_policy_id for port in town.ports()} == {policy_id}
    town.admin.network.delete_qos_policy(policy)


# Whose it is.


def test_what_is_owned_names_its_owner_and_can_be_released(town: Town, lb: str) -> None:
    amphora = str(uuid4())
    town.neutron.allocate_vip(town.wish(lb=lb))
    town.neutron.guard_vip(lb, WEB, [town.neutron.ensure_amphora_port(amphora, town.subnet_id, ["10.77.0.77"])])
    own = town.tenant.connection.network.create_port(network_id=town.network_id, name=f"octavia-lb-{uuid4()}")
    ours = [thing for thing in town.neutron.owned() if thing.owner in (lb, amphora)]
    assert {(thing.kind, thing.owner, thing.is_amphoras) for thing in ours} == {
        ("port", lb, False), ("port", amphora, True), ("security group", lb, False)}
    assert own.id not in {thing.id for thing in town.neutron.owned()}
    for thing in sorted(ours, key=lambda thing: not thing.is_amphoras):
        town.neutron.release(thing)
    assert [thing for thing in town.neutron.owned() if thing.owner in (lb, amphora)] == []
    town.admin.network.delete_port(own)


# A cloud in trouble.


def test_a_vip_whose_port_was_deleted_behind_our_back_is_told(town: Town, lb: str) -> None:
    ports = guarded(town, lb)
    town.admin.network.delete_port(town.neutron.allocate_vip(town.wish(lb=lb)).port_id)
    with pytest.raises(GiveUp, match=f"the VIP's port of load balancer {lb} is no more in Neutron") as refused:
        town.neutron.guard_vip(lb, WEB, ports)
    assert refused.value.reason == "port_gone"


def test_a_token_that_counts_no_longer_is_renewed(town: Town, lb: str) -> None:
    cloud = world.Cloud(world.service_auth(town.admin))
    neutron = NeutronNetworks(cloud.service(
        "network", "Neutron", world.Endpoint(region_name=town.admin.config.region_name)))
    first = cloud.session.get_token()
    town.admin.identity.delete("/auth/tokens", headers={"X-Subject-Token": first}).raise_for_status()
    assert neutron.ensure_amphora_port(lb, town.subnet_id).subnet_id == town.subnet_id
    assert cloud.session.get_token() != first


def test_a_neutron_that_is_away_is_tried_again() -> None:
    admin = world.cloud_or_skip()
    away = world.Cloud(world.service_auth(admin)).service(
        "network", "Neutron", world.Endpoint(endpoint_override="http://127.0.0.1:1"))
    with pytest.raises(TryAgain, match="Neutron does not answer") as refused:
        NeutronNetworks(away).release_amphora_ports(NOWHERE)
    assert refused.value.reason == "cloud_silent"
