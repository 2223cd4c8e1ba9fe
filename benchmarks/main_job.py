# SPDX-License-Identifier: Apache-2.0
"""The main job, measured on this host: from the api's answer to the packet, beside what each figure should be."""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import rig
from benchmarks.client import Refused, Unanswered
from benchmarks.jobs import JOBS, Bench, Row


def measured(name: str, bench: Bench) -> list[Row]:
    """The job's rows; one that says why when it could not be done."""
    rows: list[Row] = []
    try:
        rows.extend(JOBS[name](bench))
    except (AssertionError, Unanswered, Refused) as error:
        rows.append(Row(what=f"{name}: {error}", values=(1,), unit="", target="0", failed=True))
    return rows


def table(rows: Sequence[Row]) -> Table:
    drawn = Table("", "median", "min", "max", "of", "unit", "target", box=None)
    for row in rows:
        shown = [f"{value:.3g}" if value < 100 else f"{value:.0f}"
                 for value in (statistics.median(row.values), min(row.values), max(row.values))]
        several = shown if len(row.values) > 1 else [shown[0], "", ""]
        drawn.add_row(row.what, *several, str(len(row.values)), row.unit, row.target,
                      style="bold red" if row.failed else None)
    return drawn


@click.command()
@click.option("--only", type=click.Choice(list(JOBS)), multiple=True, help="Measure this alone; may be repeated.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all values there too.")
def main(only: Sequence[str], file: Path | None) -> None:
    """Measure the main job on this host. Needs root, HAProxy and, to compare request rates, wrk."""
    rows: list[Row] = []
    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("statera up", total=None)
        with tempfile.TemporaryDirectory(prefix="st-bench-") as folder, rig.playground(Path(folder)) as playground:
            bench = Bench(*playground, lambda text: progress.update(task, description=text))
            for name in only or JOBS:
                rows += measured(name, bench)
    Console(width=None if sys.stdout.isatty() else 140).print(table(rows))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    if failed := [row.what for row in rows if row.failed]:
        sys.exit(f"FAILED: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
