# SPDX-License-Identifier: Apache-2.0
"""What a spec renders to is reviewed as a file; `python tests/golden/write.py` writes them anew."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "golden" / "write.py"
SPEC = importlib.util.spec_from_file_location("golden", PATH)
golden = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(golden)


@pytest.mark.parametrize("case", golden.cases())
def test_a_spec_renders_to_its_golden_files(case):
    for path, text in golden.rendered(case):
        assert (path.read_text() if path.exists() else "") == text


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
@pytest.mark.parametrize("case", golden.cases())
def test_haproxy_accepts_every_golden_file_without_a_warning(case):
    file = golden.HERE / case / "haproxy.cfg"
    checked = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
