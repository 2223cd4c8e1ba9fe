# SPDX-License-Identifier: Apache-2.0
"""What the controller decides about amphorae: single cases first, then what holds from every start."""

from itertools import count
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from statera.controller.plan import Seen, plan, serves, wanted_subnets
from statera.controller.steps import (
    Action,
    AddAmphora,
    AwaitBudget,
    AwaitGone,
    AwaitReturn,
    AwaitSuccessor,
    ChangeRole,
    FinishDelete,
    GuardVip,
    HoldBack,
    MarkApplied,
    PlaceAmphora,
    PlugAmphora,
    ReleaseAmphora,
    RetireAmphora,
    SucceedAmphora,
)
from statera.model.fleet import ROLES, Amphora, Node, Port, Role
from statera.model.guard import guard
from statera.model.tree import AdditionalVip, LoadBalancer, Member, Pool


def port(subnet_id):
    return Port(port_id=f"port-{subnet_id}", network_id="n", subnet_id=subnet_id, ip_address="10.0.0.9",
                cidr="10.0.0.0/24")


def amphora(id, role, **facts):
    serving = {"node_id": "here", "node_heard": True, "ports": (port("vip"),), "applied_version": 5, "born_version": 2}
    return Amphora(id=id, load_balancer_id="lb", role=role, **(serving | facts))


SINGLE = LoadBalancer(id="lb", project_id="p", provider="amphora", topology="SINGLE", version=5, created_version=1,
                      wanted_version=1, vip_subnet_id="vip", vip_address="10.0.0.5")
PAIR = replace(SINGLE, topology="ACTIVE_STANDBY")
HERE, THERE = Node(id="here", name="here", heard=True), Node(id="there", name="there", heard=True)
LOST = Node(id="lost", name="lost", heard=False, lost=True)
DRAINED = Node(id="drained", name="drained", heard=True, drained=True)
NODES = (HERE, THERE, LOST, DRAINED)
GONE, CROWDED = "its node is lost", "it shares a node with its peer, and another is free"
ONE = amphora("a", Role.STANDALONE)
MASTER, BACKUP = amphora("m", Role.MASTER), amphora("b", Role.BACKUP, node_id="there")
NEW = {"node_id": None, "node_heard": False, "ports": (), "applied_version": 0, "born_version": 5}
ON_LOST = {"node_id": "lost", "node_heard": False}


