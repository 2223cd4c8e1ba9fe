# SPDX-License-Identifier: Apache-2.0
"""Load balancers over several hosts, as their operator and their tenants see it."""

import json
from collections.abc import Iterator

import pytest
from hosts import Box, DataCentre, Host, data_centre, tree

from benchmarks.client import until
from statera.model.networks import OVERLAY_MTU

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


def test_large_answers_cross_the_overlay_whole(centre: DataCentre) -> None:
    api = centre.api()
    network = centre.new_network(api, "10.79.0.0/24")
    a, b = centre.hosts[0].plug(network.bridge, network.address(10)), centre.hosts[1].plug(
        network.bridge, network.address(11))
    body = "x" * 1_800  # HAProxy takes no longer line, and it fills more than one frame
    a.serve(body)
    until(lambda: b.get(a.address) == body)
    ports = json.loads(centre.hosts[0].run("ip", "-j", "link", "show", "master", network.bridge))
    assert {port["mtu"] for port in ports} == {OVERLAY_MTU}


def test_every_host_is_the_gateway_of_what_is_on_it(centre: DataCentre) -> None:
    """A machine reaches one on another network and another host; each asks the gateway of its own host."""
    api = centre.api()
    red, blue = centre.new_network(api, "10.80.0.0/24"), centre.new_network(api, "10.81.0.0/24")
    a, b, _ = centre.hosts
    one = a.plug(red.bridge, red.address(10), gateway=red.gateway)
    other = b.plug(blue.bridge, blue.address(10), gateway=blue.gateway)
    other.serve("blue")
    until(lambda: one.get(other.address) == "blue")
    assert mac_of_gateway(one, red.gateway) == mac_of_bridge(a, red.bridge)
    assert mac_of_gateway(other, blue.gateway) == mac_of_bridge(b, blue.bridge)


def test_an_agent_that_starts_without_any_controller_joins_its_networks_again(centre: DataCentre) -> None:
    api = centre.api()
    network = centre.new_network(api, "10.82.0.0/24")
    a, b, _ = centre.hosts
    one, other = a.plug(network.bridge, network.address(10)), b.plug(network.bridge, network.address(11))
    other.serve("here")
    until(lambda: one.get(other.address) == "here")
    manager = centre.controllers[0].services["octavia-health-manager"]
    manager.stop()
    try:
        a.agent.kill()
        port = next(link["ifname"] for link in json.loads(a.run("ip", "-j", "link", "show", "master", network.bridge))
                    if "vx" in link["ifname"])
        a.run("ip", "link", "del", port)
        assert one.get(other.address) is None
        a.agent.start()
        until(lambda: one.get(other.address) == "here", seconds=30)
    finally:
        manager.start()
        centre.wait_for_hosts(*centre.hosts)


def test_a_host_that_leaves_gets_no_frames_any_more(centre: DataCentre) -> None:
    """Drained it carries nothing, removed it is nobody's peer, with a new token it is one again."""
    a, _, c = centre.hosts
    centre.new_network(centre.api(), "10.83.0.0/24")
    until(lambda: c.address in flooded(a), seconds=30, step_seconds=0.2)
    centre.statera("node", "drain", c.name)
    until(lambda: centre.amphorae_on(c) == 0, seconds=60, step_seconds=0.5)
    c.agent.stop()
    centre.statera("node", "remove", c.name)
    until(lambda: c.address not in flooded(a), seconds=30, step_seconds=0.2)
    centre.join(c)
    c.agent.start()
    centre.wait_for_hosts(c)
    until(lambda: c.address in flooded(a), seconds=30, step_seconds=0.2)


def flooded(host: Host) -> str:
    """Where the host's overlay ports send what nobody knows."""
    return host.run("bridge", "fdb", "show")


def mac_of_gateway(box: Box, gateway: str) -> str:
    return box.run("ip", "neigh", "show", gateway).split("lladdr ")[1].split()[0]


def mac_of_bridge(host: Host, bridge: str) -> str:
    [link] = json.loads(host.run("ip", "-j", "link", "show", bridge))
    return str(link["address"])
