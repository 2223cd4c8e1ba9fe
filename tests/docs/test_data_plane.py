# SPDX-License-Identifier: Apache-2.0
"""Every feature of the data plane is carried by a test with real traffic, and the page says by which."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_feature_has_a_test_and_the_page_names_it():
    done = subprocess.run([sys.executable, "script/data_plane.py", "--check"], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
