# SPDX-License-Identifier: Apache-2.0
"""Decides the operating statuses of a tree from what HAProxy says of it."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from statera.model.limits import Alarm, Effective
from statera.model.status import LISTENER_WORDS, POOL_WORDS, Operating, member_status, worst


class Words(Struct, frozen=True, kw_only=True):
    """What one amphora says: HAProxy's word by object id.

    An object that is not named has no status there, provided that its last wish is not newer than
    *as_of*, the version that ran when this was said. *alarms* and *effective* are None while it says nothing of them.
    """

    as_of: int = 0
    vrrp: str | None = None
    listeners: Mapping[str, str] = {}
    pools: Mapping[str, str] = {}
    members: Mapping[str, str] = {}
    alarms: tuple[Alarm, ...] | None = None
    effective: Effective | None = None


class Subject(Struct, frozen=True, kw_only=True):
    """An object that has a status; members also have a pool and a weight."""

    id: str
    enabled: bool
    wanted_version: int
    status: str
    pool_id: str = ""
    weight: int = 1


class Health(Struct, frozen=True, kw_only=True):
    """Statuses by object id, and the load balancer's."""

    load_balancer: str
    listeners: dict[str, str]
    pools: dict[str, str]
    members: dict[str, str]


def derive(
    words: Words, *, enabled: bool = True, listeners: Sequence[Subject], pools: Sequence[Subject],
    members: Sequence[Subject],
) -> Health:
    """The statuses that follow from *words*, given the objects as they are; *enabled* is the load balancer."""
    member_statuses = {member.id: _member(member, words) for member in members}
    ailing = {member.pool_id for member in members if member_statuses[member.id] == Operating.ERROR}
    pool_statuses = {pool.id: _pool(pool, words, ailing=pool.id in ailing) for pool in pools}
    listener_statuses = {
        listener.id: _listener(listener, words) if enabled else str(Operating.OFFLINE) for listener in listeners}
    return Health(
        load_balancer=str(worst([*listener_statuses.values(), *pool_statuses.values()])),
        listeners=listener_statuses, pools=pool_statuses, members=member_statuses,
    )


def _listener(listener: Subject, words: Words) -> str:
    if not listener.enabled:
        return str(Operating.OFFLINE)
    word = words.listeners.get(listener.id)
    if word is None:
        return listener.status if listener.wanted_version > words.as_of else str(Operating.ERROR)
    return str(LISTENER_WORDS.get(word, listener.status))


def _pool(pool: Subject, words: Words, *, ailing: bool) -> str:
    word = words.pools.get(pool.id)
    if not pool.enabled or (word is None and pool.wanted_version <= words.as_of):
        return str(Operating.OFFLINE)
    status = POOL_WORDS.get(word, pool.status) if word else pool.status
    if status not in (Operating.ONLINE, Operating.DEGRADED):
        return str(status)
    return str(Operating.DEGRADED if ailing else Operating.ONLINE)


def _member(member: Subject, words: Words) -> str:
    if not member.enabled:
        return str(Operating.OFFLINE)
    word = words.members.get(member.id)
    if word is not None:
        return str(member_status(word, member.weight))
    unknown = member.wanted_version > words.as_of or member.status == Operating.NO_MONITOR
    return member.status if unknown else str(Operating.OFFLINE)
