# SPDX-License-Identifier: Apache-2.0
"""What Statera promises in figures, and whether the last runs of the suites kept it: read from their JSON files."""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from rich.table import Table

from benchmarks.peers.compare import Figure, Report
from benchmarks.rows import Sheet, number
from benchmarks.terminal import show

PAGES = Path(__file__).parents[1] / "docs/benchmarks"


class Source(Struct, frozen=True):
    """Rows of a suite's file whose names begin so."""

    file: str
    begins: str


class Target(Struct, frozen=True, kw_only=True):
    """One promise. *most* or *least* is in the *unit*; *floor* is where `limits` tells what the machine needs."""

    what: str
    source: Source | None
    unit: str
    most: float | None = None
    least: float | None = None
    floor: str = ""
    instead: str = ""

    @property
    def wanted(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}" if self.most is not None else ""

    def holds(self, value: float) -> bool:
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)


MAIN, API, FAILOVER = "main-job", "api-mariadb-1000", "failover"
TARGETS = (
    Target(what="a whole tree is wished for → its VIP answers, on one host", unit="ms", most=1000,
           source=Source(MAIN, "create a tree → first 200"), floor="create → first answer"),
    Target(what="the same with a machine of Nova: on top of the machine's boot", unit="s", most=2, source=None,
           instead="measured in a cloud, not on this host"),
    Target(what="a new member gets its first request, 95 of 100", unit="ms", most=150,
           source=Source(MAIN, "add a member → its first answer, 95"), floor="add a member"),
    Target(what="500 members in one request → applied", unit="ms", most=1000,
           source=Source(MAIN, "batch of 500 members → ACTIVE"), floor="batch of 500"),
    Target(what="the other one of a pair takes over, the worst kind of death", unit="ms", most=500,
           source=Source("vrrp", ""), instead="three adverts of VRRP and their skew"),
    Target(what="a lone amphora's node dies → its VIP answers again", unit="s", most=8,
           source=Source(FAILOVER, "dead node, SINGLE")),
    Target(what="a list of 1,000 load balancers: requests per second, times Octavia's", unit="×", least=8,
           source=Source(API, "list 1,000 load balancers, 1 client"), floor="list 1,000 load balancers, 1 at once"),
    Target(what="the same, asked by 16 clients", unit="×", least=8,
           source=Source(API, "list 1,000 load balancers, 16 clients"), floor="list 1,000 load balancers, 16 at once"),
    Target(what="reports that a health manager takes in for each second of a processor", unit="/s", least=5000,
           source=Source("health", "reports for each second of a processor")),
    Target(what="requests per second through an amphora, times those of a HAProxy by hand", unit="×", least=0.97,
           source=Source("data-plane", "HTTP, 32 kept connections"), instead="the other side is the limit"),
    Target(what="memory of an idle amphora", unit="MB", most=25,
           source=Source(MAIN, "memory of an idle amphora"), floor="memory of an idle amphora"),
)


class Line(Struct, frozen=True, kw_only=True):
    """A target with what was found: *near* says how far the machine's own limit is."""

    target: Target
    value: float | None
    near: str

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "yes" if self.target.holds(self.value) else "no"

    @property
    def cells(self) -> tuple[str, ...]:
        shown = "" if self.value is None else number(self.value)
        return self.target.what, shown, self.target.wanted, self.target.unit, self.verdict, self.near


HEADS = ("", "measured", "target", "unit", "holds", "beside the machine's own limit")


def lines(folder: Path) -> Iterator[Line]:
    for target in TARGETS:
        yield Line(target=target, value=found(folder, target), near=near(folder, target))


def found(folder: Path, target: Target) -> float | None:
    """The median, of several rows the worst; None when the suite was not run."""
    if target.source is None or not (file := folder / f"{target.source.file}.json").exists():
        return None
    values = [value for what, value in READERS[target.source.file](file, target)
              if what.startswith(target.source.begins)]
    return (min if target.least is not None else max)(values, default=None)


def of_sheet(file: Path, _target: Target) -> Iterator[tuple[str, float]]:
    for row in msgspec.json.decode(file.read_bytes(), type=Sheet).rows:
        yield row.what, statistics.median(row.values)


def of_report(file: Path, target: Target) -> Iterator[tuple[str, float]]:
    """Ratios where the target is one, else our own values."""
    for figure in msgspec.json.decode(file.read_bytes(), type=Report).figures:
        if figure.target is not None:
            yield figure.what, statistics.median(figure.ratios if target.unit == "×" else figure.ours)


READERS: dict[str, Callable[[Path, Target], Iterator[tuple[str, float]]]] = {
    MAIN: of_sheet, "vrrp": of_sheet, FAILOVER: of_sheet, API: of_report, "health": of_report, "data-plane": of_report,
}


def near(folder: Path, target: Target) -> str:
    """What the suite `limits` says."""
    file = folder / "limits.json"
    if not target.floor or not file.exists():
        return target.instead
    figures: Sequence[Figure] = msgspec.json.decode(file.read_bytes(), type=Report).figures
    figure = next((each for each in figures if each.what.startswith(target.floor)), None)
    if figure is None:
        return target.instead
    ours, floor = (number(statistics.median(values)) for values in (figure.ours, figure.theirs))
    return f"{ours} {figure.unit} beside {floor} {figure.unit} ({figure.what.partition('; floor: ')[2]})"


def page(found: Sequence[Line]) -> str:
    """Markdown."""
    rows = [HEADS, ("---", "--:", "--:", "---", "---", "---"), *(line.cells for line in found)]
    return "\n".join([
        "# What is promised", "", "Written by `script/bench targets` from the other files here, which say when and "
        "where they were measured.", "", *(f"| {' | '.join(cells)} |" for cells in rows), ""])


@click.command()
@click.option("--docs", type=click.Path(path_type=Path, file_okay=False), default=PAGES, show_default=True,
              help="Where the suites wrote; the page goes there, too.")
def main(docs: Path) -> None:
    """Every promise beside what the suites found when they ran last with --docs. Measures nothing itself."""
    told = list(lines(docs))
    drawn = Table(*HEADS, box=None)
    for line in told:
        drawn.add_row(*line.cells, style="bold red" if line.verdict == "no" else None)
    show(drawn)
    (docs / "targets.md").write_text(page(told))
    if missed := [line.target.what for line in told if line.verdict == "no"]:
        sys.exit(f"MISSED: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
