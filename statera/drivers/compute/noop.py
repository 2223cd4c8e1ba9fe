# SPDX-License-Identifier: Apache-2.0
"""Amphorae that only pretend: for API tests and for simulations of many load balancers."""

from statera.drivers.protocols import AmphoraRequest


class NoopCompute:
    """There are no nodes; the controller says of every amphora that it runs."""

    has_nodes = False

    def ensure_node(self, request: AmphoraRequest) -> str | None:
        return None

    def ensure_absent(self, amphora_id: str) -> None:
        """Nothing was made."""
