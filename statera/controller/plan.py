# SPDX-License-Identifier: Apache-2.0
"""Every decision about amphorae: create, update, failover, resize, drain, repair and delete are this one function."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from msgspec import Struct

from statera.controller.steps import (
    AddAmphora,
    AwaitBudget,
    AwaitGone,
    AwaitProvider,
    AwaitReturn,
    AwaitSuccessor,
    ChangeRole,
    FinishDelete,
    GiveUpWaiting,
    GuardVip,
    HoldBack,
    MarkApplied,
    PlaceAmphora,
    PlugAmphora,
    ReleaseAmphora,
    RetireAmphora,
    Step,
    SucceedAmphora,
)
from statera.model.fleet import ROLES, Amphora, Node, Role
from statera.model.guard import guard
from statera.model.providers import Debt, is_ours
from statera.model.tree import LoadBalancer


class Seen(Struct, frozen=True, kw_only=True):
    """What is there. Without *has_nodes* amphorae live on no node and only pretend to run.

    With *own_machines* each amphora has a node of its own, which ends with it. Where the network *guards*, it
    has to be told who may reach a VIP. *zone* is where nodes must be, *build* what of the flavor machines are
    made from, *budget* which share of the budget of replacements one more would leave. *debt* is what another
    provider's driver owes.
    """

    amphorae: tuple[Amphora, ...] = ()
    nodes: tuple[Node, ...] = ()
    has_nodes: bool = True
    own_machines: bool = False
    guards: bool = False
    zone: str | None = None
    build: Mapping[str, Any] = {}
    budget: float = 1.0
    debt: Debt = Debt.NONE

    @property
    def lost(self) -> frozenset[str]:
        return frozenset(node.id for node in self.nodes if node.lost)

    @property
    def drained(self) -> frozenset[str]:
        return frozenset(node.id for node in self.nodes if node.drained)

    @property
    def usable(self) -> frozenset[str]:
        """The nodes that could carry another amphora."""
        return frozenset(
            node.id for node in self.nodes
            if node.heard and not node.drained and not node.lost and self.zone in (None, node.zone))


class Cause(Enum):
    """Why something is replaced: which share of the budget it leaves to what is more urgent."""

    WISHED = None
    LOST_ALONE = 0.0
    LOST_BESIDE = 0.25
    UPKEEP = 0.5


class Wear(Struct, frozen=True):
    """Why an amphora must not stay."""

    cause: Cause
    why: str


def plan(desired: LoadBalancer, seen: Seen) -> list[Step]:
    """Steps that bring what is *seen* nearer to what is *desired*; none when settled.

    Look again after the steps: later ones build on what the earlier ones left behind.
    """
    if not is_ours(desired.provider):
        return [*follow(desired, seen)]
    staying = [amphora for amphora in seen.amphorae if not amphora.leaving]
    if desired.deleting:
        retired: list[Step] = [RetireAmphora(amphora.id, "load balancer deleted") for amphora in staying]
        return [*retired, *part(desired, seen)] or [FinishDelete()]
    turned = [*turn(desired, seen, staying)]
    changing = {step.id: step.role for step in turned if isinstance(step, ChangeRole)}
    retired = [*replace(desired, seen, staying, changing=changing)]
    dismissed = {step.id for step in retired if isinstance(step, RetireAmphora)}
    kept = [amphora for amphora in staying if amphora.id not in dismissed]
    placed = [] if changing else [*place(desired, seen, kept)]
    return [*fill_roles(desired, seen, kept, changing), *plug(desired, kept), *turned, *watch(desired, seen, kept),
            *placed, *mark(desired, seen, kept), *retired, *part(desired, seen)]


def follow(desired: LoadBalancer, seen: Seen) -> Iterator[Step]:
    """What is left to do where another provider's driver does the work and answers by itself."""
    if desired.deleting and desired.done_version >= desired.version:
        yield FinishDelete()
    elif seen.debt is Debt.OVERDUE:
        yield GiveUpWaiting(desired.provider)
    elif seen.debt is Debt.ANSWER:
        yield AwaitProvider(desired.provider)


def fill_roles(
    desired: LoadBalancer, seen: Seen, kept: Sequence[Amphora], changing: Mapping[str, Role]
) -> Iterator[Step]:
    """Add an amphora for each role that nobody holds, but for those that others are to take on."""
    held = {changing.get(amphora.id, amphora.role) for amphora in kept}
    missing = [role for role in ROLES[desired.topology] if role not in held]
    takers = [amphora for amphora in strays(desired, seen, kept) if amphora.id not in changing]
    return (AddAmphora(role) for role in missing[len(takers):])


