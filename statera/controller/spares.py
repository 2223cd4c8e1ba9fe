# SPDX-License-Identifier: Apache-2.0
"""Every decision about spare amphorae: machines that are made ahead, so that nobody waits for them to boot."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import Struct

from statera.model.fleet import Spare

RESERVE = 0.5
"""The share of the budget of replacements that is left to those that replace what serves."""


class AddSpare(Struct, frozen=True):
    """Write down a spare amphora for *zone*; a later look finds it without a machine."""

    zone: str | None

    def __str__(self) -> str:
        return f"add a spare amphora{f' in {self.zone}' if self.zone else ''}"


class BringSpare(Struct, frozen=True):
    """Make its machine, and note when that has joined."""

    id: str
    zone: str | None

    def __str__(self) -> str:
        return f"bring spare amphora {self.id}"


class RetireSpare(Struct, frozen=True):
    """From now on nobody can have it."""

    id: str
    why: str

    def __str__(self) -> str:
        return f"retire spare amphora {self.id} ({self.why})"


class RemoveSpare(Struct, frozen=True):
    """Remove its machine, then forget it; of the *last* one also what all had in common."""

    id: str
    last: bool = False

    def __str__(self) -> str:
        return f"remove spare amphora {self.id}"


SpareStep = AddSpare | BringSpare | RetireSpare | RemoveSpare


def plan_spares(
    zones: Collection[str | None], spares: Sequence[Spare], *, size: int, newest: Mapping[str, str], budget: float
) -> list[SpareStep]:
    """Steps towards *size* machines as the *newest* are in each zone; those that boot are brought on at each look.

    What is older goes at once: it would have to be replaced as soon as somebody has it.
    """
    wanted = frozenset(zones) if size else frozenset[str | None]()
    leaving = [spare for spare in spares if spare.leaving]
    worn = {spare.id: why for spare in spares if not spare.leaving and (why := _why_not(spare, wanted, newest))}
    staying: defaultdict[str | None, list[Spare]] = defaultdict(list)
    for spare in spares:
        if not spare.leaving and spare.id not in worn:
            staying[spare.zone].append(spare)
    for same in staying.values():
        same.sort(key=lambda spare: not spare.is_ready)
    surplus = [spare.id for same in staying.values() for spare in same[size:]]
    kept = [spare for same in staying.values() for spare in same[:size]]
    is_last = not wanted and len(leaving) == len(spares) == 1
    return [
        *(RemoveSpare(spare.id, last=is_last) for spare in leaving),
        *(RetireSpare(id, why) for id, why in worn.items()),
        *(RetireSpare(id, "fewer are wanted") for id in surplus),
        *(BringSpare(spare.id, spare.zone) for spare in kept if spare.node_id is None),
        *(_missing(wanted, staying, size) if budget >= RESERVE else ()),
    ]


def _missing(
    wanted: Collection[str | None], staying: Mapping[str | None, Sequence[Spare]], size: int
) -> Iterator[SpareStep]:
    for zone in sorted(wanted, key=lambda zone: zone or ""):
        yield from [AddSpare(zone)] * max(0, size - len(staying.get(zone, ())))


def _why_not(spare: Spare, wanted: Collection[str | None], newest: Mapping[str, str]) -> str | None:
    """Why the spare must not stay, None if it may."""
    if spare.lost:
        return "its node is lost"
    if spare.zone not in wanted:
        return "none is wanted there"
    differs = [name for name, value in newest.items() if getattr(spare, name) not in (None, value)]
    return f"{' and '.join(differs)} is another now" if differs else None
