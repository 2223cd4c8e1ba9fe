# SPDX-License-Identifier: Apache-2.0
"""What every network driver promises, and what the `local` one promises besides."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Thread

import pytest

from statera.drivers.compute.hosts import Hosts
from statera.drivers.compute.noop import NoopCompute
from statera.drivers.network.local import LocalNetworks
from statera.drivers.network.noop import NoopNetwork
from statera.drivers.protocols import Caller, Compute, Network, VipAddress, VipRequest
from statera.errors import AddressTaken, InUse, Invalid, NotFound, SubnetFull, TryAgain
from statera.model.networks import AddressRange, LocalNetwork, LocalPort, LocalSubnet, bridge_name
from statera.store import tables
from statera.store.engine import Store
from statera.store.networks import NetworkBook, local_networks

NOON = datetime(2026, 1, 1, 12)
NET, SUBNET, SMALL, V6 = ("11111111-0000-4000-8000-00000000000" + digit for digit in "1234")
LB, AMPHORA = "22222222-0000-4000-8000-000000000001", "33333333-0000-4000-8000-000000000001"
ADMIN, TENANT, STRANGER = Caller(), Caller(project_id="tenant"), Caller(project_id="stranger")


def network(id: str = NET, **values: object) -> LocalNetwork:
    defaults = {"project_id": "tenant", "name": "net", "bridge": bridge_name(id), "created_at": NOON}
    return LocalNetwork(id=id, **defaults | values)


def subnet(id: str, cidr: str, *, first: str, last: str, gateway_ip: str | None = None) -> LocalSubnet:
    return LocalSubnet(
        id=id, network_id=NET, project_id="tenant", name="sub", cidr=cidr, ip_version=6 if ":" in cidr else 4,
        gateway_ip=gateway_ip, allocation_pools=(AddressRange(first, last),), created_at=NOON,
    )


@pytest.fixture
def book(tmp_path: Path) -> Iterator[NetworkBook]:
    store = Store(f"sqlite:///{tmp_path / 'book.db'}")
    tables.metadata.create_all(store.engine)
    book = NetworkBook(store)
    book.add_network(network())
    book.add_subnet(subnet(SUBNET, "10.0.0.0/24", first="10.0.0.2", last="10.0.0.254", gateway_ip="10.0.0.1"))
    book.add_subnet(subnet(SMALL, "10.0.1.0/29", first="10.0.1.2", last="10.0.1.3"))
    book.add_subnet(subnet(V6, "fd00::/64", first="fd00::10", last="fd00::ffff", gateway_ip="fd00::1"))
    yield book
    store.close()


@pytest.fixture
def local(book: NetworkBook) -> LocalNetworks:
    return LocalNetworks(book)


@pytest.fixture(params=["local", "noop"])
def driver(request: pytest.FixtureRequest, local: LocalNetworks) -> Network:
    return local if request.param == "local" else NoopNetwork()


def wish(*addresses: VipAddress, load_balancer_id: str = LB, **values: object) -> VipRequest:
    return VipRequest(
        load_balancer_id=load_balancer_id, project_id="tenant", network_id=NET,
        addresses=addresses or (VipAddress(subnet_id=SUBNET),), **values,
    )


# Every driver


def test_asking_twice_for_a_vip_gives_the_same_port(driver: Network) -> None:
    assert driver.allocate_vip(wish()) == driver.allocate_vip(wish())


def test_a_vip_has_the_address_that_was_asked_for(driver: Network) -> None:
    vip = driver.allocate_vip(wish(VipAddress(subnet_id=SUBNET, ip_address="10.0.0.77")))
    assert vip.addresses == ((SUBNET, "10.0.0.77"),)


def test_asking_twice_for_an_amphora_port_gives_the_same_port(driver: Network) -> None:
    first = driver.ensure_amphora_port(AMPHORA, SUBNET, ["10.0.0.2"])
    assert driver.ensure_amphora_port(AMPHORA, SUBNET, ["10.0.0.2"]) == first


def test_releasing_what_is_not_there_is_success(driver: Network) -> None:
    driver.release_vip(LB)
    driver.release_amphora_ports(AMPHORA)


def test_subnets_that_exist_are_shown_with_their_network(driver: Network) -> None:
    found = driver.subnet(SUBNET, ADMIN)
    assert found is not None
    assert driver.has_network(found.network_id, ADMIN)


# The local driver


def test_subnets_are_shown_as_they_are(local: LocalNetworks) -> None:
    found = local.subnet(SUBNET, ADMIN)
    assert found is not None
    assert (found.cidr, found.gateway_ip, found.network_id, found.free) == ("10.0.0.0/24", "10.0.0.1", NET, 253)
    assert [subnet.id for subnet in local.subnets(NET, ADMIN)] == [SUBNET, SMALL, V6]


def test_a_network_is_seen_by_its_project_and_by_admins(local: LocalNetworks) -> None:
    assert [local.has_network(NET, caller) for caller in (ADMIN, TENANT, STRANGER)] == [True, True, False]
    assert local.subnet(SUBNET, STRANGER) is None
    assert local.subnets(NET, STRANGER) == []


def test_a_shared_network_is_seen_by_all(book: NetworkBook) -> None:
    other = "11111111-1111-4000-8000-000000000009"
    book.add_network(network(other, shared=True))
    assert LocalNetworks(book).has_network(other, STRANGER)


def test_the_vip_port_says_whose_it_is(local: LocalNetworks, book: NetworkBook) -> None:
    vip = local.allocate_vip(wish())
    [port] = book.ports(vip.port_id)
    assert (port.name, port.device_id, port.device_owner) == (f"octavia-lb-{LB}", f"lb-{LB}", "Octavia")
    assert vip.addresses == ((SUBNET, "10.0.0.2"),)


def test_additional_vips_come_in_the_order_of_the_request(local: LocalNetworks) -> None:
    vip = local.allocate_vip(wish(VipAddress(subnet_id=V6), VipAddress(subnet_id=SUBNET)))
    assert vip.addresses == ((V6, "fd00::10"), (SUBNET, "10.0.0.2"))


def test_amphora_ports_are_named_by_their_use(local: LocalNetworks, book: NetworkBook) -> None:
    local.ensure_amphora_port(AMPHORA, SUBNET, ["10.0.0.2"])
    local.ensure_amphora_port(AMPHORA, SMALL)
    assert {port.name for port in book.ports()} == {
        f"octavia-lb-vrrp-{AMPHORA}", f"octavia-lb-member-{AMPHORA}"
    }


def test_an_amphora_port_says_all_that_a_host_needs(local: LocalNetworks) -> None:
    port = local.ensure_amphora_port(AMPHORA, SUBNET, ["10.0.0.2"])
    assert (port.bridge, port.cidr, port.gateway_ip, port.mtu) == (bridge_name(NET), "10.0.0.0/24", "10.0.0.1", 1500)


def test_a_taken_address_is_refused_by_name(local: LocalNetworks) -> None:
    local.allocate_vip(wish())
    with pytest.raises(AddressTaken, match=f"10.0.0.2 is already in use in subnet {SUBNET}"):
        local.allocate_vip(wish(VipAddress(subnet_id=SUBNET, ip_address="10.0.0.2"), load_balancer_id="another"))


@pytest.mark.parametrize(("address", "error"), [
    pytest.param("10.9.0.1", Invalid, id="outside the subnet"),
    pytest.param("10.0.0.255", Invalid, id="broadcast"),
    pytest.param("nonsense", Invalid, id="no address at all"),
    pytest.param("10.0.0.1", AddressTaken, id="the gateway"),
])
def test_an_unusable_address_leaves_nothing_behind(
    local: LocalNetworks, book: NetworkBook, address: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=address):
        local.allocate_vip(wish(VipAddress(subnet_id=SUBNET, ip_address=address)))
    assert book.ports() == []


def test_a_full_subnet_says_so(local: LocalNetworks) -> None:
    for id in ("one", "two"):
        local.allocate_vip(wish(VipAddress(subnet_id=SMALL), load_balancer_id=id))
    with pytest.raises(SubnetFull, match=f"{SMALL} .10.0.1.0/29. has no free address"):
        local.allocate_vip(wish(VipAddress(subnet_id=SMALL)))
    with pytest.raises(TryAgain, match="has no free address"):
        local.ensure_amphora_port(AMPHORA, SMALL)


def test_a_released_address_can_be_had_again(local: LocalNetworks, book: NetworkBook) -> None:
    local.allocate_vip(wish())
    local.ensure_amphora_port(AMPHORA, SUBNET)
    local.release_vip(LB)
    local.release_amphora_ports(AMPHORA)
    assert book.ports() == []
    assert local.allocate_vip(wish(load_balancer_id="next")).addresses == ((SUBNET, "10.0.0.2"),)


def test_amphora_ports_in_kept_subnets_stay(local: LocalNetworks, book: NetworkBook) -> None:
    kept = local.ensure_amphora_port(AMPHORA, SUBNET, ["10.0.0.2"])
    local.ensure_amphora_port(AMPHORA, SMALL)
    local.release_amphora_ports(AMPHORA, keep=[SUBNET])
    assert [port.id for port in book.ports()] == [kept.port_id]


def test_a_port_of_the_tenant_is_borrowed_and_given_back(local: LocalNetworks, book: NetworkBook) -> None:
    own = LocalPort(id="44444444-0000-4000-8000-000000000001", network_id=NET, project_id="tenant", name="mine",
                    mac_address="02:00:00:00:00:01", created_at=NOON)
    book.ensure_port(own, wanted=[(SUBNET, "10.0.0.50")])
    vip = local.allocate_vip(wish(port_id=own.id))
    assert vip.addresses == ((SUBNET, "10.0.0.50"),)
    with pytest.raises(InUse):
        local.allocate_vip(wish(port_id=own.id, load_balancer_id="another"))
    local.release_vip(LB)
    assert [port.device_id for port in book.ports()] == [""]


def test_nothing_in_use_is_deleted(local: LocalNetworks, book: NetworkBook) -> None:
    local.allocate_vip(wish())
    with pytest.raises(InUse, match=f"octavia-lb-{LB}"):
        book.remove_network(NET)
    with pytest.raises(InUse, match=r"10\.0\.0\.2"):
        book.remove_subnet(SUBNET)
    local.release_vip(LB)
    book.remove_network(NET)
    assert book.subnets() == []
    with pytest.raises(NotFound):
        book.remove_network(NET)


def test_many_at_once_never_get_the_same_address(local: LocalNetworks) -> None:
    given: list[str] = []

    def take(number: int) -> None:
        given.append(local.allocate_vip(wish(load_balancer_id=f"lb-{number}")).addresses[0][1])

    threads = [Thread(target=take, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == 16


def test_hosts_bear_the_gateways_of_our_own_bridges_only(book: NetworkBook) -> None:
    other = "11111111-1111-4000-8000-000000000008"
    book.add_network(network(other, bridge="br-ex", existing_bridge=True))
    with book.store.read() as connection:
        ours, theirs = local_networks(connection)
    assert ours.gateways == ("10.0.0.1/24", "fd00::1/64")
    assert (theirs.bridge, theirs.existing, theirs.gateways) == ("br-ex", True, ())


def test_what_is_owned_names_its_owner_and_can_be_released(local: LocalNetworks, book: NetworkBook) -> None:
    local.allocate_vip(VipRequest(
        load_balancer_id=LB, project_id="tenant", network_id=NET, addresses=(VipAddress(subnet_id=SUBNET),)))
    local.ensure_amphora_port(AMPHORA, SUBNET)
    book.add_port(LocalPort(
        id="44444444-0000-4000-8000-000000000001", network_id=NET, project_id="tenant", name="the tenant's own",
        mac_address="02:00:00:00:00:01", created_at=NOON), wanted=[(SUBNET, None)])
    found = local.owned()
    assert {(thing.owner, thing.is_amphoras) for thing in found} == {(LB, False), (AMPHORA, True)}
    for thing in (*found, *found):  # one that is gone is success
        local.release(thing)
    assert local.owned() == []
    assert [port.name for port in book.ports()] == ["the tenant's own"]


@pytest.mark.parametrize("driver", [NoopNetwork(), NoopCompute(), Hosts()], ids=lambda driver: type(driver).__name__)
def test_what_makes_nothing_outside_owns_nothing(driver: Network | Compute) -> None:
    assert list(driver.owned()) == []