def turn(desired: LoadBalancer, seen: Seen, staying: Sequence[Amphora]) -> Iterator[Step]:
    """Let an amphora that serves go on in another role when the topology has changed.

    One that stands alone becomes one of a pair when its peer has its ports, for a pair's half must know its
    peer; of a pair the active one stays.
    """
    roles = ROLES[desired.topology]
    held = {amphora.role for amphora in staying}
    free = [role for role in roles if role not in held]
    knows_peer = len(roles) == 1 or any(
        amphora.role in roles and is_plugged(amphora, wanted_subnets(desired)) for amphora in staying)
    takers = strays(desired, seen, staying)
    if takers and free and knows_peer:
        best = max(takers, key=lambda one: (one.is_active, one.role is Role.MASTER, one.applied_version))
        yield ChangeRole(best.id, free[0])


def strays(desired: LoadBalancer, seen: Seen, staying: Sequence[Amphora]) -> list[Amphora]:
    """Those that serve, and may stay, in a role that the topology does not have (any more)."""
    return [
        amphora for amphora in staying
        if amphora.role not in ROLES[desired.topology] and serves(seen, amphora)
        and reason_to_replace(desired, seen, amphora) is None
    ]


def plug(desired: LoadBalancer, kept: Sequence[Amphora]) -> Iterator[Step]:
    """Bring ports in line with the subnets of VIPs and members."""
    wanted = wanted_subnets(desired)
    return (PlugAmphora(amphora.id, wanted) for amphora in kept if not is_plugged(amphora, wanted))


def watch(desired: LoadBalancer, seen: Seen, kept: Sequence[Amphora]) -> Iterator[Step]:
    """Say who may reach the VIP, once all ports are there, and again when that or a port has changed."""
    wanted = guard(desired).mark
    plugged = all(is_plugged(amphora, wanted_subnets(desired)) for amphora in kept)
    if seen.guards and plugged and any(amphora.ports and amphora.ports[0].guard != wanted for amphora in kept):
        yield GuardVip(wanted)


def place(desired: LoadBalancer, seen: Seen, kept: Sequence[Amphora]) -> Iterator[Step]:
    """Choose nodes, once all ports are there: the node then gets a complete spec the first time."""
    if not seen.has_nodes or not all(is_plugged(amphora, wanted_subnets(desired)) for amphora in kept):
        return
    for amphora in kept:
        if amphora.node_id is None and amphora.applied_version == 0:
            yield PlaceAmphora(amphora.id)


def mark(desired: LoadBalancer, seen: Seen, kept: Sequence[Amphora]) -> Iterator[Step]:
    """Without nodes, what has its ports runs."""
    if seen.has_nodes:
        return
    for amphora in kept:
        if is_plugged(amphora, wanted_subnets(desired)) and amphora.applied_version < desired.version:
            yield MarkApplied(amphora.id)


def replace(
    desired: LoadBalancer, seen: Seen, staying: Sequence[Amphora], *, changing: Mapping[str, Role]
) -> Iterator[Step]:
    """Exchange what must not stay: first comes a successor, and only when that serves the old one goes.

    Whatever is lost is exchanged at once, the rest one by one, the spare one first, so that one of a pair
    always serves and the VIP moves once.
    """
    roles = ROLES[desired.topology]
    holders = {role: [one for one in staying if changing.get(one.id, one.role) == role] for role in roles}
    replaced = all(any(serves(seen, one) or one.id in changing for one in held) for held in holders.values())
    yield from (RetireAmphora(one.id, "its role is no more") for one in staying
                if one.role not in roles and one.id not in changing and (replaced or one.applied_version == 0))
    worn = {one.id: wear for one in staying if (wear := reason_to_replace(desired, seen, one))}
    if spare := crowded(seen, staying):
        worn.setdefault(spare.id, Wear(Cause.UPKEEP, "it shares a node with its peer, and another is free"))
    busy = False
    for role in sorted(roles, key=lambda role: (any(one.is_active for one in holders[role]), role is Role.MASTER)):
        yield from exchange(holders[role], seen, worn=worn, busy=busy)
        busy = busy or any(one.id in worn and not is_stranded(seen, one) for one in holders[role])


