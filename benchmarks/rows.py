# SPDX-License-Identifier: Apache-2.0
"""Figures beside what they should be: as a table, as JSON and as a page."""

import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.table import Table

from benchmarks import machine
from benchmarks.client import Refused, Unanswered
from benchmarks.terminal import show


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table. Of several *values* median, smallest and largest are shown."""

    what: str
    values: tuple[float, ...]
    unit: str = "ms"
    target: str = ""
    failed: bool = False

    @property
    def shown(self) -> tuple[str, ...]:
        """Median, smallest, largest and how many; one value stands alone."""
        median, *ends = map(number, (statistics.median(self.values), min(self.values), max(self.values)))
        return median, *(ends if len(self.values) > 1 else ("", "")), str(len(self.values))


class Sheet(Struct, frozen=True, kw_only=True):
    """One run: *facts* are about the machine, *name* is that of its files."""

    name: str

    title: str
    facts: dict[str, str]
    rows: tuple[Row, ...]


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def measured(name: str, job: Callable[[], Iterable[Row]]) -> list[Row]:
    """The job's rows; one that says why when it could not be done."""
    rows: list[Row] = []
    try:
        rows.extend(job())
    except (AssertionError, Unanswered, Refused) as error:
        rows.append(Row(what=f"{name}: {error}", values=(1,), unit="", target="0", failed=True))
    return rows


def table(rows: Sequence[Row]) -> Table:
    drawn = Table("", "median", "min", "max", "of", "unit", "target", box=None)
    for row in rows:
        drawn.add_row(row.what, *row.shown, row.unit, row.target, style="bold red" if row.failed else None)
    return drawn


def page(sheet: Sheet) -> str:
    """The run as Markdown."""
    lines = [
        f"# {sheet.title}", "", "Written by `script/bench`.", "",
        *(f"- {what}: {fact}" for what, fact in sheet.facts.items()), "",
        "| | median | min | max | of | unit | target |", "|---|--:|--:|--:|--:|---|---|",
        *(f"| {' | '.join((row.what, *row.shown, row.unit, row.target))} |" for row in sheet.rows),
    ]
    return "\n".join([*lines, ""])


def write(sheet: Sheet, folder: Path) -> None:
    """Every value as JSON and a page to read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{sheet.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(sheet)) + b"\n")
    (folder / f"{sheet.name}.md").write_text(page(sheet))


def conclude(sheet: Sheet, *, file: Path | None, docs: Path | None) -> None:
    """Print the table, write *file* and the pages in *docs* if there are such, and exit with status 1 when a row
    failed."""
    show(table(sheet.rows), machine.line(sheet.facts))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(sheet.rows)))
    if docs is not None:
        write(sheet, docs)
    if failed := [row.what for row in sheet.rows if row.failed]:
        sys.exit(f"FAILED: {'; '.join(failed)}")
