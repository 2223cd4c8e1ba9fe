# SPDX-License-Identifier: Apache-2.0
"""The matrix of clients, docs/reference/clients.md: each client's test keeps its own part of it."""

import os
import re
from pathlib import Path

FILE = Path(__file__).parent.parent.parent / "docs" / "reference" / "clients.md"
WRITE = "STATERA_WRITE_PAGES"
"""Environment variable that has the page written anew."""
HEAD = """\
<!-- Written by the tests of tests/clients; see script/clients. -->

# Clients

What unmodified clients do with this API, found by running all of it: each against a real Keystone, `octavia-api` and
`octavia-worker`, with amphorae that only pretend.
"""


class Page:
    """One client's part: what was tried, and how it went."""

    def __init__(self, title: str) -> None:
        self._title, self._rows = title, dict[str, str]()

    def add(self, call: str, outcome: str) -> None:
        self._rows[call] = outcome

    def keep(self) -> None:
        """Fail if the page says something else, or write it where that is asked for."""
        if os.environ.get(WRITE):
            parts = parts_of(FILE.read_text()) if FILE.exists() else {}
            FILE.write_text(HEAD + "".join(text for _, text in sorted({**parts, self._title: self.text()}.items())))
        assert parts_of(FILE.read_text())[self._title] == self.text(), f"docs/reference/clients.md is old: set {WRITE}"

    def text(self) -> str:
        good = sum(outcome == "works" for outcome in self._rows.values())
        rows = "".join(f"| `{call}` | {outcome} |\n" for call, outcome in sorted(self._rows.items()))
        return f"\n## {self._title}\n\n{good} of {len(self._rows)} work.\n\n| call | outcome |\n| --- | --- |\n{rows}"


def parts_of(text: str) -> dict[str, str]:
    """The page's parts by their titles."""
    return {found[1]: found[0] for found in re.finditer(r"\n## (.*)\n(?:(?!\n## )[\s\S])*", text)}
