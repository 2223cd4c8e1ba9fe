# SPDX-License-Identifier: Apache-2.0
"""Files and functions that documents name are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAMED = re.compile(r"`(statera/[\w/]+\.py)(?::(\w+))?`")


@pytest.mark.parametrize("document", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_what_a_document_names_is_there(document: Path) -> None:
    for file, name in NAMED.findall(document.read_text()):
        assert (ROOT / file).exists(), file
        defined = rf"^\s*(async )?(def|class) {name}\b"
        assert not name or re.search(defined, (ROOT / file).read_text(), re.M), (file, name)
