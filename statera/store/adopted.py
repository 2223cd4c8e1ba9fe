# SPDX-License-Identifier: Apache-2.0
"""Load balancers that came from another Octavia: written as found, held until they are moved, and how far each is.

A load balancer that waits is under a lease that never ends, so no worker touches it, while the other Octavia's
machines go on serving. Moving it ends the lease, and the plan then does what it always does: fill its roles.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, insert, select, update

from statera.store import tables
from statera.store.adoption import Found
from statera.store.clock import now_ms
from statera.store.events import Event, record, utc_now
from statera.store.passes import Lease
from statera.store.secrets import Kept, keep
from statera.store.wake import announce

lb = tables.load_balancers.c
kept = tables.adoptions

FOR_EVER_MS = 2**53
HOLDER = "adoption"
"""Who holds a load balancer that waits to be moved."""


class State(StrEnum):
    """WAITING and PAUSED load balancers are served by the other Octavia's machines, MOVED ones by ours alone.

    MOVING: ours are being made. SERVING: both are there, and theirs have to stop. RETURNING: theirs have to start,
    then ours have to go.
    """

    WAITING = "waiting"
    PAUSED = "paused"
    MOVING = "moving"
    SERVING = "serving"
    MOVED = "moved"
    RETURNING = "returning"


class Adopted(Struct, frozen=True, kw_only=True):
    """How far one has come; *runs* says that ours serve it, *version* counts the wishes since it came."""

    load_balancer_id: str
    name: str
    project_id: str
    provider: str
    state: State
    digest: str
    machines: Sequence[Mapping[str, Any]]
    problem: str | None
    version: int
    done_version: int
    deleting: bool

    @property
    def runs(self) -> bool:
        return self.done_version >= self.version


def find(connection: Connection, *load_balancer_ids: str) -> list[Adopted]:
    """Those that are here, by id; all with none given. Ones that were deleted since are none."""
    columns = [getattr(lb, name) for name in ("name", "project_id", "provider", "version", "done_version", "deleting")]
    statement = select(kept, *columns).join(tables.load_balancers, lb.id == kept.c.load_balancer_id)
    statement = statement.where(lb.deleted_at.is_(None)).order_by(lb.created_at, lb.id)
    if load_balancer_ids:
        statement = statement.where(lb.id.in_(load_balancer_ids))
    rows = connection.execute(statement).mappings()
    fields = Adopted.__struct_fields__
    return [Adopted(**{**{name: row[name] for name in fields}, "name": row["name"] or "", "state": State(row["state"])})
            for row in rows]


# Coming in.


def add_offers(connection: Connection, offers: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    """Write what is not here yet; what has the same key, or the same name where names are unique, stays as it is."""
    return sum(_add_missing(connection, tables.metadata.tables[name], rows) for name, rows in offers.items())


def _add_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    keys = [column for column in table.c if column.primary_key or column.unique]
    missing = [row for row in rows if not any(_exists(connection, key, row[key.name]) for key in keys)]
    if missing:
        connection.execute(insert(table), missing)
    return len(missing)


def _exists(connection: Connection, key: ColumnElement[Any], value: object) -> bool:
    return connection.execute(select(key).where(key == value)).first() is not None


class Outcome(StrEnum):
    """What became of one that was found."""

    ADDED = "added"
    RENEWED = "renewed"
    UNCHANGED = "unchanged"
    TAKEN = "taken"
    """One of that id is here and was not adopted, or lives here by now."""


def take(connection: Connection, found: Found, secrets: Mapping[str, Kept], *, problem: str = "") -> Outcome:
    """Write the load balancer with all its rows as they were found, in the transaction of *connection*.

    One that waits and has changed over there since is written anew; one that has been moved, or changed here, stays.
    """
    before = _before(connection, found)
    if before in (Outcome.TAKEN, Outcome.UNCHANGED):
        return before
    connection.execute(delete(tables.load_balancers).where(lb.id == found.id))
    connection.execute(delete(tables.listener_statistics).where(
        tables.listener_statistics.c.load_balancer_id == found.id))
    _write(connection, found)
    for ref, secret in secrets.items():
        keep(connection, found.id, ref, secret)
    connection.execute(delete(kept).where(kept.c.load_balancer_id == found.id))
    connection.execute(insert(kept).values(
        load_balancer_id=found.id, state=str(State.WAITING if found.is_ours else State.MOVED), digest=found.digest,
        machines=list(found.machines), problem=problem or None, changed_at=utc_now()))
    record(connection, Event(load_balancer_id=found.id, reason="adopted", message="came from another Octavia"))
    return before


def _before(connection: Connection, found: Found) -> Outcome:
    here = connection.execute(select(lb.version).where(lb.id == found.id).with_for_update()).one_or_none()
    if here is None:
        return Outcome.ADDED
    known = find(connection, found.id)
    if not known or (known[0].digest != found.digest and (here.version > 1 or known[0].state is not State.WAITING)):
        return Outcome.TAKEN
    return Outcome.UNCHANGED if known[0].digest == found.digest else Outcome.RENEWED


SETTLED = {"version": 1, "infra_version": 1, "created_version": 1, "wanted_version": 1, "settled_version": 1,
           "done_version": 1, "due_ms": None}
STAMP = {"created_version": 1, "wanted_version": 1, "answered_version": 1, "deleting": False}
ORDER = ("pools", "listeners", "members", "health_monitors", "l7policies", "l7rules")
"""Owners first."""


def _write(connection: Connection, found: Found) -> None:
    (root,) = found.rows["load_balancers"]
    held = {"lease_owner": HOLDER, "lease_until_ms": FOR_EVER_MS} if found.is_ours else {}
    connection.execute(insert(tables.load_balancers).values(**root, **SETTLED, **held))
    for name in ORDER:
        rows = [{**row, **STAMP} for row in found.rows[name]]
        if rows:
            connection.execute(insert(tables.metadata.tables[name]), rows)
    ids = {row["resource_id"] for row in found.rows["tags"]}
    connection.execute(delete(tables.tags).where(tables.tags.c.resource_id.in_(ids)))
    for table in (tables.tags, tables.listener_statistics):
        if found.rows[table.name]:
            connection.execute(insert(table), list(found.rows[table.name]))


# Moving. Each step is written before or after the outside step that it names, so that a crash repeats that one.


def set_state(connection: Connection, load_balancer_id: str, state: State, *, only_from: State) -> bool:
    """Go on to *state*; False when somebody else has changed it meanwhile."""
    changed = connection.execute(
        update(kept).where(kept.c.load_balancer_id == load_balancer_id, kept.c.state == str(only_from))
        .values(state=str(state), changed_at=utc_now(), problem=None))
    return changed.rowcount > 0


def pause(connection: Connection, load_balancer_ids: Sequence[str], *, to: State, of: State) -> int:
    """Have those that wait not be moved (or be moved again); returns how many."""
    here = and_(kept.c.load_balancer_id.in_(load_balancer_ids), kept.c.state == str(of))
    return connection.execute(update(kept).where(here).values(state=str(to), changed_at=utc_now())).rowcount


def note(connection: Connection, load_balancer_id: str, problem: str) -> None:
    """Keep why it did not go on."""
    connection.execute(update(kept).where(kept.c.load_balancer_id == load_balancer_id).values(problem=problem))


def hand_over(connection: Connection, load_balancer_id: str) -> None:
    """Let the workers have it: its roles are to be filled, and it counts as done when ours serve it."""
    connection.execute(update(tables.load_balancers).where(lb.id == load_balancer_id).ordered_values(
        (lb.lease_owner, None), (lb.lease_until_ms, 0), (lb.due_ms, now_ms()),
        (lb.wanted_version, lb.version + 1), (lb.infra_version, lb.version + 1), (lb.version, lb.version + 1)))
    record(connection, Event(load_balancer_id=load_balancer_id, reason="adoption_moving",
                             message="moves to amphorae of this service"))
    announce(connection)


def take_back(connection: Connection, load_balancer_id: str) -> Lease:
    """Hold it again, whoever has it; a pass that is under way cannot write any more."""
    connection.execute(update(tables.load_balancers).where(lb.id == load_balancer_id).values(
        lease_owner=HOLDER, lease_until_ms=FOR_EVER_MS, lease_token=lb.lease_token + 1))
    token = connection.execute(select(lb.lease_token).where(lb.id == load_balancer_id)).scalar_one()
    return Lease(load_balancer_id=load_balancer_id, owner=HOLDER, token=token, seconds=FOR_EVER_MS / 1000 / 2)


def rest(connection: Connection, load_balancer_id: str) -> None:
    """None of our amphorae is left: it waits again, as it came."""
    connection.execute(update(tables.load_balancers).where(lb.id == load_balancer_id).values(
        lease_owner=HOLDER, lease_until_ms=FOR_EVER_MS, due_ms=None, done_version=lb.version,
        settled_version=lb.version, failed_version=None, failure=None, attempts=0))
    record(connection, Event(load_balancer_id=load_balancer_id, reason="adoption_returned",
                             message="is served by the other Octavia's machines again"))
    announce(connection)




def wishes_since(connection: Connection, load_balancer_id: str) -> int:
    """How many wishes were accepted here since it came."""
    event = tables.events.c
    came = select(func.max(event.id)).where(event.load_balancer_id == load_balancer_id, event.reason == "adopted")
    accepted = select(func.count()).where(
        event.load_balancer_id == load_balancer_id, event.reason == "accepted", event.id > came.scalar_subquery())
    return connection.execute(accepted).scalar_one()
