# SPDX-License-Identifier: Apache-2.0
"""What the controller relies on, whichever compute driver is configured."""

import pytest

from statera.drivers.compute.hosts import Hosts
from statera.drivers.compute.noop import NoopCompute
from statera.drivers.protocols import AmphoraRequest
from statera.errors import TryAgain
from statera.model.fleet import Node

EMPTY = Node(id="empty", name="empty", heard=True, zone="z1")
BUSY = Node(id="busy", name="busy", heard=True, amphorae=9, zone="z2")
SILENT = Node(id="silent", name="silent", heard=False)
DRAINED = Node(id="drained", name="drained", heard=True, drained=True)


def request(*nodes, **facts):
    return AmphoraRequest(amphora_id="a", load_balancer_id="lb", nodes=nodes, **facts)


@pytest.fixture(params=[Hosts, NoopCompute])
def compute(request):
    return request.param()


def test_a_node_is_named_exactly_where_there_are_nodes(compute):
    assert (compute.ensure_node(request(EMPTY, BUSY)) is not None) == compute.has_nodes


def test_asking_again_gives_the_same_answer(compute):
    assert compute.ensure_node(request(EMPTY, BUSY)) == compute.ensure_node(request(EMPTY, BUSY))
    assert compute.machine("a") is None or compute.machine("a").compute_id == compute.machine("a").compute_id


def test_removing_what_is_gone_is_success(compute):
    compute.ensure_absent("a")
    compute.ensure_absent("a")


@pytest.mark.parametrize(("asked", "node"), [
    pytest.param(request(BUSY, EMPTY), "empty", id="the emptiest"),
    pytest.param(request(BUSY, EMPTY, beside=("empty",)), "busy", id="not beside the other one of a pair"),
    pytest.param(request(EMPTY, beside=("empty",)), "empty", id="beside it if there is no other"),
    pytest.param(request(SILENT, DRAINED, BUSY), "busy", id="neither silent nor drained"),
    pytest.param(request(EMPTY, BUSY, zone="z2"), "busy", id="in the zone"),
])
def test_hosts_choose(asked, node):
    assert Hosts().ensure_node(asked) == node


def test_hosts_say_why_there_is_none_and_what_to_do():
    with pytest.raises(TryAgain, match="2 enrolled, 1 connected, 1 drained; start statera-agent") as refused:
        Hosts().ensure_node(request(SILENT, DRAINED))
    assert refused.value.reason == "no_node"


def test_equal_hosts_share_what_is_placed_at_once():
    equals = tuple(Node(id=name, name=name, heard=True) for name in ("a", "b", "c"))
    chosen = [Hosts().ensure_node(AmphoraRequest(amphora_id=f"amphora-{number}", load_balancer_id="lb", nodes=equals))
              for number in range(60)]
    assert all(chosen.count(node.id) > 10 for node in equals)
