# SPDX-License-Identifier: Apache-2.0
"""Amphorae that only pretend: for API tests and for simulations of many load balancers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

from statera.drivers.protocols import AmphoraRequest, Machine
from statera.model.fleet import Owned, Port

IMAGE_ID = str(uuid5(NAMESPACE_OID, "statera noop image"))
CERTIFICATE_DAYS = 30


class NoopCompute:
    """There are no nodes; the controller says of every amphora that it runs."""

    has_nodes = False
    plugs = False
    built_from: tuple[str, ...] = ()
    keeps_apart = False

    def ensure_node(self, request: AmphoraRequest) -> str | None:
        return None

    def plug(self, amphora_id: str, ports: Sequence[Port], *, load_balancer_id: str) -> None:
        """There is nothing to plug into."""

    def newest(self) -> Mapping[str, str]:
        return {}

    def machine(self, amphora_id: str) -> Machine | None:
        """A server as the cloud would show it; its id is derived from the amphora's."""
        return Machine(
            compute_id=str(uuid5(NAMESPACE_OID, f"statera noop server {amphora_id}")), lb_network_ip="192.0.2.1",
            image_id=IMAGE_ID, compute_flavor="noop", cached_zone="noop",
            cert_expiration=datetime.now(UTC).replace(tzinfo=None) + timedelta(days=CERTIFICATE_DAYS),
        )

    def ensure_absent(self, amphora_id: str) -> None:
        """Nothing was made."""

    def forget(self, load_balancer_id: str | None) -> None:
        """Nothing is made for load balancers."""

    def owned(self) -> Sequence[Owned]:
        return ()

    def release(self, thing: Owned) -> None:
        """There is nothing of ours outside."""
