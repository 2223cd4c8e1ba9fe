# SPDX-License-Identifier: Apache-2.0
"""Both statuses, derived: no process owns a status, so no crash can leave one behind."""

from collections.abc import Iterable
from enum import StrEnum


class Provisioning(StrEnum):
    PENDING_CREATE = "PENDING_CREATE"
    PENDING_UPDATE = "PENDING_UPDATE"
    PENDING_DELETE = "PENDING_DELETE"
    ACTIVE = "ACTIVE"
    ERROR = "ERROR"
    DELETED = "DELETED"


class Operating(StrEnum):
    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    DEGRADED = "DEGRADED"
    ERROR = "ERROR"
    DRAINING = "DRAINING"
    NO_MONITOR = "NO_MONITOR"


def provisioning_status(
    *, created: int, wanted: int, done: int, deleting: bool, failed: int | None, deleted: bool = False
) -> Provisioning:
    """The status of one object of a tree.

    *created* and *wanted* are the versions of the wishes that made and last touched the object, *done* is
    the newest version that runs, *failed* the newest that could not be made to run (its own or the load
    balancer's). `store.status` holds the same rule as SQL.
    """
    if deleted:
        return Provisioning.DELETED
    if failed is not None and failed >= wanted:
        return Provisioning.ERROR
    if deleting:
        return Provisioning.PENDING_DELETE
    if done < created:
        return Provisioning.PENDING_CREATE
    if done < wanted:
        return Provisioning.PENDING_UPDATE
    return Provisioning.ACTIVE


SEVERITY = (Operating.ONLINE, Operating.DEGRADED, Operating.ERROR)


def worst(statuses: Iterable[str]) -> Operating:
    """What a load balancer is worth whose listeners and pools are *statuses*; others count as ONLINE."""
    order = {status: rank for rank, status in enumerate(SEVERITY)}
    return SEVERITY[max((order.get(Operating(status), 0) for status in statuses), default=0)]


LISTENER_WORDS = {"OPEN": Operating.ONLINE, "FULL": Operating.DEGRADED}
POOL_WORDS = {"UP": Operating.ONLINE, "DOWN": Operating.ERROR}
MEMBER_WORDS = {
    "UP": Operating.ONLINE,
    "DOWN": Operating.ERROR,
    "NOLB": Operating.ERROR,
    "DRAIN": Operating.DRAINING,
    "MAINT": Operating.OFFLINE,
    "no check": Operating.NO_MONITOR,
}


def member_status(word: str, weight: int) -> Operating:
    """From HAProxy's word for a server ("UP 1/3", "DOWN (agent)", "no check") to the API's."""
    name = "no check" if word == "no check" else word.split(" ", 1)[0]
    status = MEMBER_WORDS.get(name, Operating.ERROR)
    if weight == 0 and status in (Operating.ONLINE, Operating.NO_MONITOR):
        return Operating.DRAINING
    return status
