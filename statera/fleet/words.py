# SPDX-License-Identifier: Apache-2.0
"""Remembers what each amphora last said, so that a report that says nothing new ends here."""

from collections.abc import Mapping

from msgspec import structs

from statera.model.health import Words
from statera.wire import Counters, Report


def fold(words: Words, report: Report, as_of: int) -> Words:
    """What the amphora says now; the very same *words* when the report holds nothing new."""
    if not report.full and as_of == words.as_of and _says_nothing_new(words, report):
        return words
    said = structs.replace(
        words, as_of=as_of, vrrp=report.vrrp or words.vrrp, effective=report.effective or words.effective,
        alarms=words.alarms if report.alarms is None else report.alarms)
    if report.full:
        new = structs.replace(said, listeners=report.listeners, pools=report.pools, members=report.members)
        return words if new == words else new
    return structs.replace(
        said, listeners={**words.listeners, **report.listeners},
        pools={**words.pools, **report.pools}, members={**words.members, **report.members})


def _says_nothing_new(words: Words, report: Report) -> bool:
    return (
        all(getattr(report, name) in (None, getattr(words, name)) for name in ("vrrp", "alarms", "effective"))
        and report.listeners.items() <= words.listeners.items()
        and report.pools.items() <= words.pools.items()
        and report.members.items() <= words.members.items()
    )


class Totals:
    """Traffic totals by (amphora, listener) that are not stored yet.

    What an amphora says is handed out at most once per *every_seconds*, so the database sees an average
    and not each report.
    """

    def __init__(self, every_seconds: float) -> None:
        self.every_seconds = every_seconds
        self._known: dict[str, dict[str, Counters]] = {}
        self._waiting: dict[str, float] = {}
        self._taken_at: dict[str, float] = {}

    def note(self, amphora_id: str, counters: Mapping[str, Counters], now: float) -> None:
        known = self._known.setdefault(amphora_id, {})
        if counters.items() <= known.items():
            return
        known.update(counters)
        self._waiting.setdefault(amphora_id, now)

    def take(self, now: float) -> dict[tuple[str, str], Counters]:
        """What is due to be stored now."""
        due = [
            amphora_id for amphora_id in self._waiting
            if now - self._taken_at.get(amphora_id, -self.every_seconds) >= self.every_seconds
        ]
        for amphora_id in due:
            del self._waiting[amphora_id]
            self._taken_at[amphora_id] = now
        return {
            (amphora_id, listener_id): counters
            for amphora_id in due for listener_id, counters in self._known[amphora_id].items()
        }

    def forget(self, amphora_id: str) -> None:
        for memory in (self._known, self._waiting, self._taken_at):
            memory.pop(amphora_id, None)
