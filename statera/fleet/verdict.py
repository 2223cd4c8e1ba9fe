# SPDX-License-Identifier: Apache-2.0
"""Decides which nodes are lost: a death sentence needs proof, and proof that the judge itself is well."""

from collections.abc import Mapping

from msgspec import Struct


class Patience(Struct, frozen=True, kw_only=True):
    """When silence counts. More than *share* of the fleet silent at once (and more than one node) says that we
    are deaf; whoever is silent for *doubt_seconds* while another node is heard all the time is lost nevertheless
    (0: never, an operator has to say so).
    """

    grace_seconds: float
    share: float = 0.5
    doubt_seconds: float = 60.0


class Verdict(Struct, frozen=True, kw_only=True):
    """*condemned* nodes are lost; *doubt* says in a sentence why others are not, though they are silent."""

    condemned: tuple[str, ...] = ()
    doubt: str | None = None


def judge(
    *,
    now: float,
    heard: Mapping[str, float],
    fleet: int,
    well_since: float,
    heard_since: float | None,
    patience: Patience,
) -> Verdict:
    """Sentence the nodes that nobody has heard for the grace time.

    *heard* says when each node without a proven connection was last heard, *fleet* how many nodes there
    are that are not lost yet, *well_since* from when on the judge has been without a lapse of its own,
    *heard_since* from when on it has heard at least one node all the time, None while it hears none.
    All times are seconds of one monotonic clock. Nobody is condemned while the judge has been well for
    less than the grace time. Nodes on their way to a sentence count against the share too, because those
    that fall silent together are last heard up to a beat apart.
    """
    silent = sorted(node for node, at in heard.items() if now - at >= patience.grace_seconds)
    if not silent or now - well_since < patience.grace_seconds:
        return Verdict()
    suspects = sum(1 for at in heard.values() if now - at >= patience.grace_seconds / 2)
    if suspects <= 1 or suspects <= patience.share * fleet:
        return Verdict(condemned=tuple(silent))
    proven = heard_since is not None and 0 < patience.doubt_seconds <= now - max(well_since, heard_since)
    dead = tuple(node for node in silent if proven and now - heard[node] >= patience.doubt_seconds)
    return Verdict(condemned=dead, doubt=_doubt(suspects - len(dead), fleet, patience))


def _doubt(silent: int, fleet: int, patience: Patience) -> str | None:
    if silent == 0:
        return None
    end = (f"they count as lost when that lasts {patience.doubt_seconds:.0f} s while another node is heard"
           if patience.doubt_seconds > 0 else "none of them counts as lost")
    return (f"{silent} of {fleet} nodes fell silent at once, which looks like our own fault: {end}; "
            "`statera node lost NAME` says that one is dead")
