# SPDX-License-Identifier: Apache-2.0
"""Two sides' values of the same work, turn by turn: as ratios with their spread, as a table, as JSON and as a page."""

import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

MORE_IS_BETTER = ("/s", "Mbit/s")


class Figure(Struct, frozen=True, kw_only=True):
    """What each side did in each turn; `MORE_IS_BETTER` names the units of which more is better."""

    what: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    target: float | None = None

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, turn by turn."""
        turns = zip(self.ours, self.theirs, strict=True)
        return [our / their if self.unit in MORE_IS_BETTER else their / our for our, their in turns]

    @property
    def is_met(self) -> bool:
        return self.target is None or statistics.median(self.ratios) >= self.target


class Report(Struct, frozen=True, kw_only=True):
    """One run: *sides* are names with versions, ours first; *facts* are about the machine."""

    title: str
    sides: tuple[str, str]
    facts: dict[str, str]
    figures: tuple[Figure, ...]


def table(report: Report) -> Table:
    ours, theirs = report.sides
    drawn = Table("", f"{ours}, median", f"{theirs}, median", "unit", "times better", "from", "to", "target", box=None)
    for figure in report.figures:
        ratios = figure.ratios
        drawn.add_row(
            figure.what, number(statistics.median(figure.ours)), number(statistics.median(figure.theirs)), figure.unit,
            *(f"{value:.2f}" for value in (statistics.median(ratios), min(ratios), max(ratios))),
            f"≥ {figure.target:g}" if figure.target else "", style=None if figure.is_met else "bold red")
    return drawn


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def machine(programs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What a reader has to know about the machine; *programs* are commands that tell their version."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processors": f"{len(os.sched_getaffinity(0))} × {cpu}",
        "memory": f"{int(memory.split()[1]) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        **{name: _version(argv) for name, argv in programs.items()},
    }


def _version(argv: Sequence[str]) -> str:
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def page(report: Report, name: str) -> str:
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
            f"| {figure.unit} | **{statistics.median(ratios):.2f}** ({min(ratios):.2f} – {max(ratios):.2f}) "
            f"| {f'≥ {figure.target:g}' if figure.target else ''} |")
    return "\n".join([*lines, "", f"![how many times better]({name}.svg)", ""])


def write(report: Report, folder: Path, name: str) -> None:
    """`name.json` with every value, `name.svg` to see and `name.md` to read."""
    from benchmarks.peers import plots  # takes a while to load, and a table does without

    folder.mkdir(parents=True, exist_ok=True)
    plots.ratios({figure.what: figure.ratios for figure in report.figures}, folder / f"{name}.svg")
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    (folder / f"{name}.md").write_text(page(report, name))


def conclude(report: Report, folder: Path | None, name: str) -> None:
    """Print the table, write the files if there is a *folder*, and exit with status 1 when a target was missed."""
    Console(width=None if sys.stdout.isatty() else 150).print(table(report))
    if folder is not None:
        write(report, folder, name)
    if missed := [figure.what for figure in report.figures if not figure.is_met]:
        sys.exit(f"MISSED: {'; '.join(missed)}")
