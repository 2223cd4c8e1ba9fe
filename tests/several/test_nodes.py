# SPDX-License-Identifier: Apache-2.0
"""Load balancers over several hosts, as their operator and their tenants see it."""

from collections.abc import Iterator

import pytest
from hosts import DataCentre, data_centre, tree

from benchmarks.client import until

PAIRS = """
[controller_worker]
loadbalancer_topology = ACTIVE_STANDBY
"""


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataCentre]:
    with data_centre(tmp_path_factory.mktemp("nodes"), hosts=3, options=PAIRS) as running:
        yield running


def test_a_pair_on_a_bridge_that_the_operator_plugged_together_serves_from_two_hosts(centre: DataCentre) -> None:
    centre.plug_together("br-ex")
    api = centre.api()
    network = centre.new_network(api, **{"provider:physical_network": "br-ex"})
    a, b, c = centre.hosts
    members = [host.plug("br-ex", network.address(10 + n), mtu=1500) for n, host in enumerate((a, b))]
    for member in members:
        member.serve(member.name)
    client = c.plug("br-ex", network.address(20), mtu=1500)
    made = api.post("/v2/lbaas/loadbalancers", tree(network, members))["loadbalancer"]
    api.wait_for(made["id"], "ACTIVE")
    until(lambda: {client.get(made["vip_address"]) for _ in range(6)} == {member.name for member in members})
    assert len(set(centre.placed(made["id"]).values())) == 2


def test_a_network_spans_all_hosts_without_anything_plugged(centre: DataCentre) -> None:
    api = centre.api()
    network = centre.new_network(api, "10.78.0.0/24")
    a, _, c = centre.hosts
    member, client = a.plug(network.bridge, network.address(10)), c.plug(network.bridge, network.address(20))
    member.serve("a")
    made = api.post("/v2/lbaas/loadbalancers", tree(network, [member]))["loadbalancer"]
    api.wait_for(made["id"], "ACTIVE")
    until(lambda: client.get(made["vip_address"]) == "a")
    assert len(set(centre.placed(made["id"]).values())) == 2
