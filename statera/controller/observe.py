# SPDX-License-Identifier: Apache-2.0
"""What is wanted and what is there, read in one look."""

from collections.abc import Sequence

from statera.controller.plan import Seen
from statera.controller.world import World
from statera.model.fleet import Node
from statera.model.providers import Debt, is_ours
from statera.model.tree import LoadBalancer
from statera.store import budget, delegated
from statera.store.seen import compute_zone, flavor_data, load_amphorae, load_nodes
from statera.store.trees import load_tree


def observe(
    world: World, load_balancer_id: str, *, known: LoadBalancer | None = None, nodes: Sequence[Node] = ()
) -> tuple[LoadBalancer | None, Seen]:
    """The load balancer as it is wanted now, None once it is deleted, and what serves it.

    *known* and *nodes* are what an earlier look of the same pass found. They save reading the same tree again, and
    all nodes of the fleet: whoever loses, drains or finds one asks for another pass.
    """
    compute = world.compute
    with world.store.read() as connection:
        desired = load_tree(connection, load_balancer_id, known=known)
        flavor = flavor_data(connection, desired.flavor_id) if desired and compute.built_from else {}
        return desired, Seen(
            amphorae=tuple(load_amphorae(connection, load_balancer_id)),
            nodes=tuple(nodes or load_nodes(connection)),
            has_nodes=compute.has_nodes,
            own_machines=compute.plugs,
            guards=world.network.guards,
            zone=compute_zone(connection, desired.availability_zone) if desired else None,
            build={name: flavor[name] for name in compute.built_from if name in flavor},
            budget=budget.left(connection, per_minute=world.replacements_per_minute),
            debt=Debt.NONE if desired is None or is_ours(desired.provider) else delegated.debt(
                connection, load_balancer_id, patience_seconds=world.provider_patience_seconds),
        )
