# SPDX-License-Identifier: Apache-2.0
"""Rotations: amphorae that are to be made anew, or to take up HAProxy's new program, a few load balancers at a time.

One goes on at a time. It concerns amphorae that are older than itself, so whatever takes their places is done.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, time
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, or_, select, update

from statera.errors import StateraError
from statera.store import wake
from statera.store.clock import now_ms
from statera.store.events import Event, record, utc_now
from statera.store.tables import amphorae, load_balancers, nodes, rotations

RUNNING, PAUSED, CANCELLED, DONE = "running", "paused", "cancelled", "done"


class Refused(StateraError):
    """There is a rotation already, or none; the message says so."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What an amphora should be; one difference is enough. With *replace* it is made anew even where its program
    could be exchanged in place.
    """

    everything: bool = False
    created_after: datetime | None = None
    agent_version: str | None = None
    haproxy_version: str | None = None
    image_id: str | None = None
    certificate_until: datetime | None = None
    replace: bool = False


class Rotation(Struct, frozen=True, kw_only=True):
    """*hours* is `HH:MM-HH:MM` of the workers' local time in which it goes on, None for always."""

    id: str
    created_at: datetime
    state: str
    wanted: Wanted
    max_unavailable: int
    total: int
    load_balancer_id: str | None = None
    node_id: str | None = None
    hours: str | None = None
    ended_at: datetime | None = None

    @property
    def serial(self) -> int:
        """What an amphora remembers of having taken up its program for this rotation; later ones are higher."""
        return int(self.created_at.replace(tzinfo=UTC).timestamp())


class Concerned(Struct, frozen=True, kw_only=True):
    """An amphora that is not done yet; *begun* when it is on its way."""

    amphora_id: str
    load_balancer_id: str
    begun: bool


def begin(connection: Connection, rotation: Rotation) -> Rotation:
    """Have *rotation* go on; returns it with its total. Raise `Refused` while another one is not over."""
    if current(connection) is not None:
        raise Refused("a rotation is under way already: `statera rotate status`")
    counted = msgspec.structs.replace(rotation, total=len(concerned(connection, rotation)))
    row = msgspec.structs.asdict(counted) | {"wanted": msgspec.to_builtins(counted.wanted)}
    connection.execute(insert(rotations).values(**row))
    wake.announce(connection)
    return counted


def new(wanted: Wanted, *, max_unavailable: int, hours: str | None = None, load_balancer_id: str | None = None,
        node_id: str | None = None) -> Rotation:
    """A rotation that nobody has begun."""
    return Rotation(
        id=str(uuid4()), created_at=utc_now(), state=RUNNING, wanted=wanted, max_unavailable=max_unavailable, total=0,
        load_balancer_id=load_balancer_id, node_id=node_id, hours=hours)


def current(connection: Connection) -> Rotation | None:
    """The one that is not over."""
    return _one(connection, rotations.c.state.in_([RUNNING, PAUSED]))


def latest(connection: Connection) -> Rotation | None:
    return _one(connection, rotations.c.id.is_not(None))


def turn(connection: Connection, state: str) -> Rotation:
    """Pause, resume or cancel the rotation. Raise `Refused` when there is none."""
    rotation = current(connection)
    if rotation is None:
        raise Refused("no rotation is under way")
    ended = {"ended_at": utc_now()} if state in (CANCELLED, DONE) else {}
    connection.execute(update(rotations).where(rotations.c.id == rotation.id).values(state=state, **ended))
    if state == CANCELLED:
        waiting = [one.amphora_id for one in concerned(connection, rotation) if one.begun]
        connection.execute(update(amphorae).where(amphorae.c.id.in_(waiting)).values(replace=False))
    wake.announce(connection)
    return msgspec.structs.replace(rotation, state=state)


def concerned(connection: Connection, rotation: Rotation) -> list[Concerned]:
    """The amphorae that are not done yet, load balancer by load balancer."""
    lb, one = load_balancers.c, amphorae.c
    in_place = one.renewal >= rotation.serial
    replaces = _replaces(rotation.wanted)
    begun = one.replace if replaces else in_place
    rows = connection.execute(
        select(one.id, one.load_balancer_id, begun.label("begun"))
        .join(load_balancers, lb.id == one.load_balancer_id).outerjoin(nodes, nodes.c.id == one.node_id)
        .where(one.created_at < rotation.created_at, ~one.leaving, one.deleted_at.is_(None), ~lb.deleting,
               lb.deleted_at.is_(None), *_chosen(rotation),
               _differs(rotation.wanted) if replaces else or_(
                   and_(in_place, one.applied_version < lb.version), and_(~in_place, _differs(rotation.wanted))))
        .order_by(lb.created_at, lb.id, one.created_at))
    return [Concerned(amphora_id=row.id, load_balancer_id=row.load_balancer_id, begun=bool(row.begun)) for row in rows]


