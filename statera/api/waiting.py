# SPDX-License-Identifier: Apache-2.0
"""`?wait=ACTIVE&timeout=30` on one load balancer: the answer comes when it is there, or when the time is over."""

import threading
import time
from collections.abc import Mapping

import falcon

from statera.api import requests
from statera.api.acts import Service
from statera.api.faults import RETRY_AFTER
from statera.api.handlers import Child, Item
from statera.api.identity import identify
from statera.errors import BadField
from statera.model.status import Provisioning
from statera.store import wishes

ENDS: Mapping[str, frozenset[str]] = {
    "ACTIVE": frozenset({Provisioning.ACTIVE, Provisioning.ERROR, Provisioning.DELETED}),
    "DELETED": frozenset({Provisioning.ERROR, Provisioning.DELETED}),
}
"""What one may wait for, and the states that end the wait."""

USUAL_SECONDS, LONGEST_SECONDS = 30.0, 60.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.25


class PatientItem(Item):
    """One load balancer. At most half of the threads wait; who comes then is answered at once, to ask again."""

    def __init__(self, service: Service, child: Child) -> None:
        super().__init__(service, child)
        self._seats = threading.BoundedSemaphore(max(1, service.settings.api_settings.threads // 2))
        self._pause = threading.Event()

    def on_get(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        query = dict(requests.query_of(request))
        if "wait" in query or "timeout" in query:
            ends, seconds = read_wait(query)
            self._locate(identify(request.env), "get_one", path)
            if not self._seats.acquire(blocking=False):
                response.set_header("Retry-After", RETRY_AFTER)
            else:
                try:
                    self._await(path[self._id], ends, seconds)
                finally:
                    self._seats.release()
        super().on_get(request, response, **path)

    def _await(self, id: str, ends: frozenset[str], seconds: float) -> None:
        until, pause = time.monotonic() + seconds, FIRST_PAUSE_SECONDS
        while self._status(id) not in ends and (left := until - time.monotonic()) > 0:
            self._pause.wait(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    def _status(self, id: str) -> str:
        with self.service.store.read() as connection:
            return wishes.status_of(connection, id) or Provisioning.DELETED


def read_wait(query: Mapping[str, str]) -> tuple[frozenset[str], float]:
    """The states that end the wait and how long it may last. Raise `BadField`."""
    word = query.get("wait", "")
    if word not in ENDS:
        raise BadField("wait", word, f"Value should be one of: {', '.join(ENDS)}")
    try:
        seconds = float(query.get("timeout", USUAL_SECONDS))
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise BadField("timeout", query["timeout"], "Value should be a number of seconds")
    return ENDS[word], min(seconds, LONGEST_SECONDS)
