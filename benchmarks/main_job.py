# SPDX-License-Identifier: Apache-2.0
"""The main job, measured on this host: from the api's answer to the packet, beside what each figure should be."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from benchmarks import machine, rig
from benchmarks.bench import Bench
from benchmarks.jobs import JOBS, SHORT
from benchmarks.rows import Row, Sheet, conclude, measured
from benchmarks.terminal import ticking


@click.command()
@click.option("--only", type=click.Choice(list(JOBS)), multiple=True, help="Measure this alone; may be repeated.")
@click.option("--short", is_flag=True, help="What takes three minutes at most.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all values there too.")
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), help="Write JSON and page there too.")
def main(only: Sequence[str], short: bool, file: Path | None, docs: Path | None) -> None:
    """Measure the main job on this host. Needs root, HAProxy and, to compare request rates, wrk."""
    rows: list[Row] = []
    facts = machine.facts(HAProxy=["haproxy", "-v"], wrk=["wrk", "-v"])
    with ticking("statera up") as tick, tempfile.TemporaryDirectory(prefix="st-bench-") as folder, \
            rig.playground(Path(folder)) as playground:
        bench = Bench(*playground, tick)
        for name in only or (SHORT if short else JOBS):
            rows += measured(name, partial(JOBS[name], bench))
    conclude(Sheet(name="main-job", title="The main job", facts=facts, rows=tuple(rows)), file=file, docs=docs)


if __name__ == "__main__":
    main()
