# SPDX-License-Identifier: Apache-2.0
"""The book of local networks under many writers at once, on every database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from statera.drivers.network.local import LocalNetworks
from statera.drivers.protocols import Vip, VipAddress, VipRequest
from statera.errors import ApiError, Conflict
from statera.model.networks import AddressRange, LocalNetwork, LocalSubnet, bridge_name
from statera.store.engine import Store
from statera.store.networks import NetworkBook

NOON = datetime(2026, 1, 1, 12)
NET, SUBNET = "11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002"
WRITERS = 12


def subnet(id: str = SUBNET, cidr: str = "10.0.0.0/24", last: str = "10.0.0.254") -> LocalSubnet:
    return LocalSubnet(
        id=id, network_id=NET, project_id="tenant", name="sub", cidr=cidr, ip_version=4, created_at=NOON,
        allocation_pools=(AddressRange("10.0.0.2", last),))


@pytest.fixture
def book(store: Store) -> NetworkBook:
    book = NetworkBook(store)
    book.add_network(LocalNetwork(id=NET, project_id="tenant", name="net", bridge=bridge_name(NET), created_at=NOON))
    return book


def wish(load_balancer_id: str, address: str | None = None) -> VipRequest:
    return VipRequest(load_balancer_id=load_balancer_id, project_id="tenant", network_id=NET,
                      addresses=(VipAddress(subnet_id=SUBNET, ip_address=address),))


def at_once(act: Callable[[int], Vip | None]) -> list[Vip | ApiError | None]:
    """What *act* returns or raises to each of many callers at the same time."""
    def attempt(number: int) -> Vip | ApiError | None:
        try:
            return act(number)
        except ApiError as error:
            return error

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(attempt, range(WRITERS)))


def test_no_address_is_given_twice(book: NetworkBook) -> None:
    book.add_subnet(subnet())
    vips = at_once(lambda number: LocalNetworks(book).allocate_vip(wish(f"lb-{number}")))
    assert {vip.addresses[0][1] for vip in vips if isinstance(vip, Vip)} == {f"10.0.0.{n}" for n in range(2, 14)}


def test_one_address_that_all_want_is_given_to_one(book: NetworkBook) -> None:
    book.add_subnet(subnet())
    given = at_once(lambda number: LocalNetworks(book).allocate_vip(wish(f"lb-{number}", "10.0.0.77")))
    assert [isinstance(answer, Vip) for answer in given].count(True) == 1
    assert [isinstance(answer, Conflict) for answer in given].count(True) == WRITERS - 1


def test_a_port_that_all_make_by_name_is_made_once(book: NetworkBook) -> None:
    book.add_subnet(subnet())
    given = at_once(lambda _: LocalNetworks(book).allocate_vip(wish("lb")))
    assert given == [given[0]] * WRITERS
    assert len(book.ports()) == 1


def test_a_subnet_gives_what_it_has_and_no_more(book: NetworkBook) -> None:
    book.add_subnet(subnet(last="10.0.0.6"))
    given = at_once(lambda number: LocalNetworks(book).allocate_vip(wish(f"lb-{number}")))
    assert [isinstance(answer, Vip) for answer in given].count(True) == 5
    assert len(book.ports()) == 5


def test_of_overlapping_subnets_one_is_made(book: NetworkBook) -> None:
    given = at_once(lambda number: book.add_subnet(subnet(id=f"subnet-{number}", cidr="10.0.0.0/16")))
    assert [answer is None for answer in given].count(True) == 1
    assert len(book.subnets()) == 1


def test_a_network_that_goes_while_ports_come_leaves_none(book: NetworkBook) -> None:
    book.add_subnet(subnet())

    def act(number: int) -> Vip | None:
        if number % 2:
            return LocalNetworks(book).allocate_vip(wish(f"lb-{number}"))
        book.remove_network(NET)
        return None

    at_once(act)
    assert bool(book.networks()) == bool(book.ports())
