# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/data-plane.md, features and the tests that carry them; `--check` says what is amiss."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from features import SECTIONS, Feature

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "data-plane.md"
REAL = ("tests/amphora", "tests/standalone")
"""Where tests send real packets through real amphorae."""
GOLDEN = ROOT / "tests" / "golden"

HEAD = """<!-- Written by script/data_plane.py from script/features.py and the tests' marks; change those instead. -->

# The data plane

What load balancers can do, who does it and how: words of the files that a case of `tests/golden` is rendered to. The
tests send real traffic for it, through real amphorae; a feature without such a test fails the build.
"""


def main() -> int:
    carried = carriers()
    amiss = [*problems(carried)]
    text = page(carried)
    if "--check" in sys.argv[1:]:
        amiss += [] if PAGE.exists() and PAGE.read_text() == text else [
            "docs/reference/data-plane.md is out of date; run script/data_plane.py"]
    else:
        PAGE.write_text(text)
    print("\n".join(amiss))
    return int(bool(amiss))


def carriers() -> Mapping[str, list[str]]:
    """The tests by the features that they carry, each as file::name."""
    found = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for feature in marks(node):
                    found[feature].append(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def marks(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """What is said by `carries`, on the test itself or on one of its parameters."""
    for decorator in test.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.carries":
                yield from (ast.literal_eval(argument) for argument in node.args)


def problems(carried: Mapping[str, Sequence[str]]) -> Iterator[str]:
    features = [feature for section in SECTIONS.values() for feature in section]
    names = [feature.name for feature in features]
    yield from (f"there are two features {name!r}" for name in sorted({n for n in names if names.count(n) > 1}))
    yield from (f"no test carries {name!r}" for name in names if name not in carried)
    yield from (f"{tests[0]} carries {name!r}, which is no feature" for name, tests in carried.items()
                if name not in names)
    yield from (f"{test} sends no real traffic" for tests in carried.values() for test in tests
                if not test.startswith(REAL))
    yield from (f"golden case {one.golden} shows nothing of {one.shows!r}" for one in features
                if one.golden and one.shows not in golden(one.golden))


@cache
def golden(case: str) -> str:
    """All that the case is rendered to."""
    files = (path for path in (GOLDEN / case).rglob("*") if path.is_file() and path.name != "spec.json")
    return "".join(path.read_text() for path in files)


def page(carried: Mapping[str, Sequence[str]]) -> str:
    count = len({test for tests in carried.values() for test in tests})
    total = sum(map(len, SECTIONS.values()))
    body = "".join(section(title, features, carried) for title, features in SECTIONS.items())
    return f"{HEAD}\n{total} features, {count} tests.\n{body}"


def section(title: str, features: Sequence[Feature], carried: Mapping[str, Sequence[str]]) -> str:
    rows = "".join(row(feature, carried.get(feature.name, ())) for feature in features)
    return f"\n## {title}\n\n| feature | done by | how | golden case | tests |\n| --- | --- | --- | --- | --- |\n{rows}"


def row(feature: Feature, tests: Sequence[str]) -> str:
    golden = f"[{feature.golden}](../../tests/golden/{feature.golden})" if feature.golden else ""
    how = f"`{feature.shows}`".replace("|", "\\|") if golden else feature.shows
    cells = (feature.name, feature.by, how, golden, "<br>".join(map(test_link, tests)) or "**none**")
    return f"| {' | '.join(cells)} |\n"


def test_link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{Path(path).stem.removeprefix('test_')}](../../{path}): {name.removeprefix('test_').replace('_', ' ')}"


if __name__ == "__main__":
    sys.exit(main())
