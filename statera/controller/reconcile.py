# SPDX-License-Identifier: Apache-2.0
"""One pass over one load balancer: read, decide, act, say."""

import random
from collections.abc import Callable, Sequence
from typing import get_args

from sqlalchemy import Connection

from statera import metrics
from statera.config import ControllerWorker
from statera.controller.observe import observe
from statera.controller.perform import perform
from statera.controller.plan import Seen, plan
from statera.controller.steps import Action, AwaitBudget, AwaitReturn, AwaitSuccessor, HoldBack, Step
from statera.controller.world import World
from statera.errors import DriverError, GiveUp, NotYet
from statera.store import passes
from statera.store.events import Event, latest_reason, record
from statera.store.passes import Failure, Lease

ROUNDS = 20
"""Looks of one pass; settling takes four or five, so more mean that two rules of the plan disagree."""

LOOK_AGAIN_SECONDS = 5.0
"""While a pass waits for a fact. Facts ask for a pass themselves: this is for one that got lost."""


def reconcile(lease: Lease, world: World, *, stopping: Callable[[], bool] = lambda: False) -> str:
    """Make all the steps that can be made now and say in a sentence which these were.

    Raise `DriverError` for `put_off` to deal with, `LeaseLost` when another worker took over. May be cut
    off anywhere: the next pass finds what this one left behind.
    """
    said: list[str] = []
    desired, seen = None, Seen()
    for _ in range(ROUNDS):
        desired, seen = observe(world, lease.load_balancer_id, known=desired, nodes=seen.nodes)
        steps = plan(desired, seen) if desired else []
        actions = [step for step in steps if isinstance(step, ACTIONS)]
        if desired is None or not actions:
            _finish(lease, world, settled=desired.version if desired else None, waits=steps)
            return _sentence(lease, [*said, *map(str, steps)] or ["settled"])
        delayed = False
        for action in actions:
            if stopping():
                _hand_back(lease, world)
                return _sentence(lease, [*said, "handed back"])
            try:
                with metrics.step(type(action).__name__):
                    perform(action, desired, world, lease=lease)
                said.append(str(action))
            except NotYet as error:
                delayed = True
                said.append(str(error))
        if delayed:
            _look_again(lease, world)
            return _sentence(lease, said)
    raise GiveUp("no_end", f"a pass never came to an end; its last steps were {', '.join(said[-4:])}")


def put_off(lease: Lease, world: World, *, error: Exception, settings: ControllerWorker) -> str:
    """Write down why the pass failed and when the next one comes, and say so in a sentence."""
    metrics.PASSES.labels("failed").inc()
    failure = judge(error, lease.attempts + 1, settings=settings, jitter=random.random())
    with world.store.write() as connection:
        passes.put_off(connection, lease, failure)
    return _sentence(lease, [f"{failure.message}; attempt {failure.attempt}, next in {failure.retry_seconds:.1f} s"])


def judge(error: Exception, attempt: int, *, settings: ControllerWorker, jitter: float) -> Failure:
    """What a failed pass means: how long to wait (*jitter* from 0 to 1 takes up to half off) and what to show."""
    hopeless = isinstance(error, GiveUp)
    doublings = min(attempt - 1, 30)
    patience = settings.retry_max_seconds if hopeless else settings.retry_first_seconds * 2**doublings
    return Failure(
        reason=error.reason if isinstance(error, DriverError) else "internal_error",
        message=str(error) if isinstance(error, DriverError) else f"{type(error).__name__}: {error}",
        attempt=attempt,
        retry_seconds=min(patience, settings.retry_max_seconds) * (1 - jitter / 2),
        is_error=hopeless or attempt >= settings.error_after_attempts,
        fault="operator" if hopeless or not isinstance(error, DriverError) else "cloud",
    )


ACTIONS = get_args(Action)
HELD_BACK = {HoldBack: "no_spare_node", AwaitBudget: "budget_spent"}
"""What is told in an event when it is all that a pass can do: the type of the step, the event's reason."""
BUDGET_SECONDS = 60.0


def _finish(lease: Lease, world: World, *, settled: int | None, waits: Sequence[Step]) -> None:
    blocked = any(isinstance(wait, AwaitSuccessor) for wait in waits)
    with world.store.write() as connection:
        passes.finish(
            connection, lease, settled=None if blocked else settled,
            again_seconds=look_again_seconds(waits, jitter=random.random()),
        )
        for wait in waits[:1]:  # the others wait for the same
            _tell(connection, wait, lease.load_balancer_id)


def _tell(connection: Connection, wait: Step, load_balancer_id: str) -> None:
    """Say why nothing is done, once, though something should be."""
    reason = HELD_BACK.get(type(wait))
    if reason and latest_reason(connection, load_balancer_id) != reason:
        record(connection, Event(
            load_balancer_id=load_balancer_id, object_type="amphora", object_id=str(getattr(wait, "id", "")),
            reason=reason, message=str(wait), fault="operator"))


def look_again_seconds(waits: Sequence[Step], *, jitter: float) -> float | None:
    """When a pass that waits is to look again; None when it has nothing to wait for that nobody announces.

    *jitter* from 0 to 1 keeps those that wait for the budget from coming all at once.
    """
    lacking = [wait.lacking for wait in waits if isinstance(wait, AwaitBudget)]
    if lacking:
        return min(lacking) * BUDGET_SECONDS + 0.5 + jitter * LOOK_AGAIN_SECONDS
    return LOOK_AGAIN_SECONDS if any(not isinstance(wait, AwaitReturn) for wait in waits) else None


def _look_again(lease: Lease, world: World) -> None:
    with world.store.write() as connection:
        passes.finish(connection, lease, settled=None, again_seconds=LOOK_AGAIN_SECONDS)


def _hand_back(lease: Lease, world: World) -> None:
    with world.store.write() as connection:
        passes.hand_back(connection, lease)


def _sentence(lease: Lease, clauses: Sequence[str]) -> str:
    return f"load balancer {lease.load_balancer_id}: {', '.join(clauses)}"
