# SPDX-License-Identifier: Apache-2.0
"""Every decision about amphorae: create, update, failover, repair and delete are this one function."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from statera.controller.steps import (
    AddAmphora,
    AwaitGone,
    AwaitSuccessor,
    FinishDelete,
    HoldBack,
    MarkApplied,
    PlaceAmphora,
    PlugAmphora,
    ReleaseAmphora,
    RetireAmphora,
    Step,
)
from statera.model.fleet import ROLES, Amphora, Node
from statera.model.tree import LoadBalancer


class Seen(Struct, frozen=True, kw_only=True):
    """What is there. Without *has_nodes* amphorae live on no node and only pretend to run."""

    amphorae: tuple[Amphora, ...] = ()
    nodes: tuple[Node, ...] = ()
    has_nodes: bool = True

    @property
    def lost(self) -> frozenset[str]:
        return frozenset(node.id for node in self.nodes if node.lost)


def plan(desired: LoadBalancer, seen: Seen) -> list[Step]:
    """Steps that bring what is *seen* nearer to what is *desired*; none when settled.

    Look again after the steps: later ones build on what the earlier ones left behind.
    """
    staying = [amphora for amphora in seen.amphorae if not amphora.leaving]
    if desired.deleting:
        retired: list[Step] = [RetireAmphora(amphora.id, "load balancer deleted") for amphora in staying]
        return [*retired, *part(seen)] or [FinishDelete()]
    retired = [*replace(desired, seen, staying)]
    dismissed = {step.id for step in retired if isinstance(step, RetireAmphora)}
    kept = [amphora for amphora in staying if amphora.id not in dismissed]
    return [*fill_roles(desired, kept), *plug(desired, kept), *place(desired, seen, kept), *mark(desired, seen, kept),
            *retired, *part(seen)]


def fill_roles(desired: LoadBalancer, kept: Sequence[Amphora]) -> Iterator[Step]:
    """Add an amphora for each role that nobody holds."""
    held = {amphora.role for amphora in kept}
    return (AddAmphora(role) for role in ROLES[desired.topology] if role not in held)


def plug(desired: LoadBalancer, kept: Sequence[Amphora]) -> Iterator[Step]:
    """Bring ports in line with the subnets of VIPs and members."""
    wanted = wanted_subnets(desired)
    return (PlugAmphora(amphora.id, wanted) for amphora in kept if not is_plugged(amphora, wanted))


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


def replace(desired: LoadBalancer, seen: Seen, staying: Sequence[Amphora]) -> Iterator[Step]:
    """Exchange what must not stay: first comes a successor, and only when that serves the old one goes.

    Whatever is lost is exchanged at once, the rest role by role, the spare one first, so that one of a
    pair always serves.
    """
    roles = ROLES[desired.topology]
    yield from (RetireAmphora(amphora.id, "its role is no more") for amphora in staying if amphora.role not in roles)
    worn = {amphora.id: why for amphora in staying if (why := reason_to_replace(desired, seen, amphora))}
    busy = False
    for role in reversed(roles):
        holders = [amphora for amphora in staying if amphora.role == role]
        yield from exchange(holders, seen, worn=worn, busy=busy)
        busy = busy or any(holder.id in worn and not is_stranded(seen, holder) for holder in holders)


def exchange(holders: Sequence[Amphora], seen: Seen, *, worn: Mapping[str, str], busy: bool) -> Iterator[Step]:
    """The same for one role; a *busy* pair adds no further successor, but for one that is lost."""
    sound = [amphora for amphora in holders if amphora.id not in worn]
    best = max(sound, key=lambda amphora: (serves(seen, amphora), amphora.applied_version), default=None)
    yield from (RetireAmphora(amphora.id, "another one holds its role") for amphora in sound if amphora is not best)
    staying = []
    for amphora in holders:
        if amphora.id not in worn:
            continue
        if amphora.applied_version == 0 or (best and serves(seen, best)):
            yield RetireAmphora(amphora.id, worn[amphora.id])
        else:
            staying.append(amphora)
    if staying and best:
        yield AwaitSuccessor(best.id)
    elif staying:
        yield from succeed(staying, seen, busy=busy)


def succeed(worn: Sequence[Amphora], seen: Seen, *, busy: bool) -> Iterator[Step]:
    """Add the successor of amphorae that serve or have served."""
    stuck = [amphora for amphora in worn if is_stranded(seen, amphora)]
    if stuck and not any(node.heard and not node.drained for node in seen.nodes):
        yield from (HoldBack(amphora.id) for amphora in stuck)
    elif stuck or not busy:
        yield AddAmphora(worn[0].role)


def part(seen: Seen) -> Iterator[Step]:
    """Release what has left its node, or whose node cannot say so."""
    for amphora in seen.amphorae:
        if not amphora.leaving:
            continue
        nowhere = not seen.has_nodes or amphora.node_id is None or amphora.node_id in seen.lost
        yield ReleaseAmphora(amphora.id) if amphora.gone or nowhere else AwaitGone(amphora.id)


def reason_to_replace(desired: LoadBalancer, seen: Seen, amphora: Amphora) -> str | None:
    """Why the amphora must not stay, None if it may."""
    if is_stranded(seen, amphora):
        return "its node is lost"
    if amphora.replace or amphora.born_version < desired.failover_version:
        return "failover"
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
