# SPDX-License-Identifier: Apache-2.0
"""Machines that another Octavia made: stopped when ours have taken over, started again on the way back."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from statera.drivers.cloud import Service
from statera.errors import GiveUp, TryAgain

POLL_SECONDS = 1.0
SECONDS = 180
"""Longer than Nova waits for a guest that does not want to stop."""

wait = threading.Event().wait


class Machines(Protocol):
    """What moving load balancers needs of them. Repeating is always safe."""

    def stop(self, compute_id: str) -> None:
        """Return when the machine does not run; one that is no more is success. Raise `DriverError`."""

    def start(self, compute_id: str) -> None:
        """Return when the machine runs. Raise `GiveUp` for one that is no more, or another `DriverError`."""


class LeftAlone:
    """For those who stop and start the machines themselves, or have none."""

    def stop(self, compute_id: str) -> None:
        """Somebody else's task."""

    def start(self, compute_id: str) -> None:
        """Somebody else's task."""


class NovaMachines:
    """Servers of Nova, found by id, as the service user that made them."""

    def __init__(self, nova: Service, *, pause: Callable[[float], object] = wait) -> None:
        self._nova, self._pause = nova, pause

    def stop(self, compute_id: str) -> None:
        self._bring(compute_id, action="os-stop", to="SHUTOFF")

    def start(self, compute_id: str) -> None:
        if not self._bring(compute_id, action="os-start", to="ACTIVE"):
            raise GiveUp("machine_gone", f"server {compute_id} is no more, so nothing can go back to it")

    def _bring(self, compute_id: str, *, action: str, to: str) -> bool:
        """False when there is no such server. Only a server that is not there yet is asked, and once."""
        end, asked = time.monotonic() + SECONDS, False
        while time.monotonic() < end:
            found = self._nova.find(f"/servers/{compute_id}")
            if found is None:
                return False
            if found["server"]["status"] == to:
                return True
            if not asked:
                self._nova.reply("POST", f"/servers/{compute_id}/action", json={action: None})
                asked = True
            self._pause(POLL_SECONDS)
        raise TryAgain("machine_stays", f"server {compute_id} is not {to} {SECONDS} s after {action}")
