# SPDX-License-Identifier: Apache-2.0
"""What is wanted and what is there, read in one look."""

from statera.controller.plan import Seen
from statera.model.tree import LoadBalancer
from statera.store.engine import Store
from statera.store.seen import load_amphorae, load_nodes
from statera.store.trees import load_tree


def observe(
    store: Store, load_balancer_id: str, *, has_nodes: bool, guards: bool = False,
    known: LoadBalancer | None = None
) -> tuple[LoadBalancer | None, Seen]:
    """The load balancer as it is wanted now, None once it is deleted, and what serves it.

    *known* is what an earlier look of the same pass found; it saves reading the same tree again.
    """
    with store.read() as connection:
        return load_tree(connection, load_balancer_id, known=known), Seen(
            amphorae=tuple(load_amphorae(connection, load_balancer_id)),
            nodes=tuple(load_nodes(connection)),
            has_nodes=has_nodes,
            guards=guards,
        )
