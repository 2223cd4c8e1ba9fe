# SPDX-License-Identifier: Apache-2.0
"""Which providers are Statera's own; any other is served by a driver of somebody else's."""

OURS = frozenset({"amphora", "amphorav2", "octavia", "noop_driver", "noop_driver-alt"})
"""Names that users may give to what the controller and the fleet make themselves."""


def is_ours(provider: str) -> bool:
    """Whether amphorae serve the provider's load balancers; else a driver does, and says by itself what is done."""
    return provider in OURS
