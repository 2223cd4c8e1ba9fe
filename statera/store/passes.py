# SPDX-License-Identifier: Apache-2.0
"""What the controller writes: leases, placements and the outcome of passes, all fenced by the lease.

A load balancer is due from `due_ms` on. While a worker holds it, `due_ms` lies at the end of the lease, so
one whose worker died becomes due by itself; a wish that arrives meanwhile pulls `due_ms` to the present,
and the end of the pass leaves it there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from msgspec import Struct, to_builtins
from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)

from statera.errors import LeaseLost
from statera.model.fleet import Port, Role
from statera.store import wake
from statera.store.clock import now_ms
from statera.store.engine import Store
from statera.store.events import Event, latest_reason, record, utc_now
from statera.store.settle import remove_tags, settle
from statera.store.tables import TREE, amphorae, load_balancers, nodes, sealed_secrets

lb = load_balancers.c
Assignment = tuple[ColumnElement[Any], Any]
LOOKED_AT = 100
"""Load balancers among which the next one is sought."""


class Lease(Struct, frozen=True, kw_only=True):
    """The right to write to one load balancer; *token* tells this holder from all earlier ones.

    *attempts* counts the passes that failed since the last good one, *request_id* is whose the newest wish is.
    """

    load_balancer_id: str
    owner: str
    token: int
    seconds: float
    attempts: int = 0
    request_id: str | None = None


class Failure(Struct, frozen=True, kw_only=True):
    """Why a pass ended early and when the next one comes; *is_error* makes it the status of what is wished."""

    reason: str
    message: str
    attempt: int
    retry_seconds: float
    is_error: bool
    fault: str = "cloud"


def clock(connection: Connection) -> int:
    """The database's time in milliseconds."""
    return int(connection.execute(select(now_ms())).scalar_one())


def next_due_seconds(connection: Connection) -> float | None:
    """How long until a load balancer can be claimed: 0 or less for now, None while none is waiting.

    Looks at the first of them only, however many wait: more than that are not held at a time by workers that are
    asked to look again.
    """
    free_ms = case((lb.lease_until_ms > lb.due_ms, lb.lease_until_ms), else_=lb.due_ms)
    waiting = select(free_ms.label("free_ms")).where(lb.due_ms >= 0).order_by(lb.due_ms).limit(LOOKED_AT).subquery()
    first = connection.execute(select(func.min(waiting.c.free_ms) - now_ms())).scalar_one()
    return None if first is None else int(first) / 1000


def claim(connection: Connection, owner: str, *, seconds: float) -> Lease | None:
    """Take the load balancer that has waited longest and that nobody holds; None when there is none.

    Two workers never get the same one: rows that another is about to take are skipped where the database
    can, and the token is compared when it is raised.
    """
    now = clock(connection)
    waiting = (
        select(lb.id, lb.lease_token, lb.attempts, lb.request_id)
        .where(lb.due_ms.is_not(None), lb.due_ms <= now, lb.lease_until_ms <= now, lb.deleted_at.is_(None))
        .order_by(lb.due_ms).limit(1).with_for_update(skip_locked=True)
    )
    row = connection.execute(waiting).one_or_none()
    if row is None:
        return None
    until = now + int(seconds * 1000)
    taken = connection.execute(
        update(load_balancers)
        .where(lb.id == row.id, lb.lease_token == row.lease_token)
        .values(lease_owner=owner, lease_until_ms=until, lease_token=row.lease_token + 1, due_ms=until)
    )
    if taken.rowcount == 0:
        return None
    return Lease(load_balancer_id=row.id, owner=owner, token=row.lease_token + 1, seconds=seconds,
                 attempts=row.attempts, request_id=row.request_id)


def free_dead(connection: Connection, host: str, is_alive: Callable[[int], bool]) -> int:
    """End the leases of workers that died on *host*, whose owners read `host/pid/…`; returns how many.

    One that is taken by mistake costs its holder a pass and nothing else: its writes are fenced.
    """
    owners = connection.execute(
        select(lb.lease_owner).where(lb.lease_owner.startswith(f"{host}/", autoescape=True)).distinct()
    ).scalars()
    dead = [owner for owner in owners if not is_alive(int(owner.removeprefix(f"{host}/").split("/")[0]))]
    freed = connection.execute(
        update(load_balancers).where(lb.lease_owner.in_(dead)).values(
            lease_owner=None, lease_until_ms=0, due_ms=now_ms())
    )
    return freed.rowcount