def pace(connection: Connection, local: time) -> int:
    """Let the rotation go on as far as it may now; returns how many load balancers it began with.

    Belongs into a write transaction. *local* is the time of day by which `hours` are meant.
    """
    row = connection.execute(
        select(rotations).where(rotations.c.state == RUNNING).with_for_update()).mappings().one_or_none()
    if row is None:
        return 0
    rotation = _rotation(row)
    left = concerned(connection, rotation)
    under_way = {one.load_balancer_id for one in left if one.begun}
    if not left and not _unsettled(connection, rotation):
        turn(connection, DONE)
        return 0
    chosen = following(left, under_way, room=rotation.max_unavailable - len(under_way)) if is_open(
        rotation.hours, local) else []
    for load_balancer_id in chosen:
        _start(connection, rotation, load_balancer_id, [
            one.amphora_id for one in left if one.load_balancer_id == load_balancer_id])
    return len(chosen)


def is_waiting(connection: Connection) -> bool:
    """Whether a rotation may have something to do."""
    return connection.execute(select(exists().where(rotations.c.state == RUNNING))).scalar_one()


def following(left: Sequence[Concerned], under_way: Iterable[str], *, room: int) -> list[str]:
    """The next load balancers, as many as there is *room* for."""
    waiting = dict.fromkeys(one.load_balancer_id for one in left)
    return [one for one in waiting if one not in set(under_way)][:max(0, room)]


def is_open(hours: str | None, local: time) -> bool:
    """Whether the time of day lies in `HH:MM-HH:MM`, which may go over midnight."""
    if hours is None:
        return True
    start, end = (time.fromisoformat(word) for word in hours.split("-"))
    return start <= local < end if start <= end else local >= start or local < end


def _start(connection: Connection, rotation: Rotation, load_balancer_id: str, amphora_ids: Sequence[str]) -> None:
    replaces = _replaces(rotation.wanted)
    changes: dict[str, Any] = {"replace": True} if replaces else {"renewal": rotation.serial}
    connection.execute(update(amphorae).where(amphorae.c.id.in_(amphora_ids)).values(**changes))
    lb = load_balancers.c
    raised = [] if replaces else [(lb.infra_version, lb.version + 1), (lb.version, lb.version + 1)]
    connection.execute(
        update(load_balancers).where(lb.id == load_balancer_id).ordered_values(*raised, (lb.due_ms, now_ms())))
    what = "made anew" if replaces else "given the new program"
    record(connection, Event(
        load_balancer_id=load_balancer_id, reason="rotation",
        message=f"{len(amphora_ids)} amphorae are {what} by a rotation"))
    wake.announce(connection)


def _replaces(wanted: Wanted) -> bool:
    """HAProxy's program is exchanged in place, by a reload that nobody notices; all else needs another amphora."""
    return wanted.replace or not (wanted.everything or wanted.haproxy_version)


def _chosen(rotation: Rotation) -> Iterable[ColumnElement[bool]]:
    if rotation.load_balancer_id:
        yield amphorae.c.load_balancer_id == rotation.load_balancer_id
    if rotation.node_id:
        yield amphorae.c.node_id == rotation.node_id


def _differs(wanted: Wanted) -> ColumnElement[bool]:
    one, until = amphorae.c, func.coalesce(amphorae.c.cert_expiration, nodes.c.certificate_expires_at)
    differences: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "created_after": lambda value: one.created_at < value,
        "agent_version": lambda value: func.coalesce(nodes.c.agent_version, "") != value,
        "haproxy_version": lambda value: func.coalesce(one.haproxy_version, "") != value,
        "image_id": lambda value: func.coalesce(one.image_id, "") != value,
        "certificate_until": lambda value: until < value,
    }
    said = [differs(value) for name, differs in differences.items() if (value := getattr(wanted, name)) is not None]
    return one.id.is_not(None) if wanted.everything else or_(*said)


def _unsettled(connection: Connection, rotation: Rotation) -> bool:
    """Whether something that was rotated still leaves its node."""
    leaving = exists().where(
        amphorae.c.replace, amphorae.c.leaving, ~amphorae.c.gone, amphorae.c.deleted_at.is_(None),
        amphorae.c.created_at < rotation.created_at, nodes.c.id == amphorae.c.node_id, nodes.c.lost_ms.is_(None))
    return connection.execute(select(leaving)).scalar_one()


def _one(connection: Connection, which: ColumnElement[bool]) -> Rotation | None:
    row = connection.execute(
        select(rotations).where(which).order_by(rotations.c.created_at.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else _rotation(row)


def _rotation(row: Any) -> Rotation:
    return msgspec.convert({str(name): value for name, value in row.items()}, Rotation)
