# SPDX-License-Identifier: Apache-2.0
"""All that a pass works with, but for the load balancer that it is over."""

from msgspec import Struct

from statera.drivers.protocols import Compute, Network
from statera.store.engine import Store


class World(Struct, frozen=True, kw_only=True):
    """The store, the real drivers, and the options that passes heed."""

    store: Store
    compute: Compute
    network: Network
    replacements_per_minute: int = 60
    provider_patience_seconds: float = 300
