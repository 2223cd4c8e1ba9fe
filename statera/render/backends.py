# SPDX-License-Identifier: Apache-2.0
"""Who serves a listener, and which pools it may send to: each such couple is one backend."""

from collections.abc import Iterator

from msgspec.structs import replace

from statera.wire import ListenerSpec, PoolSpec, Spec

DATAGRAMS = ("UDP", "SCTP")
"""The kernel serves these itself."""
PINGED = "PING"
"""The agent makes this kind of check and tells HAProxy, which would have to start a program each time."""


def proxied(spec: Spec) -> Spec:
    """What of it HAProxy serves and checks."""
    return replace(
        spec, listeners=tuple(one for one in spec.listeners if one.protocol not in DATAGRAMS),
        pools=tuple(replace(pool, monitor=None) if is_pinged(pool) else pool for pool in spec.pools))


def is_pinged(pool: PoolSpec) -> bool:
    return pool.monitor is not None and pool.monitor.type == PINGED


def backends(spec: Spec) -> Iterator[tuple[ListenerSpec, PoolSpec]]:
    """Each listener with each of its pools, the default one and those of its policies."""
    for listener in spec.listeners:
        used = {listener.default_pool_id, *listener.redirect_pool_ids}
        yield from ((listener, pool) for pool in spec.pools if pool.id in used)


def backend_name(pool_id: str, listener: ListenerSpec) -> str:
    return f"{pool_id}:{listener.id}"
