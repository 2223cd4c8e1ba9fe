# SPDX-License-Identifier: Apache-2.0
"""How many connections an HAProxy may have, and what decides that: listeners, flavor, memory or descriptors."""

import math

from statera.wire import Spec

BASE_MB = 48
"""For HAProxy itself, the worker that a reload replaces, and keepalived."""
PLAIN_KB, TLS_KB = 33, 48
"""What a connection takes at worst: two buffers of 16 kB and what HAProxy knows of it; and OpenSSL's part."""


def ceilings(spec: Spec, *, wanted: int, memory_mb: int, by_descriptors: int) -> dict[str, int]:
    """How many connections each of them allows, by what to call it; *memory_mb* 0 is no limit."""
    found = {"listeners": wanted, "flavor": spec.limits.max_connections, "file descriptors": by_descriptors}
    if memory_mb:
        found["memory"] = by_memory(memory_mb, is_tls=any(listener.tls for listener in spec.listeners))
    return {what: count for what, count in found.items() if count is not None}


def by_memory(memory_mb: int, *, is_tls: bool) -> int:
    """So many connections fit into the memory even when all of them are busy."""
    return max(1, (memory_mb - BASE_MB) * 1024 // (PLAIN_KB + (TLS_KB if is_tls else 0)))


def threads(spec: Spec, *, most: int) -> int:
    """No more than the flavor gives CPUs to: more would only wait for each other."""
    return most if spec.limits.cpus is None else max(1, min(most, math.ceil(spec.limits.cpus)))