@contextmanager
def fenced(store: Store, lease: Lease) -> Iterator[Connection]:
    """A write transaction that first locks the load balancer's row and makes the lease last anew.

    Raise `LeaseLost`, with nothing written, when another worker has claimed it since.
    """
    with store.write() as connection:
        until = now_ms() + int(lease.seconds * 1000)
        _hold(connection, lease, [(lb.lease_until_ms, until), (lb.due_ms, _due_then(until))])
        yield connection


def _hold(connection: Connection, lease: Lease, values: Sequence[Assignment]) -> None:
    held = connection.execute(
        update(load_balancers)
        .where(lb.id == lease.load_balancer_id, lb.lease_token == lease.token)
        .ordered_values(*values)
    )
    if held.rowcount == 0:
        raise LeaseLost(f"another worker holds load balancer {lease.load_balancer_id} now")


def _due_then(then: ColumnElement[int] | None) -> ColumnElement[int]:
    """When a pass is to come next: at once if somebody asked for one meanwhile, else *then*."""
    return case((lb.due_ms <= now_ms(), lb.due_ms), else_=then)


# The placement. Each takes the connection of a `fenced` transaction.


def add_amphora(connection: Connection, load_balancer_id: str, role: Role) -> str:
    """Write down a new amphora, before anything is made for it; returns its id."""
    amphora_id = str(uuid4())
    born = select(lb.version).where(lb.id == load_balancer_id).scalar_subquery()
    connection.execute(insert(amphorae).values(
        id=amphora_id, load_balancer_id=load_balancer_id, role=str(role), born_version=born, created_at=utc_now(),
    ))
    return amphora_id


def place_amphora(connection: Connection, amphora_id: str, node_id: str, *, built: Mapping[str, Any]) -> None:
    """The node carries the amphora from now on; the fleet sees it at once. *built* is what it was made from."""
    connection.execute(_amphora(amphora_id).values(node_id=node_id, built=dict(built), updated_at=utc_now()))
    wake.announce(connection)


def change_role(connection: Connection, amphora_id: str, role: Role) -> None:
    """The amphora goes on in another role; it and its peers learn of it by a new version."""
    connection.execute(_amphora(amphora_id).values(role=str(role), updated_at=utc_now()))
    _publish(connection, amphora_id)


def record_ports(connection: Connection, amphora_id: str, ports: Sequence[Port]) -> None:
    """The amphora has these legs, the VIP's network first; its peers learn of it by a new version."""
    connection.execute(_amphora(amphora_id).values(ports=to_builtins(tuple(ports)), updated_at=utc_now()))
    _publish(connection, amphora_id)


def record_guard(connection: Connection, amphora_id: str, ports: Sequence[Port]) -> None:
    """The same legs, guarded now, which changes nothing for nodes."""
    connection.execute(_amphora(amphora_id).values(ports=to_builtins(tuple(ports)), updated_at=utc_now()))


def record_vip_port(connection: Connection, load_balancer_id: str, port_id: str) -> None:
    """The VIP has another port, which changes nothing for nodes."""
    connection.execute(update(load_balancers).where(lb.id == load_balancer_id).values(vip_port_id=port_id))


def retire_amphora(connection: Connection, amphora_id: str) -> None:
    """The amphora is to leave its node; its peers learn of it by a new version."""
    connection.execute(_amphora(amphora_id).values(leaving=True, updated_at=utc_now()))
    _publish(connection, amphora_id)


def mark_applied(connection: Connection, amphora_id: str, version: int, *, machine: Mapping[str, Any]) -> None:
    """Say of an amphora without a node that it runs *version*, on such a *machine*."""
    connection.execute(_amphora(amphora_id).values(applied_version=version, **machine))


def note_machine(connection: Connection, amphora_id: str, machine: Mapping[str, Any]) -> None:
    """The amphora's own server, as far as it is known by now."""
    connection.execute(_amphora(amphora_id).values(**{name: value for name, value in machine.items() if value}))


