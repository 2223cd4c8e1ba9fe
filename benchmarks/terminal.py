# SPDX-License-Identifier: Apache-2.0
"""What a suite says to whoever started it: on the way where it is, at the end a table."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

Tick = Callable[[str], object]
"""Takes what begins now."""

WIDTH = 160
"""Of tables that go into a file."""

NOTE_SECONDS = 5.0


@contextlib.contextmanager
def ticking(first: str) -> Iterator[Tick]:
    """A line that says what is being done and for how long already; into a file, a line every few seconds."""
    if not sys.stderr.isatty():
        yield Notes()
        return
    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(first, total=None)
        yield lambda text: progress.update(task, description=text)


class Notes:
    """Lines with the time since the first."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next = self._began

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            print(f"{now - self._began:4.0f} s  {text}", file=sys.stderr, flush=True)
            self._next = now + NOTE_SECONDS


def show(*things: RenderableType) -> None:
    Console(width=None if sys.stdout.isatty() else WIDTH).print(*things)
