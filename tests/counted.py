# SPDX-License-Identifier: Apache-2.0
"""What work costs, counted: the same on every machine, however busy it is."""

import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

SILENT = ("BEGIN", "PRAGMA")


def statements(engine: Engine, act: Callable[[], object]) -> list[str]:
    """The SQL statements that *act* sends, transactions' ends left out."""
    seen: list[str] = []

    def note(*given: Any) -> None:
        seen.append(given[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return [text for text in seen if not text.startswith(SILENT)]


def calls(act: Callable[[], object]) -> int:
    """How many functions *act* calls, C's too."""
    count = 0

    def note(_frame: Any, what: str, _argument: Any) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


class Tally:
    """A driver that counts how often it is asked."""

    def __init__(self, driver: Any) -> None:
        self._driver, self.asked = driver, 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._driver, name)
        if not callable(attribute):
            return attribute

        def ask(*args: Any, **options: Any) -> Any:
            self.asked += 1
            return attribute(*args, **options)

        return ask
