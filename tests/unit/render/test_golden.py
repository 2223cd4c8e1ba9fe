# SPDX-License-Identifier: Apache-2.0
"""What a spec renders to is reviewed as a file; `python tests/golden/write.py` writes them anew."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from certificates import Authority

from statera.render import tls
from statera.wire import Spec

PATH = Path(__file__).parents[2] / "golden" / "write.py"
SPEC = importlib.util.spec_from_file_location("golden", PATH)
golden = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(golden)


@pytest.mark.parametrize("case", golden.cases())
def test_a_spec_renders_to_its_golden_files(case):
    for path, text in golden.rendered(case):
        assert (path.read_text() if path.exists() else "") == text


@pytest.mark.parametrize("case", golden.network_cases())
def test_networks_render_to_their_golden_filter(case):
    for path, text in golden.isolated(case):
        assert path.read_text() == text


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
@pytest.mark.parametrize("case", golden.cases())
def test_haproxy_accepts_every_golden_file_without_a_warning(case, tmp_path):
    folder = shutil.copytree(golden.HERE / case, tmp_path / "case")
    file = folder / "haproxy.cfg"
    file.write_text(file.read_text().replace(f"{golden.MACHINE.run}/{tls.FOLDER}", f"{folder}/{tls.FOLDER}"))
    certify(folder)
    checked = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def certify(folder):
    """Put something into the files that the spec leaves empty."""
    authority = Authority()
    contents = {"certificate": authority.certificate_for("www.example.com").bundle, "authority": authority.pem,
                "revocations": authority.revocations()}
    for file in msgspec.json.decode((folder / "spec.json").read_bytes(), type=Spec).pem_files:
        (folder / tls.FOLDER / file.name).write_text(contents[file.kind])
