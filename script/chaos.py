# SPDX-License-Identifier: Apache-2.0
"""Live through many random histories and print a table of faults, operations, runs and violations."""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import Pool
from pathlib import Path
from random import randrange

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import histories  # noqa: E402 -- tests are no package
import outages  # noqa: E402
from hosts import data_centre  # noqa: E402
from rich.progress import Progress  # noqa: E402
from stepped import Stepped  # noqa: E402

Pair = tuple[str, str]
Found = Iterator[tuple[list[Pair], str | None]]


def main() -> int:
    args = arguments()
    print(f"seed {args.seed}", flush=True)
    wrong = 0
    for title, count, live in (("stepped", args.histories, stepped), ("real", args.real, real)):
        if count:
            began = time.monotonic()
            runs, violations = tell(title, count, live(args, count))
            wrong += sum(violations.values())
            show(title, count, runs, violations, seconds=time.monotonic() - began)
    return int(wrong > 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=2000, help="stepped histories (%(default)s)")
    parser.add_argument("--real", type=int, default=100, help="histories of real processes (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="stepped ones at the same time (%(default)s)")
    parser.add_argument("--seed", type=int, default=randrange(10**6), help="where the numbers of histories begin")
    parser.add_argument("--database", default="postgresql", choices=("postgresql", "mariadb"), help="of real ones")
    return parser.parse_args()


def stepped(args: argparse.Namespace, count: int) -> Found:
    with tempfile.TemporaryDirectory() as folder, Pool(args.jobs, make_world, (folder,)) as pool:
        yield from pool.imap_unordered(live, range(args.seed, args.seed + count))


worlds: list[Stepped] = []
"""The one of this process."""


def make_world(folder: str) -> None:
    logging.disable(logging.CRITICAL)
    own = Path(folder) / str(os.getpid())
    own.mkdir()
    worlds.append(Stepped(own))


def live(seed: int) -> tuple[list[Pair], str | None]:
    """The pairs of one history, those that are needed for it to go wrong if it does, and what is wrong then."""
    [world] = worlds
    steps = histories.steps_of(seed)
    wrong = histories.run(world, seed, steps)
    if wrong:
        steps = histories.shortest(world, seed, steps)
        wrong = f"history {seed}: {wrong}\n" + "\n".join(f"    {step}" for step in steps)
    return [(step.fault, step.operation) for step in steps], wrong


def real(args: argparse.Namespace, count: int) -> Found:
    with tempfile.TemporaryDirectory() as folder, data_centre(
            Path(folder), kind=args.database, controllers=3, hosts=3, options=outages.OPTIONS) as centre:
        town = outages.Town(centre)
        for case in outages.cases(args.seed, count):
            wrong = outages.run(town, case)
            yield [(case.fault, case.operation)], wrong and f"{case}: {wrong}"


def tell(title: str, count: int, found: Found) -> tuple[Counter[Pair], Counter[Pair]]:
    """Go through all of them with a progress bar; how often each pair ran, and how often it went wrong."""
    runs: Counter[Pair] = Counter()
    violations: Counter[Pair] = Counter()
    with Progress() as progress:
        bar = progress.add_task(title, total=count)
        for pairs, wrong in found:
            runs.update(pairs)
            if wrong:
                violations.update(pairs[-1:])
                progress.console.print(wrong, markup=False)
            progress.advance(bar)
    return runs, violations


def show(title: str, count: int, runs: Counter[Pair], violations: Counter[Pair], *, seconds: float) -> None:
    """The table as Markdown: runs of each pair, and in brackets how many of them went wrong."""
    faults, operations = (sorted({pair[at] for pair in runs}) for at in (0, 1))
    print(f"\n{time.strftime('%Y-%m-%d')}: {count} {title} histories in {seconds:.0f} s, {sum(runs.values())} "
          f"operations under {len(faults)} kinds of fault, {sum(violations.values())} violations\n")
    print(row(["fault", *operations]))
    print(row(["---", *("--:" for _ in operations)]))
    for fault in faults:
        print(row([fault, *(cell(runs[fault, one], violations[fault, one]) for one in operations)]))


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def cell(runs: int, violations: int) -> str:
    return f"{runs} (**{violations}**)" if violations else str(runs)


if __name__ == "__main__":
    sys.exit(main())
