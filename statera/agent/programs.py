# SPDX-License-Identifier: Apache-2.0
"""Where this host has the programs that others wrote."""

import os
import shutil
from pathlib import Path

from statera.errors import GiveUp

PACKAGES = {"nft": "nftables", "nsenter": "util-linux", "ovs-vsctl": "openvswitch-switch", "setsid": "util-linux"}
"""Debian's packages of programs that are not named like them."""


def program(name: str) -> str:
    """The program's path; raise `GiveUp` with the line that installs it when it is not there."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        package = PACKAGES.get(Path(name).name, Path(name).name)
        raise GiveUp("PROGRAM_MISSING", f"{name} is not on this host; install it: apt-get install {package}")
    return found
