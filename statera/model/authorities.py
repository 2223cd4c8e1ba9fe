# SPDX-License-Identifier: Apache-2.0
"""Decides how one certificate authority takes over from another without anybody being locked out.

A new one is first trusted by everybody, then signs, and when nothing that the old one signed is left, the
old one is withdrawn. Each step follows from the facts alone, so whoever looks next goes on.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

HEED_TIME = timedelta(seconds=5)
"""How long after a change of who signs a health manager may still sign with the former one."""


class Authority(Struct, frozen=True, kw_only=True):
    """*id* is the certificate's SHA-256, hexadecimal; a later one has the higher *generation*."""

    id: str
    generation: int
    certificate: str
    created_at: datetime
    signs_since: datetime | None = None


class Holder(Struct, frozen=True, kw_only=True):
    """Who shows a certificate that is still good: a node, or a health manager that is alive.

    *issuer* signed it. *trusts* are the authorities that the holder believes; None: whatever the store says.
    """

    name: str
    kind: str
    issuer: str | None = None
    trusts: frozenset[str] | None = None


class Sign(Struct, frozen=True):
    """The authority signs from now on."""

    id: str


class Withdraw(Struct, frozen=True):
    """Nobody is to believe the authority any more."""

    id: str


class Wait(Struct, frozen=True, kw_only=True):
    """Nothing to do before all these *holders* have done what *what* says; *count* are all that have to."""

    what: str
    holders: tuple[str, ...]
    count: int


Step = Sign | Withdraw | Wait

LEARN, RENEW, HEED = (
    "learn the new authority", "get certificates of the new authority", "notice that the new authority signs")


def signer(authorities: Sequence[Authority]) -> Authority | None:
    """Who signs: the last that was told to."""
    signing = [each for each in authorities if each.signs_since is not None]
    return max(signing, key=lambda each: each.generation, default=None)


def next_step(authorities: Sequence[Authority], holders: Sequence[Holder], now: datetime) -> Step | None:
    """What brings the newest of the trusted *authorities* nearer to being the only one; None when it is."""
    if not authorities:
        return None
    newest = max(authorities, key=lambda each: each.generation)
    if newest.signs_since is None:
        ignorant = [each.name for each in holders if each.trusts is not None and newest.id not in each.trusts]
        return Wait(what=LEARN, holders=tuple(ignorant), count=len(holders)) if ignorant else Sign(newest.id)
    if len(authorities) == 1:
        return None
    outdated = [each.name for each in holders if each.issuer != newest.id]
    if outdated:
        return Wait(what=RENEW, holders=tuple(outdated), count=len(holders))
    if now < newest.signs_since + HEED_TIME:
        return Wait(what=HEED, holders=(), count=len(holders))
    return Withdraw(min(authorities, key=lambda each: each.generation).id)
