# SPDX-License-Identifier: Apache-2.0
"""What this node has to say and has not said yet; of two messages about the same thing the newer counts."""

import asyncio

from msgspec import structs

from statera.wire import Applied, Gone, Report, Up


class Outbox:
    """Belongs to the event loop: `put` may be called from nowhere else."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, ...], Up] = {}
        self._filled = asyncio.Event()

    def put(self, message: Up) -> None:
        """Have *message* sent, in order, once there is a connection."""
        key = _key(message)
        earlier = self._waiting.pop(key, None)
        if isinstance(message, Report) and isinstance(earlier, Report):
            message = merged(earlier, message)
        self._waiting[key] = message
        self._filled.set()

    async def take(self) -> Up:
        """The oldest message, as soon as there is one."""
        await self._filled.wait()
        key = next(iter(self._waiting))
        message = self._waiting.pop(key)
        if not self._waiting:
            self._filled.clear()
        return message

    def drop_reports(self) -> None:
        """Forget what full reports are about to say again."""
        self._waiting = {key: message for key, message in self._waiting.items() if not isinstance(message, Report)}
        if not self._waiting:
            self._filled.clear()


def merged(earlier: Report, later: Report) -> Report:
    """One report that says what both say, one after the other."""
    if later.full:
        return later
    return structs.replace(
        earlier,
        vrrp=later.vrrp or earlier.vrrp,
        listeners={**earlier.listeners, **later.listeners},
        pools={**earlier.pools, **later.pools},
        members={**earlier.members, **later.members},
        counters={**earlier.counters, **later.counters},
        alarms=earlier.alarms if later.alarms is None else later.alarms,
        effective=later.effective or earlier.effective,
    )


def _key(message: Up) -> tuple[str, ...]:
    match message:
        case Report() | Gone():
            return type(message).__name__, message.amphora_id
        case Applied():  # a failure of a newer version must not hide that an older one runs
            return "Applied", message.amphora_id, "failed" if message.failure else "runs"
        case _:
            return (type(message).__name__,)
