# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report: how many times better each figure is, turn by turn, and how answers grow with a fleet."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

mpl.rcParams["svg.hashsalt"] = "statera"  # the same numbers make the same file
INCHES, ROW_INCHES = 9.0, 0.28
OURS, THEIRS, EVEN = "#1b6ca8", "#c2552d", "#888888"


def ratios(rows: Mapping[str, Sequence[float]], file: Path) -> None:
    """One line for each figure: every turn's ratio as a dot, their median as a bar."""
    canvas = Canvas(figsize=(INCHES, 1.2 + ROW_INCHES * len(rows)), layout="constrained")
    axes = canvas.subplots()
    for place, values in enumerate([*rows.values()][::-1]):
        axes.plot(values, [place] * len(values), "o", color=OURS, markersize=4, alpha=0.6)
        axes.plot([statistics.median(values)], [place], "|", color=OURS, markersize=12, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), [*rows][::-1], fontsize=8)
    axes.axvline(1, color=EVEN, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("times better")
    axes.grid(axis="x", alpha=0.3)
    _save(canvas, file)


def growth(lines: Mapping[str, Mapping[str, Mapping[int, float]]], file: Path, *, unit: str) -> None:
    """A panel for each of *lines*, in it a line for each side, from size to value."""
    canvas = Canvas(figsize=(INCHES, 3.2 * ((len(lines) + 1) // 2)), layout="constrained")
    panels = canvas.subplots((len(lines) + 1) // 2, 2, squeeze=False).flat
    for panel, (title, sides) in zip(panels, lines.items(), strict=False):
        for color, (side, values) in zip((OURS, THEIRS), sides.items(), strict=False):
            panel.plot(list(values), list(values.values()), "o-", color=color, label=side, markersize=4)
        panel.set(title=title, xlabel="load balancers", ylabel=unit, xscale="log", yscale="log")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    for panel in list(canvas.axes)[len(lines):]:
        panel.set_axis_off()
    _save(canvas, file)


def _save(canvas: Canvas, file: Path) -> None:
    canvas.savefig(file, metadata={"Date": None})
