# SPDX-License-Identifier: Apache-2.0
"""Keeps the rules in the kernel that separate the networks of this host's tenants."""

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from statera.agent import process
from statera.agent.netfilter import Netfilter
from statera.agent.programs import program
from statera.errors import DriverError
from statera.render import isolation
from statera.wire import LocalNetwork


def table(state: Path) -> str:
    """Each agent of a host has one of its own."""
    return f"statera_{hashlib.sha256(str(state.absolute()).encode()).hexdigest()[:8]}"


async def ensure(networks: Iterable[LocalNetwork], state: Path, *, serves: bool) -> None:
    """Have the rules for these networks in the kernel; repeating is harmless. Raise `TryAgain`."""
    text = isolation.render(networks, table(state), serves=serves)
    await process.run(["nft", "-f", "-"], stdin=text.encode())


def stands(networks: Iterable[LocalNetwork], state: Path) -> bool:
    """Whether the rules are there that these networks need: somebody may have flushed them."""
    return all(network.existing for network in networks) or _is_there(state)


def _is_there(state: Path) -> bool:
    netfilter = Netfilter()
    try:
        return isolation.GUARD in netfilter.counters(table(state))
    finally:
        netfilter.close()


def remove(state: Path) -> bool:
    """Leave no rules behind; whether there were any."""
    try:
        was_there = _is_there(state)
        subprocess.run([program("nft"), "-f", "-"], input=isolation.clear(table(state)).encode(), check=True,
                       capture_output=True)
    except (DriverError, OSError, subprocess.CalledProcessError):
        return False
    return was_there
