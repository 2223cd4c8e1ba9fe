# SPDX-License-Identifier: Apache-2.0
"""What an amphora may use, what its node makes of that, and what is the matter when a limit is hit."""

from msgspec import Struct

LEAST_MEMORY_MB = 64
"""Less is not enough for HAProxy and its successor at a reload."""


class Limits(Struct, frozen=True, kw_only=True):
    """What an amphora may use; None is what the node gives to each, and of *cpus* all there are."""

    memory_mb: int | None = None
    cpus: float | None = None
    max_connections: int | None = None


class Alarm(Struct, frozen=True, kw_only=True):
    """Something that is the matter with an object just now; *message* names the limit and its value.

    *reason* is a stable code. An object without an id is the amphora.
    """

    reason: str
    message: str
    object_type: str = "amphora"
    object_id: str = ""


class Effective(Struct, frozen=True, kw_only=True):
    """What an amphora really may use on its node; *max_connections* is what *limited_by* leaves of it.

    *memory_mb* and *cpus* are None where nothing holds it to a limit.
    """

    max_connections: int
    limited_by: str
    file_descriptors: int
    memory_mb: int | None = None
    cpus: float | None = None
