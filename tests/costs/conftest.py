# SPDX-License-Identifier: Apache-2.0
"""The table of what things cost, `costs.toml`, and the comparison with it."""

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from compat.conftest import empty_database, world, worlds  # noqa: F401  fixtures are taken by name

TABLE = Path(__file__).with_name("costs.toml")
WRITE = "STATERA_COSTS"
HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# What things cost, counted by tests/costs: a change is reviewed here. Each number has to be met exactly, but for
# those under [calls], which depend on Python's version a little and may be less.
# `STATERA_COSTS=write script/test tests/costs` writes what was found.
"""


@pytest.fixture
def costs() -> Callable[..., None]:
    return compare


def compare(section: str, found: Mapping[str, int], *, slack: float = 0.0) -> None:
    """Fail where what was *found* is not what the table says; with *slack*, where it is that share more."""
    table = tomllib.loads(TABLE.read_text())
    if os.environ.get(WRITE) == "write":
        TABLE.write_text(written({**table, section: dict(found)}))
        return
    known = table.get(section, {})
    rise = [f"{name}: {count}, was {known.get(name, 'unknown')}" for name, count in found.items()
            if not known.get(name, 0) * (1 - bool(slack)) <= count <= known.get(name, 0) * (1 + slack)]
    gone = sorted(known.keys() - found.keys())
    assert not rise, "\n".join([
        f"[{section}] costs other than tests/costs/costs.toml says:", *rise,
        f"Less is welcome, more needs a reason; {WRITE}=write script/test tests/costs writes it down."])
    assert not gone, f"nobody counts {gone} of [{section}] any more"


def written(table: Mapping[str, Mapping[str, int]]) -> str:
    sections = [
        "\n".join([f"\n[{section}]", *(f'"{name}" = {count}' for name, count in costs.items())])
        for section, costs in sorted(table.items())]
    return "\n".join([HEAD.rstrip(), *sections, ""])
