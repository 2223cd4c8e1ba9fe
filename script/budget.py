# SPDX-License-Identifier: Apache-2.0
"""Measures the code against its budget: how long bodies and files are, what is typed, what tests patch.

A body is the lines of a function without signature and docstring; migrations are left out, and so are
files that are tables, which may be as long as what they list.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TABLES = frozenset({"statera/store/tables.py", "statera/config.py"})
PATCHES = frozenset({"patch", "setattr"})
"""Of `mock.patch…`, `mocker.patch…` and `monkeypatch.setattr`."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Row(NamedTuple):
    """*found* may be at most *limit*."""

    name: str
    found: float
    limit: float
    worst: str = ""


def main() -> int:
    sources = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "statera").rglob("*.py"))
               if "versions" not in path.parts}
    tests = [ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("*.py")]
    rows = [*bodies(sources), *files(sources), *typing(sources), patching(tests)]
    for row in rows:
        mark = "over" if row.found > row.limit else "ok"
        print(f"{row.name:<28}{row.found:>8.2f}  at most {row.limit:<8g}{mark:<6}{row.worst}")
    return int(any(row.found > row.limit for row in rows))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def bodies(sources: dict[Path, ast.Module]) -> list[Row]:
    found = sorted((body_lines(function), f"{shown(path)}:{function.name}")
                   for path, tree in sources.items() for function in functions(tree))
    lengths = [length for length, _ in found]
    return [Row("body, median", median(lengths), 6), Row("body, 90 of 100", percentile_90(lengths), 25),
            Row("body, longest", lengths[-1], 60, found[-1][1])]


def files(sources: dict[Path, ast.Module]) -> list[Row]:
    found = sorted((len(path.read_text().splitlines()), shown(path))
                   for path in sources if shown(path) not in TABLES)
    lengths = [length for length, _ in found]
    return [Row("file, 90 of 100", percentile_90(lengths), 400), Row("file, longest", lengths[-1], 600, found[-1][1])]


def typing(sources: dict[Path, ast.Module]) -> list[Row]:
    bare = [f"{shown(path)}:{function.name}" for path, tree in sources.items() for function in functions(tree)
            if not is_typed(function)]
    return [Row("functions not fully typed", len(bare), 0, ", ".join(bare[:3]))]


def is_typed(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    own = [argument for argument in arguments if argument.arg not in ("self", "cls")]
    return function.returns is not None and all(argument.annotation for argument in own)


def patching(tests: list[ast.Module]) -> Row:
    count = sum(function.name.startswith("test_") for tree in tests for function in functions(tree))
    patches = sum(is_patch(node) for tree in tests for node in ast.walk(tree))
    return Row("patches per test", patches / max(count, 1), 0.05)


def is_patch(node: ast.AST) -> bool:
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PATCHES
            and isinstance(node.func.value, ast.Name) and node.func.value.id in ("mock", "mocker", "monkeypatch"))


def percentile_90(lengths: list[int]) -> float:
    return quantiles(lengths, n=10)[-1]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
