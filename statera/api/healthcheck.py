# SPDX-License-Identifier: Apache-2.0
"""Whether this process can serve: for load balancers in front of it."""

import time

import falcon
import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from statera.api.acts import Service

DOWN = "The Octavia database is unavailable."
TYPES = ("text/plain", "application/json", "text/html")


class HealthCheck:
    """GET and HEAD /healthcheck; the result is kept for a few seconds."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._checked_at, self._healthy = float("-inf"), False

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        healthy, wanted = self.healthy(), preferred(request.accept)
        response.status = (200 if healthy else 503) if wanted else 406
        response.content_type = wanted or "text/plain"
        response.text = render("OK" if healthy else DOWN, wanted)

    def on_head(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.status = 204 if self.healthy() else 503

    def healthy(self) -> bool:
        """Whether the database answers."""
        if time.monotonic() - self._checked_at > self.service.settings.api_settings.healthcheck_refresh_interval:
            self._healthy, self._checked_at = self._look(), time.monotonic()
        return self._healthy

    def _look(self) -> bool:
        try:
            with self.service.store.read() as connection:
                connection.execute(select(1))
        except SQLAlchemyError:
            return False
        return True


def preferred(accept: str) -> str | None:
    if not accept or accept == "*/*":
        return TYPES[0]
    return falcon.mediatypes.best_match(TYPES, accept) or None


def render(reason: str, media_type: str | None) -> str:
    if media_type == "application/json":
        return msgspec.json.encode({"detailed": False, "reasons": [reason]}).decode()
    if media_type == "text/html":
        return f"<!DOCTYPE html><html><head><title>Healthcheck Status</title></head><body><p>{reason}</p></body></html>"
    return reason


