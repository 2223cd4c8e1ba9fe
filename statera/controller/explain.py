# SPDX-License-Identifier: Apache-2.0
"""Says in plain words what is wanted of a load balancer, what is there, what is missing, why, and what to do."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from statera.controller.plan import Seen, is_stranded, plan, wanted_subnets
from statera.controller.steps import AwaitBudget, AwaitGone, AwaitReturn, AwaitSuccessor, HoldBack, Step
from statera.model.circumstances import Circumstances
from statera.model.fleet import ROLES, Amphora, Node
from statera.model.tree import LoadBalancer

OVERDUE_SECONDS = 15.0
TALKING = ("accepted",)
"""Events that tell of wishes and explain nothing."""


class Story(Struct, frozen=True, kw_only=True):
    """Sentences; *next* says when somebody tries again."""

    wanted: tuple[str, ...]
    there: tuple[str, ...]
    missing: tuple[str, ...]
    why: tuple[str, ...]
    todo: tuple[str, ...]
    next: str


class Finding(Struct, frozen=True):
    """A reason why something is missing, and what helps; nothing when that is nobody's to do."""

    why: str
    todo: str = ""


ADVICE = {
    "no_node": "start statera-agent on a node, let one join (`statera node token`) or take one back "
               "(`statera node undrain NAME`)",
    "no_address": "delete ports that nobody needs, or make a larger subnet",
    "not_applied": "mend on that node what the message names, then `statera lb repair` tries at once",
    "SECRET_SEALED": "give every host the same master key file",
    "database_error": "look after the database; nothing else is needed",
    "internal_error": "this is a bug: report the message with the worker's log",
    "cloud_silent": "look after the cloud's service that the message names",
}
"""What helps, by the reason of the event that tells of a failure."""


def explain(desired: LoadBalancer, seen: Seen, now: Circumstances) -> Story:
    """The whole story; with nothing missing there is nothing to say about why and what to do."""
    steps = plan(desired, seen)
    missing = tuple(lacks(desired, seen))
    findings = list(dict.fromkeys(reasons(desired, seen, now, steps=steps)))
    return Story(
        wanted=tuple(wishes(desired)), there=tuple(presence(seen)), missing=missing or ("nothing",),
        why=tuple(finding.why for finding in findings),
        todo=tuple(dict.fromkeys(finding.todo for finding in findings if finding.todo)) or ("nothing",),
        next=outlook(now, steps, done=not missing and not findings))


def wishes(desired: LoadBalancer) -> Iterator[str]:
    if desired.deleting:
        yield "to be deleted"
        return
    listeners = [listener for listener in desired.listeners if not listener.deleting]
    members = sum(1 for pool in desired.pools for member in pool.members if not member.deleting)
    yield f"{desired.topology} with the VIP {desired.vip_address}, at version {desired.version}"
    yield f"{len(listeners)} listeners, {len(desired.pools)} pools, {members} members"
    yield f"amphorae: {', '.join(ROLES[desired.topology])}, with legs in {len(wanted_subnets(desired))} subnets"


def presence(seen: Seen) -> Iterator[str]:
    nodes = {node.id: node for node in seen.nodes}
    for amphora in seen.amphorae:
        going = " leaves;" if amphora.leaving else ""
        yield f"{named(amphora)}{going} {place(amphora, nodes.get(amphora.node_id or ''))}"
    if not seen.amphorae:
        yield "no amphora"


def named(amphora: Amphora) -> str:
    return f"amphora {amphora.id} ({amphora.role}{', active' if amphora.is_active else ''})"


def place(amphora: Amphora, node: Node | None) -> str:
    runs = f"runs version {amphora.applied_version}" if amphora.applied_version else "does not run yet"
    if node is None:
        return f"has no node, {len(amphora.ports)} ports"
    return f"{runs} on node {node.name}, which is {state(node)}"


def state(node: Node) -> str:
    word = "connected" if node.heard else "lost" if node.lost else "silent"
    return f"{word} and drained" if node.drained else word