@pytest.mark.parametrize(("desired", "amphorae", "steps"), [
    pytest.param(PAIR, [], [AddAmphora(Role.MASTER), AddAmphora(Role.BACKUP)], id="nothing exists yet"),
    pytest.param(PAIR, [MASTER, BACKUP], [], id="settled"),
    pytest.param(PAIR, [MASTER], [AddAmphora(Role.BACKUP)], id="the backup is missing"),
    pytest.param(SINGLE, [amphora("a", Role.STANDALONE, **NEW)], [PlugAmphora("a", ("vip",))], id="added, not plugged"),
    pytest.param(SINGLE, [amphora("a", Role.STANDALONE, **NEW | {"ports": (port("vip"),)})], [PlaceAmphora("a")],
                 id="plugged, not placed"),
    pytest.param(PAIR, [MASTER, replace(BACKUP, applied_version=4)], [], id="a node has yet to apply: not our turn"),
    pytest.param(SINGLE, [replace(ONE, replace=True)],
                 [SucceedAmphora(Role.STANDALONE, "a", "its replacement is wished")], id="failover of an amphora"),
    pytest.param(replace(SINGLE, failover_version=3), [ONE], [SucceedAmphora(Role.STANDALONE, "a", "failover")],
                 id="failover"),
    pytest.param(replace(SINGLE, failover_version=3),
                 [ONE, amphora("s", Role.STANDALONE, born_version=3, applied_version=0)],
                 [AwaitSuccessor("s")], id="failover, the successor does not serve yet"),
    pytest.param(replace(SINGLE, failover_version=3), [ONE, amphora("s", Role.STANDALONE, born_version=3)],
                 [RetireAmphora("a", "failover")], id="failover, the successor serves"),
    pytest.param(replace(PAIR, failover_version=3), [MASTER, BACKUP], [SucceedAmphora(Role.BACKUP, "b", "failover")],
                 id="failover of a pair begins with the backup"),
    pytest.param(replace(PAIR, failover_version=3), [MASTER, replace(BACKUP, vrrp_state="MASTER")],
                 [SucceedAmphora(Role.MASTER, "m", "failover")], id="failover of a pair spares the one that serves"),
    pytest.param(SINGLE, [replace(ONE, leaving=True)], [AddAmphora(Role.STANDALONE), AwaitGone("a")],
                 id="the only amphora leaves"),
    pytest.param(PAIR, [MASTER, replace(BACKUP, **ON_LOST)], [SucceedAmphora(Role.BACKUP, "b", GONE, 0.25)],
                 id="the backup's node is lost"),
    pytest.param(PAIR, [replace(MASTER, **ON_LOST), replace(BACKUP, **ON_LOST)],
                 [SucceedAmphora(Role.BACKUP, "b", GONE, 0.0), SucceedAmphora(Role.MASTER, "m", GONE, 0.0)],
                 id="both nodes are lost"),
    pytest.param(SINGLE, [replace(ONE, leaving=True, **ON_LOST), amphora("s", Role.STANDALONE)], [AwaitReturn("a")],
                 id="what a lost node may still run keeps its addresses"),
    pytest.param(PAIR, [MASTER, replace(BACKUP, node_heard=False)], [], id="a node is silent, not lost: nothing yet"),
    pytest.param(SINGLE, [replace(ONE, node_id=None, node_heard=False)],
                 [SucceedAmphora(Role.STANDALONE, "a", GONE, 0.0)], id="the node was removed"),
    pytest.param(SINGLE, [replace(ONE, node_id="drained")],
                 [SucceedAmphora(Role.STANDALONE, "a", "its node is drained", 0.5)], id="the node is drained"),
    pytest.param(PAIR, [replace(MASTER, node_id="drained"), replace(BACKUP, node_id="drained")],
                 [SucceedAmphora(Role.BACKUP, "b", "its node is drained", 0.5)],
                 id="a drained node gives up a pair one by one"),
    pytest.param(PAIR, [MASTER, replace(BACKUP, node_id="here")], [SucceedAmphora(Role.BACKUP, "b", CROWDED, 0.5)],
                 id="a pair shares a node though another is free"),
    pytest.param(PAIR, [MASTER, replace(BACKUP, node_id="here", vrrp_state="MASTER")],
                 [SucceedAmphora(Role.MASTER, "m", CROWDED, 0.5)], id="the spare one moves to the free node"),
    pytest.param(SINGLE, [replace(ONE, built={"compute_flavor": "small"})],
                 [SucceedAmphora(Role.STANDALONE, "a", "its flavor has changed")], id="made from another flavor"),
    pytest.param(PAIR, [ONE], [AddAmphora(Role.BACKUP)], id="a single becomes a pair: first comes a backup"),
    pytest.param(PAIR, [ONE, amphora("b", Role.BACKUP, **NEW | {"ports": (port("vip"),)})],
                 [ChangeRole("a", Role.MASTER)], id="a single becomes a pair: it goes on as master"),
    pytest.param(PAIR, [replace(ONE, **ON_LOST)], [AddAmphora(Role.MASTER), AddAmphora(Role.BACKUP)],
                 id="a single that is lost becomes a new pair"),
    pytest.param(SINGLE, [MASTER, replace(BACKUP, vrrp_state="MASTER")],
                 [ChangeRole("b", Role.STANDALONE), RetireAmphora("m", "its role is no more")],
                 id="a pair becomes a single: who serves stays"),
    pytest.param(SINGLE, [ONE, amphora("x", Role.STANDALONE, applied_version=4)],
                 [RetireAmphora("x", "another one holds its role")], id="one too many"),
    pytest.param(SINGLE, [ONE, BACKUP], [RetireAmphora("b", "its role is no more")], id="a pair became a single"),
    pytest.param(SINGLE, [replace(ONE, applied_version=0), BACKUP], [],
                 id="the last of a pair stays while what takes its place does not serve"),
    pytest.param(replace(PAIR, deleting=True), [MASTER, replace(BACKUP, leaving=True, gone=True)],
                 [RetireAmphora("m", "load balancer deleted"), ReleaseAmphora("b")], id="delete"),
    pytest.param(replace(PAIR, deleting=True), [replace(BACKUP, leaving=True)], [AwaitGone("b")],
                 id="delete waits for the node"),
    pytest.param(replace(PAIR, deleting=True), [replace(BACKUP, leaving=True, **ON_LOST)], [ReleaseAmphora("b")],
                 id="delete does not wait for a lost node"),
    pytest.param(replace(PAIR, deleting=True), [], [FinishDelete()], id="delete has only the VIP left"),
])
def test_plan(desired, amphorae, steps):
    assert plan(desired, Seen(amphorae=tuple(amphorae), nodes=NODES)) == steps


