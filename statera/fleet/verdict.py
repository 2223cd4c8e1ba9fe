# SPDX-License-Identifier: Apache-2.0
"""Decides which nodes are lost: a death sentence needs proof, and proof that the judge itself is well."""

from collections.abc import Mapping

from msgspec import Struct

DOUBT = 0.5
"""More than this share of the fleet silent at once (and more than one node) says that we are deaf."""


class Verdict(Struct, frozen=True, kw_only=True):
    """*condemned* nodes are lost; *doubt* says in a sentence why nobody is, though some are silent."""

    condemned: tuple[str, ...] = ()
    doubt: str | None = None


def judge(
    *,
    now: float,
    heard: Mapping[str, float],
    fleet: int,
    grace_seconds: float,
    well_since: float,
    doubt_share: float = DOUBT,
) -> Verdict:
    """Sentence the nodes that nobody has heard for the grace time.

    *heard* says when each node without a proven connection was last heard, *fleet* how many nodes there
    are that are not lost yet, *well_since* from when on the judge has been without a lapse of its own.
    All times are seconds of one monotonic clock. Nobody is condemned while the judge has been well for
    less than the grace time. Nodes on their way to a sentence count against the share too, because those
    that fall silent together are last heard up to a beat apart.
    """
    silent = sorted(node for node, at in heard.items() if now - at >= grace_seconds)
    if not silent or now - well_since < grace_seconds:
        return Verdict()
    suspects = sum(1 for at in heard.values() if now - at >= grace_seconds / 2)
    if suspects > 1 and suspects > doubt_share * fleet:
        return Verdict(doubt=f"{suspects} of {fleet} nodes fell silent at once: that looks like our own fault")
    return Verdict(condemned=tuple(silent))
