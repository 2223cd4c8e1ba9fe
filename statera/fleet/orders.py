# SPDX-License-Identifier: Apache-2.0
"""Decides what a node has to be told: which amphorae it carries and which specs it lacks."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct

from statera.store.placements import Placement


class Orders(Struct, frozen=True, kw_only=True):
    """*amphorae* are all that the node is to carry, *behind* load balancers of which it lacks the newest spec.

    Of the *gone* nothing is left on the node, though it never said so.
    """

    amphorae: frozenset[str]
    behind: frozenset[str]
    gone: frozenset[str]


def orders(
    placements: Sequence[Placement], *, told: AbstractSet[str], sent: Mapping[str, int], carries: AbstractSet[str]
) -> Orders:
    """What follows from *placements* for the node that they are on.

    *told* are the amphorae that the node is known to be told to carry (empty when *placements* are all
    there are), *sent* the versions that it runs or was sent, *carries* what may exist on it.
    """
    staying = {placement.amphora_id for placement in placements if not placement.leaving}
    leaving = {placement.amphora_id for placement in placements if placement.leaving}
    return Orders(
        amphorae=frozenset((told - leaving) | staying),
        behind=frozenset(
            placement.load_balancer_id for placement in placements
            if placement.amphora_id in staying and placement.runnable
            and sent.get(placement.amphora_id) != placement.version
        ),
        gone=frozenset(
            placement.amphora_id for placement in placements
            if placement.leaving and not placement.gone and placement.amphora_id not in carries
        ),
    )