def test_an_amphora_on_a_lost_node_is_held_back_while_no_other_node_could_carry_it():
    seen = Seen(amphorae=(replace(ONE, **ON_LOST),), nodes=(replace(HERE, drained=True), LOST))
    assert plan(SINGLE, seen) == [HoldBack("a", GONE)]


def test_with_machines_of_their_own_a_lost_one_ends_with_its_amphora_and_needs_no_other_node():
    seen = Seen(amphorae=(replace(ONE, **ON_LOST), replace(ONE, id="x", leaving=True, **ON_LOST)), nodes=(LOST,),
                own_machines=True)
    assert plan(SINGLE, seen) == [SucceedAmphora(Role.STANDALONE, "a", GONE, 0.0), ReleaseAmphora("x")]


@pytest.mark.parametrize(("budget", "amphorae", "held_back"), [
    pytest.param(0.01, [ONE], [], id="a little left is for those that nobody serves"),
    pytest.param(-0.01, [ONE], ["a"], id="nothing left"),
    pytest.param(0.2, [MASTER, BACKUP], ["b"], id="who still serves waits for a quarter"),
])
def test_the_budget_holds_back(budget, amphorae, held_back):
    desired = PAIR if len(amphorae) == 2 else SINGLE
    lost = [*amphorae[:-1], replace(amphorae[-1], **ON_LOST)]
    steps = plan(desired, Seen(amphorae=tuple(lost), nodes=NODES, budget=budget))
    assert [step.id for step in steps if isinstance(step, AwaitBudget)] == held_back


def test_a_drained_node_waits_for_half_of_the_budget():
    [step] = plan(SINGLE, Seen(amphorae=(replace(ONE, node_id="drained"),), nodes=NODES, budget=0.25))
    assert step == AwaitBudget("a", "its node is drained", 0.25)


def test_without_nodes_the_controller_says_that_amphorae_run():
    behind = replace(ONE, node_id=None, node_heard=False, applied_version=4)
    assert plan(SINGLE, Seen(amphorae=(behind,), has_nodes=False)) == [MarkApplied("a")]


def test_an_amphora_has_a_leg_in_the_subnets_of_vips_and_of_members_that_stay():
    common = {"created_version": 1, "wanted_version": 1}
    members = [
        Member(id=subnet, pool_id="p", address="10.1.0.1", protocol_port=80, subnet_id=subnet,
               deleting=subnet == "old", **common)
        for subnet in ("blue", "old", "vip")
    ]
    pool = Pool(id="p", protocol="HTTP", lb_algorithm="ROUND_ROBIN", members=tuple(members), **common)
    vips = (AdditionalVip(subnet_id="v6", ip_address="2001:db8::5"),)
    assert wanted_subnets(replace(SINGLE, pools=(pool,), additional_vips=vips)) == ("vip", "v6", "blue")


# From every start. A simulated cloud does what steps say; between passes, nodes do what the store says.


