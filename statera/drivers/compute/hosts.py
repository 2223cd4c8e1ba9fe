# SPDX-License-Identifier: Apache-2.0
"""Enrolled Linux hosts as nodes: many amphorae each, chosen here."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from statera.drivers.protocols import AmphoraRequest, Machine
from statera.errors import TryAgain
from statera.model.fleet import Node, Owned, Port


class Hosts:
    """Picks among the nodes of the request; nothing is made, so nothing has to be removed."""

    has_nodes = True
    plugs = False
    built_from: tuple[str, ...] = ()
    keeps_apart = False

    def ensure_node(self, request: AmphoraRequest) -> str | None:
        """The emptiest usable node, one without an amphora of the same load balancer if there is one.

        Among equals each amphora has an order of its own, so that many placed at once do not all go to one node.
        """
        usable = [node for node in request.nodes if _can_carry(node, request.zone)]
        if not usable:
            raise TryAgain("no_node", _why_none(request))
        return min(usable, key=lambda node: (
            node.id in request.beside, node.amphorae, sha256(f"{request.amphora_id}{node.id}".encode()).digest())).id

    def plug(self, amphora_id: str, ports: Sequence[Port], *, load_balancer_id: str) -> None:
        """The node's agent plugs."""

    def newest(self) -> Mapping[str, str]:
        return {}

    def machine(self, amphora_id: str) -> Machine | None:
        return None

    def ensure_absent(self, amphora_id: str) -> None:
        """The node's agent removes the amphora itself, because it is no longer on its roster."""

    def forget(self, load_balancer_id: str | None) -> None:
        """Nothing is made for load balancers."""

    def owned(self) -> Sequence[Owned]:
        return ()

    def release(self, thing: Owned) -> None:
        """There is nothing of ours outside."""


def _can_carry(node: Node, zone: str | None) -> bool:
    return node.heard and not node.drained and zone in (None, node.zone)


def _why_none(request: AmphoraRequest) -> str:
    where = f" in zone {request.zone}" if request.zone else ""
    connected = sum(node.heard for node in request.nodes)
    return (
        f"no node{where} can carry amphora {request.amphora_id}: {len(request.nodes)} enrolled, {connected} connected, "
        f"{sum(node.drained for node in request.nodes)} drained; start statera-agent on a node or enrol one"
    )
