# SPDX-License-Identifier: Apache-2.0
"""What operators are told about load balancers that are not as they should be: one story for each broken world."""

from datetime import datetime

import pytest
from msgspec.structs import replace

from statera.controller.explain import explain
from statera.controller.plan import Seen
from statera.model.circumstances import Circumstances, Happening
from statera.model.fleet import Amphora, Node, Port, Role
from statera.model.tree import LoadBalancer

LB = LoadBalancer(id="lb", project_id="p", provider="amphora", topology="SINGLE", version=7, created_version=1,
                  wanted_version=7, done_version=6, vip_subnet_id="vip", vip_address="10.0.0.5")
PORT = Port(port_id="p", network_id="n", subnet_id="vip", ip_address="10.0.0.9", cidr="10.0.0.0/24")
ONE = Amphora(id="a1", load_balancer_id="lb", role=Role.STANDALONE, born_version=1, node_id="n1", node_heard=True,
              ports=(PORT,), applied_version=7)
RED, BLUE = Node(id="n1", name="red", heard=True), Node(id="n2", name="blue", heard=True)
SILENT = replace(RED, heard=False)
DOUBT = "2 of 3 nodes fell silent at once, which looks like our own fault"


def happened(reason, message, attempt=0):
    return Happening(at=datetime(2026, 8, 1), reason=reason, message=message, attempt=attempt)


REFUSED = "haproxy -c: unknown keyword 'frobnicate'"
WORLDS = [
    pytest.param(
        [replace(ONE, node_id=None, node_heard=False, applied_version=0)], [],
        Circumstances(attempts=4, due_seconds=8, latest=(
            happened("no_node", "no node can carry amphora a1: 0 enrolled", 4),)),
        "amphora a1 (STANDALONE) has no node, 1 ports", "a node for amphora a1 (STANDALONE)",
        "the last pass failed: no node can carry amphora a1: 0 enrolled", "let one join (`statera node token`)",
        "the next pass comes in 8 s after 4 failures", id="no node"),
    pytest.param(
        [replace(ONE, node_heard=False)], [SILENT, BLUE], Circumstances(doubt=DOUBT),
        "amphora a1 (STANDALONE) runs version 7 on node red, which is silent", "nothing",
        f"node red is silent and not taken for lost: {DOUBT}", "`statera node lost red`",
        "it is looked at again when one of these facts changes", id="the breaker holds"),
    pytest.param(
        [replace(ONE, applied_version=6)], [RED],
        Circumstances(failure=REFUSED, latest=(happened("not_applied", REFUSED),)),
        "amphora a1 (STANDALONE) runs version 6 on node red, which is connected",
        "amphora a1 (STANDALONE) runs version 6 of 7", REFUSED, "then `statera lb repair` tries at once",
        "it is looked at again when one of these facts changes", id="HAProxy refuses"),
    pytest.param(
        [], [RED],
        Circumstances(attempts=2, due_seconds=-1, latest=(
            happened("no_address", "subnet vip (10.0.0.0/30) is full", 2),)),
        "no amphora", "an amphora as STANDALONE", "the last pass failed: subnet vip (10.0.0.0/30) is full",
        "make a larger subnet", "the next pass is due now after 2 failures", id="the network is full"),
    pytest.param(
        [ONE], [replace(RED, drained=True)], Circumstances(due_seconds=3),
        "amphora a1 (STANDALONE) runs version 7 on node red, which is connected and drained",
        "another node for amphora a1 (STANDALONE): its node is drained",
        "wait for a node that can take over from amphora a1 (its node is drained)",
        "start or add another node", "the next pass comes in 3 s", id="a drained node has nowhere to go"),
    pytest.param(
        [replace(ONE, node_heard=False)], [SILENT], Circumstances(managers=0),
        "which is silent", "nothing", "no health manager is alive", "start octavia-health-manager",
        "it is looked at again when one of these facts changes", id="no health manager"),
    pytest.param(
        [], [RED], Circumstances(due_seconds=-90), "no amphora", "an amphora as STANDALONE",
        "it has been due for 90 s and no worker has taken it", "look whether octavia-worker runs",
        "the next pass is due now", id="no worker"),
]


@pytest.mark.parametrize(("amphorae", "nodes", "now", "there", "missing", "why", "todo", "next_"), WORLDS)
def test_a_broken_world_is_explained(amphorae, nodes, now, there, missing, why, todo, next_):
    story = explain(LB, Seen(amphorae=tuple(amphorae), nodes=tuple(nodes)), now)
    assert there in " ".join(story.there)
    assert missing in story.missing
    assert any(sentence.startswith(why) for sentence in story.why)
    assert todo in " ".join(story.todo)
    assert story.next == next_


def test_of_one_that_is_as_it_should_be_there_is_nothing_to_say():
    story = explain(LB, Seen(amphorae=(ONE,), nodes=(RED,)), Circumstances())
    assert story.wanted[0] == "SINGLE with the VIP 10.0.0.5, at version 7"
    assert (story.missing, story.why, story.todo, story.next) == (("nothing",), (), ("nothing",), "nothing is due")


def test_a_delete_tells_what_it_waits_for():
    leaving = Seen(amphorae=(replace(ONE, leaving=True),), nodes=(RED,))
    story = explain(replace(LB, deleting=True), leaving, Circumstances())
    assert story.wanted == ("to be deleted",)
    assert story.missing == ("amphora a1 (STANDALONE) is still there",)
    assert story.why == ("wait until amphora a1 has left its node",)