class Cloud:
    def __init__(self, desired, seen):
        self.desired, self.seen, self.ids = desired, seen, count()
        self.deleted = False

    def make_pass(self):
        for _ in range(20):
            actions = [step for step in plan(self.desired, self.seen) if isinstance(step, get_args(Action))]
            if not actions or self.deleted:
                return
            for action in actions:
                self.perform(action)
        raise AssertionError(f"no end: {actions}")

    def perform(self, action):
        match action:
            case AddAmphora(role) | SucceedAmphora(role):
                new = Amphora(id=f"new-{next(self.ids)}", load_balancer_id="lb", role=role,
                              born_version=self.desired.version)
                self.see([*self.seen.amphorae, new])
            case PlugAmphora(id, subnets):
                self.publish(id, ports=tuple(port(subnet) for subnet in subnets))
            case PlaceAmphora(id):
                used = {amphora.node_id for amphora in self.seen.amphorae if not amphora.leaving}
                self.change(id, node_id=min(self.seen.usable, key=lambda node: (node in used, node)), node_heard=True)
            case ChangeRole(id, role):
                self.publish(id, role=role)
            case MarkApplied(id):
                self.change(id, applied_version=self.desired.version)
            case RetireAmphora(id):
                self.publish(id, leaving=True)
            case ReleaseAmphora(id):
                self.see([amphora for amphora in self.seen.amphorae if amphora.id != id])
            case FinishDelete():
                self.deleted = True

    def publish(self, id, **facts):
        self.desired = replace(self.desired, version=self.desired.version + 1)
        self.change(id, **facts)

    def change(self, id, **facts):
        self.see([replace(amphora, **facts) if amphora.id == id else amphora for amphora in self.seen.amphorae])

    def see(self, amphorae):
        self.seen = replace(self.seen, amphorae=tuple(amphorae))

    def nodes_work(self):
        for amphora in self.seen.amphorae:
            if amphora.node_heard and amphora.leaving:
                self.change(amphora.id, gone=True)
            elif amphora.node_heard and amphora.ports:
                self.change(amphora.id, applied_version=self.desired.version)

    def serving(self):
        return {amphora.id for amphora in self.seen.amphorae if not amphora.leaving and serves(self.seen, amphora)}


@st.composite
def amphorae(draw, nodes):
    node = draw(st.sampled_from([None, *nodes]))
    leaving = draw(st.booleans())
    return Amphora(
        id=f"old-{draw(st.uuids())}", load_balancer_id="lb", role=draw(st.sampled_from(Role)),
        born_version=draw(st.integers(1, 5)), node_id=node and node.id, node_heard=bool(node and node.heard),
        vrrp_state=draw(st.sampled_from([None, "MASTER"])),
        ports=draw(st.sampled_from([(), (port("vip"),), (port("vip"), port("member"))])),
        applied_version=draw(st.integers(0, 5)), replace=draw(st.booleans()), leaving=leaving,
        gone=leaving and draw(st.booleans()),
    )


@st.composite
def clouds(draw):
    others = draw(st.lists(st.sampled_from([THERE, LOST, DRAINED]), unique=True))
    nodes = (HERE, *others)
    desired = replace(draw(st.sampled_from([SINGLE, PAIR])), deleting=draw(st.booleans()),
                      failover_version=draw(st.integers(0, 5)))
    found = draw(st.lists(amphorae(nodes), max_size=5))
    return Cloud(desired, Seen(amphorae=tuple(found), nodes=nodes, has_nodes=draw(st.booleans())))


MARK = guard(SINGLE).mark
GUARDED = amphora("a", Role.STANDALONE, ports=(replace(port("vip"), guard=MARK),))


@pytest.mark.parametrize(("amphorae", "steps"), [
    pytest.param([ONE], [GuardVip(MARK)], id="nobody was told yet"),
    pytest.param([GUARDED], [], id="settled"),
    pytest.param([replace(ONE, ports=(replace(port("vip"), guard="old"),))], [GuardVip(MARK)], id="a listener came"),
    pytest.param([replace(ONE, ports=())], [PlugAmphora("a", ("vip",))], id="no port to guard yet"),
])
def test_a_network_that_guards_is_told(amphorae, steps):
    assert plan(SINGLE, Seen(amphorae=tuple(amphorae), nodes=NODES, guards=True)) == steps



@given(clouds())
def test_every_start_settles_within_a_few_passes(cloud):
    for _ in range(6):
        cloud.make_pass()
        cloud.nodes_work()
    if cloud.desired.deleting:
        assert cloud.deleted
        assert cloud.seen.amphorae == ()
    else:
        assert all(isinstance(step, AwaitReturn) for step in plan(cloud.desired, cloud.seen))
        staying = [a for a in cloud.seen.amphorae if not a.leaving]
        assert sorted(a.role for a in staying) == sorted(ROLES[cloud.desired.topology])
        assert all(a.node_id in cloud.seen.lost for a in cloud.seen.amphorae if a.leaving)


@given(clouds())
def test_what_serves_goes_only_when_another_one_serves(cloud):
    cloud.desired = replace(cloud.desired, deleting=False)
    for _ in range(6):
        before = cloud.serving()
        cloud.make_pass()
        assert cloud.serving() or not before
        cloud.nodes_work()