def forget_amphora(connection: Connection, amphora_id: str, *, with_node: bool = False) -> None:
    """Nothing outside is left of the amphora; its row stays for a while, marked. *with_node*: its node ended too."""
    if with_node:
        node_id = select(amphorae.c.node_id).where(amphorae.c.id == amphora_id).scalar_subquery()
        connection.execute(delete(nodes).where(or_(nodes.c.id == node_id, nodes.c.name == f"amphora-{amphora_id}")))
    connection.execute(_amphora(amphora_id).values(deleted_at=utc_now(), leaving=True, gone=True))


def forget_load_balancer(connection: Connection, load_balancer_id: str) -> None:
    """Nothing outside is left of the load balancer: it is DELETED, and what hung on it is no more."""
    below = union_all(*(select(table.c.id).where(table.c.load_balancer_id == load_balancer_id) for table in TREE))
    remove_tags(connection, connection.execute(below).scalars().all())
    for table in TREE:
        connection.execute(delete(table).where(table.c.load_balancer_id == load_balancer_id))
    connection.execute(delete(sealed_secrets).where(sealed_secrets.c.load_balancer_id == load_balancer_id))
    connection.execute(
        update(load_balancers).where(lb.id == load_balancer_id)
        .values(deleted_at=utc_now(), done_version=lb.version, failed_version=None, failure=None)
    )
    wake.announce(connection)


def _amphora(amphora_id: str) -> Update:
    return update(amphorae).where(amphorae.c.id == amphora_id)


def _publish(connection: Connection, amphora_id: str) -> None:
    """Nodes are to run something else now, and a pass is to look again before that counts as done."""
    owner = select(amphorae.c.load_balancer_id).where(amphorae.c.id == amphora_id).scalar_subquery()
    connection.execute(
        update(load_balancers).where(lb.id == owner).ordered_values(
            (lb.infra_version, lb.version + 1), (lb.version, lb.version + 1))
    )
    wake.announce(connection)


# The end of a pass. Each takes the connection of a plain write transaction and raises `LeaseLost`.


def finish(connection: Connection, lease: Lease, *, settled: int | None, again_seconds: float | None) -> None:
    """The pass made all its steps; *settled* is the version that needs no further one, None if it waits.

    The next one comes after *again_seconds*; with None, when somebody asks for it.
    """
    failed_before = lb.attempts > 0
    again = None if again_seconds is None else now_ms() + int(again_seconds * 1000)
    _hold(connection, lease, [
        *_letting_go(again),
        (lb.failed_version, case((failed_before, None), else_=lb.failed_version)),
        (lb.failure, case((failed_before, None), else_=lb.failure)),
        (lb.attempts, 0),
        *([] if settled is None else [(lb.settled_version, settled)]),
    ])
    if settled is not None:
        settle(connection, lease.load_balancer_id)
    wake.announce(connection)


def put_off(connection: Connection, lease: Lease, failure: Failure) -> None:
    """The pass failed and is to be repeated later; an event says so when that is news.

    ERROR is said about a wish that is not fulfilled, never about upkeep of one that is.
    """
    shown = and_(or_(lb.deleting, lb.done_version < lb.wanted_version), literal(failure.is_error))
    _hold(connection, lease, [
        *_letting_go(now_ms() + int(failure.retry_seconds * 1000)),
        (lb.attempts, failure.attempt),
        (lb.failed_version, case((shown, lb.version), else_=lb.failed_version)),
        (lb.failure, case((shown, failure.message), else_=lb.failure)),
    ])
    if _is_power_of_two(failure.attempt) or latest_reason(connection, lease.load_balancer_id) != failure.reason:
        record(connection, Event(
            load_balancer_id=lease.load_balancer_id, reason=failure.reason, message=failure.message,
            attempt=failure.attempt, fault=failure.fault, request_id=lease.request_id,
            next_try_at=utc_now() + timedelta(seconds=failure.retry_seconds),
        ))
    wake.announce(connection)


def hand_back(connection: Connection, lease: Lease) -> None:
    """The worker stops: another may go on at once."""
    _hold(connection, lease, _letting_go(now_ms()))
    wake.announce(connection)


def _letting_go(due: ColumnElement[int] | None) -> list[Assignment]:
    return [(lb.due_ms, _due_then(due)), (lb.lease_until_ms, 0), (lb.lease_owner, None)]


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