def exchange(holders: Sequence[Amphora], seen: Seen, *, worn: Mapping[str, Wear], busy: bool) -> Iterator[Step]:
    """The same for one role; a *busy* pair adds no further successor, but for one that is lost."""
    sound = [amphora for amphora in holders if amphora.id not in worn]
    best = max(sound, key=lambda amphora: (serves(seen, amphora), amphora.applied_version), default=None)
    yield from (RetireAmphora(amphora.id, "another one holds its role") for amphora in sound if amphora is not best)
    staying = []
    for amphora in holders:
        if amphora.id not in worn:
            continue
        if amphora.applied_version == 0 or (best and serves(seen, best)):
            yield RetireAmphora(amphora.id, worn[amphora.id].why)
        else:
            staying.append(amphora)
    if staying and best:
        yield AwaitSuccessor(best.id)
    elif staying:
        yield from succeed(staying, seen, worn=worn, busy=busy)


def succeed(old: Sequence[Amphora], seen: Seen, *, worn: Mapping[str, Wear], busy: bool) -> Iterator[Step]:
    """Add the successor of amphorae that serve or have served, as soon as a node and the budget allow it."""
    first = min(old, key=lambda amphora: not is_stranded(seen, amphora))
    wear = worn[first.id]
    if wear.cause is Cause.WISHED:
        if not busy:
            yield SucceedAmphora(first.role, first.id, wear.why)
        return
    stuck = is_stranded(seen, first)
    if not seen.usable and not seen.own_machines:
        yield HoldBack(first.id, wear.why)
    elif busy and not stuck:
        return
    elif seen.budget >= wear.cause.value:
        yield SucceedAmphora(first.role, first.id, wear.why, wear.cause.value)
    else:
        yield AwaitBudget(first.id, wear.why, wear.cause.value - seen.budget)


def part(desired: LoadBalancer, seen: Seen) -> Iterator[Step]:
    """Release what has left its node, or whose node cannot say so.

    What a lost node carried may run on, cut off from us: it keeps its addresses, so that nobody else gets
    them, until the node comes back or is removed. A delete does not wait for that.
    """
    for amphora in seen.amphorae:
        if not amphora.leaving:
            continue
        is_lost = amphora.node_id in seen.lost
        nowhere = not seen.has_nodes or amphora.node_id is None or (is_lost and (desired.deleting or seen.own_machines))
        if amphora.gone or nowhere:
            yield ReleaseAmphora(amphora.id)
        else:
            yield AwaitReturn(amphora.id) if is_lost else AwaitGone(amphora.id)


def reason_to_replace(desired: LoadBalancer, seen: Seen, amphora: Amphora) -> Wear | None:
    """Why the amphora must not stay, None if it may."""
    if is_stranded(seen, amphora):
        beside = any(one.id != amphora.id and not one.leaving and serves(seen, one) for one in seen.amphorae)
        return Wear(Cause.LOST_BESIDE if beside else Cause.LOST_ALONE, "its node is lost")
    if amphora.replace:
        return Wear(Cause.WISHED, "its replacement is wished")
    if amphora.born_version < desired.failover_version:
        return Wear(Cause.WISHED, "failover")
    if seen.has_nodes and amphora.built is not None and amphora.built != seen.build:
        return Wear(Cause.WISHED, "its flavor has changed")
    if amphora.node_id in seen.drained:
        return Wear(Cause.UPKEEP, "its node is drained")
    return None


def crowded(seen: Seen, staying: Sequence[Amphora]) -> Amphora | None:
    """Of two that serve and share a node though another is free, the spare one."""
    if not seen.has_nodes or seen.own_machines:
        return None
    serving = [one for one in staying if serves(seen, one)]
    serving.sort(key=lambda one: (one.is_active, one.role is Role.MASTER))
    for amphora in serving:
        others = {one.node_id for one in serving if one.role is not amphora.role}
        if amphora.node_id in others and seen.usable - others:
            return amphora
    return None


def is_stranded(seen: Seen, amphora: Amphora) -> bool:
    """Whether the amphora's node is lost or was removed under it."""
    if amphora.node_id is None:
        return seen.has_nodes and amphora.applied_version > 0
    return amphora.node_id in seen.lost


def serves(seen: Seen, amphora: Amphora) -> bool:
    """Whether the amphora runs what was wanted when it was added, or something newer."""
    return amphora.applied_version >= amphora.born_version and (amphora.node_heard or not seen.has_nodes)


def is_plugged(amphora: Amphora, wanted: Iterable[str]) -> bool:
    return {port.subnet_id for port in amphora.ports} == set(wanted)


def wanted_subnets(desired: LoadBalancer) -> tuple[str, ...]:
    """The subnets that each amphora needs a leg in: the VIP's first, then those of members."""
    vips = [desired.vip_subnet_id, *(vip.subnet_id for vip in desired.additional_vips)]
    members = [
        member.subnet_id
        for pool in desired.pools if not pool.deleting for member in pool.members if not member.deleting
    ]
    return tuple(dict.fromkeys(subnet for subnet in [*vips, *members] if subnet))
