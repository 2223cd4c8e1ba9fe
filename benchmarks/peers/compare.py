# SPDX-License-Identifier: Apache-2.0
"""Two sides' values of the same work, turn by turn: as ratios with their spread, as a table, as JSON and as a page."""

import statistics
import sys
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.table import Table

from benchmarks import machine
from benchmarks.rows import number
from benchmarks.terminal import show

MORE_IS_BETTER = ("/s", "Mbit/s")


class Figure(Struct, frozen=True, kw_only=True):
    """What each side did in each turn; `MORE_IS_BETTER` names the units of which more is better.

    One that is not *plotted* is in the table alone.
    """

    what: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    target: float | None = None
    plotted: bool = True

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, turn by turn."""
        turns = zip(self.ours, self.theirs, strict=True)
        return [our / their if self.unit in MORE_IS_BETTER else their / our for our, their in turns]

    @property
    def is_met(self) -> bool:
        return self.target is None or statistics.median(self.ratios) >= self.target


class Report(Struct, frozen=True, kw_only=True):
    """One run: *sides* are names with versions, ours first; *facts* are about the machine, *name* is that of its
    files. *pictures* are further files, by what they show."""

    name: str
    title: str
    sides: tuple[str, str]
    facts: dict[str, str]
    figures: tuple[Figure, ...]
    pictures: dict[str, str] = {}


def table(report: Report) -> Table:
    ours, theirs = report.sides
    drawn = Table("", f"{ours}, median", f"{theirs}, median", "unit", "times better", "from", "to", "target", box=None)
    for figure in report.figures:
        ratios = figure.ratios
        drawn.add_row(
            figure.what, number(statistics.median(figure.ours)), number(statistics.median(figure.theirs)), figure.unit,
            *(times(value) for value in (statistics.median(ratios), min(ratios), max(ratios))),
            f"≥ {figure.target:g}" if figure.target else "", style=None if figure.is_met else "bold red")
    return drawn


def times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def page(report: Report) -> str:
    """The report as Markdown, with its picture."""
    ours, theirs = report.sides
    lines = [
        f"# {report.title}", "",
        f"Written by `script/bench`, in turns on the same machine; {ours} beside {theirs}.", "",
        *(f"- {what}: {fact}" for what, fact in report.facts.items()), "",
        f"| | {ours} | {theirs} | unit | times better (median, from – to) | target |", "|---|--:|--:|---|--:|--:|",
    ]
    for figure in report.figures:
        ratios = figure.ratios
        lines.append(
            f"| {figure.what} | {number(statistics.median(figure.ours))} | {number(statistics.median(figure.theirs))} "
            f"| {figure.unit} | **{times(statistics.median(ratios))}** ({times(min(ratios))} – {times(max(ratios))}) "
            f"| {f'≥ {figure.target:g}' if figure.target else ''} |")
    pictures = {"how many times better": f"{report.name}.svg", **report.pictures}
    return "\n".join([*lines, "", *(f"![{shown}]({file})\n" for shown, file in pictures.items())])


def write(report: Report, folder: Path) -> None:
    """Every value as JSON, a picture to see and a page to read."""
    from benchmarks.peers import plots  # takes a while to load, and a table does without

    folder.mkdir(parents=True, exist_ok=True)
    plotted = {figure.what: figure.ratios for figure in report.figures if figure.plotted}
    plots.ratios(plotted, folder / f"{report.name}.svg")
    (folder / f"{report.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    (folder / f"{report.name}.md").write_text(page(report))


def conclude(report: Report, docs: Path | None) -> None:
    """Print the table, write the pages in *docs* if there is such, and exit with status 1 when a target was missed."""
    show(table(report), machine.line(report.facts))
    if docs is not None:
        write(report, docs)
    if missed := [figure.what for figure in report.figures if not figure.is_met]:
        sys.exit(f"MISSED: {'; '.join(missed)}")
