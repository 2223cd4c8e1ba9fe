# SPDX-License-Identifier: Apache-2.0
"""The peer from the package registry: Octavia in a virtual environment of its own, none of it in ours."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

RELEASE = "octavia==19.0.0"
"""The newest that runs on Python 3.11."""

PACKAGES = (RELEASE, "PyMySQL", "psycopg[binary]", "granian>=2.7", "setuptools<81")
PLACE = Path(os.environ.get("STATERA_PEERS", Path.home() / ".cache/statera-peers"))


def programs() -> Path:
    """The folder of the peer's commands; installed at the first call, which takes a minute or two.

    Raise `subprocess.CalledProcessError` when the registry does not have it.
    """
    place = PLACE / RELEASE.replace("==", "-")
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin/pip"), "install", "-qqq", *PACKAGES], check=True)
        (place / "complete").touch()
    return place / "bin"