def lacks(desired: LoadBalancer, seen: Seen) -> Iterator[str]:
    if desired.deleting:
        yield from (f"{named(amphora)} is still there" for amphora in seen.amphorae)
        return
    staying = [amphora for amphora in seen.amphorae if not amphora.leaving]
    held = {amphora.role for amphora in staying if not is_stranded(seen, amphora)}
    yield from (f"an amphora as {role}" for role in ROLES[desired.topology] if role not in held)
    for amphora in staying:
        if amphora.node_id and not is_stranded(seen, amphora) and amphora.applied_version < desired.version:
            yield f"{named(amphora)} runs version {amphora.applied_version} of {desired.version}"
    yield from (f"a node for {named(amphora)}" for amphora in staying
                if seen.has_nodes and amphora.node_id is None and not is_stranded(seen, amphora))
    drained = [amphora for amphora in staying if amphora.node_id in seen.drained]
    yield from (f"another node for {named(amphora)}: its node is drained" for amphora in drained)


def reasons(desired: LoadBalancer, seen: Seen, now: Circumstances, *, steps: list[Step]) -> Iterator[Finding]:
    """Everything that explains what is missing, the most particular first."""
    for step in steps:
        if say := WAITS.get(type(step)):
            yield say(step)
    told = [event for event in now.latest if event.reason not in TALKING]
    if now.attempts and told:
        yield Finding(f"the last pass failed: {told[0].message}", ADVICE.get(told[0].reason, ""))
    elif now.failure:
        reason = next((event.reason for event in told if event.message == now.failure), "not_applied")
        yield Finding(now.failure, ADVICE.get(reason, ""))
    yield from silence(desired, seen, now)
    overdue = now.due_seconds is not None and now.due_seconds < -OVERDUE_SECONDS and not now.is_held
    if overdue:
        yield Finding(f"it has been due for {-(now.due_seconds or 0):.0f} s and no worker has taken it",
                      "look whether octavia-worker runs (`statera status`)")


def silence(desired: LoadBalancer, seen: Seen, now: Circumstances) -> Iterator[Finding]:
    """Nodes that are concerned and not heard; those that are lost already are the plan's business."""
    ours = {amphora.node_id for amphora in seen.amphorae if not amphora.leaving}
    silent = [node for node in seen.nodes if node.id in ours and not node.heard and not node.lost]
    if silent and not now.managers:
        yield Finding("no health manager is alive, so nothing is known about nodes; what runs goes on running",
                      "start octavia-health-manager")
        return
    for node in silent:
        if now.doubt:
            yield Finding(f"node {node.name} is silent and not taken for lost: {now.doubt}",
                          f"look at the network between nodes and health managers; if {node.name} is really dead: "
                          f"`statera node lost {node.name}`")
        else:
            yield Finding(f"node {node.name} is silent; it is taken for lost when the grace time is over")


WAITS: dict[type, Callable[[Step], Finding]] = {
    HoldBack: lambda step: Finding(str(step), "start or add another node, or take a drained one back"),
    AwaitBudget: lambda step: Finding(
        str(step), "nothing, or raise [controller_worker] replacements_per_minute"),
    AwaitSuccessor: lambda step: Finding(str(step)),
    AwaitGone: lambda step: Finding(str(step)),
    AwaitReturn: lambda step: Finding(
        str(step), "start the lost node again, or forget it: `statera node remove NAME`"),
}
"""What a pass that waits means."""


def outlook(now: Circumstances, steps: list[Step], *, done: bool) -> str:
    if now.is_held:
        return "a worker is at it now"
    if now.due_seconds is None:
        return "nothing is due" if done else "it is looked at again when one of these facts changes"
    after = f" after {now.attempts} failures" if now.attempts else ""
    return f"the next pass comes in {max(0.0, now.due_seconds):.0f} s{after}" if now.due_seconds > 0 else (
        f"the next pass is due now{after}")
