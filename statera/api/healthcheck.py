# SPDX-License-Identifier: Apache-2.0
"""Whether this process can serve: for load balancers in front of it."""

import gc
import html
import platform
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

import falcon
import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from statera.api.acts import Service
from statera.store import measures

DOWN = "The Octavia database is unavailable."
UNKNOWN = "unknown"
OF = {"authority": "an authority", "node": "a node", "load balancer": "a load balancer"}
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
        reason = "OK" if healthy else DOWN
        detailed = self.service.settings.healthcheck.detailed
        response.text = (render_details(details(reason, self.expiry()), wanted) if detailed else render(reason, wanted))

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

    def expiry(self) -> str:
        """When the first certificates run out, in words."""
        try:
            with self.service.store.read() as connection:
                found = [(labels[0], days) for name, labels, days in measures.certificates(connection) if labels]
        except SQLAlchemyError:
            return UNKNOWN
        sentences = [f"the first certificate of {OF[of]} runs out in {days:.1f} days" for of, days in found]
        return "; ".join(sentences) or "none"


def preferred(accept: str) -> str | None:
    if not accept or accept == "*/*":
        return TYPES[0]
    return falcon.mediatypes.best_match(TYPES, accept) or None


def render(reason: str, media_type: str | None) -> str:
    if media_type == "application/json":
        return msgspec.json.encode({"detailed": False, "reasons": [reason]}).decode()
    return page(reason) if media_type == "text/html" else reason


def render_details(known: dict[str, Any], media_type: str | None) -> str:
    """Plain text gains nothing by details."""
    reason: str = known["reasons"][0]["reason"]
    if media_type == "application/json":
        return msgspec.json.encode(known).decode()
    if media_type == "text/html":
        expiry = html.escape(known["reasons"][1]["details"])
        return page(reason, f"<p>Certificates: {expiry}</p><h2>Garbage collector</h2><pre>{known['gc']}</pre>"
                            f"<h2>Threads</h2><pre>{html.escape(''.join(known['threads']))}</pre>")
    return reason


def page(reason: str, more: str = "") -> str:
    return ("<!DOCTYPE html><html><head><title>Healthcheck Status</title></head>"
            f"<body><p>{html.escape(reason)}</p>{more}</body></html>")


def details(reason: str, expiry: str) -> dict[str, Any]:
    """What a developer wants to know about a process that misbehaves."""
    return {
        "detailed": True, "python_version": sys.version, "now": str(datetime.now(UTC)), "platform": platform.platform(),
        "gc": {"counts": gc.get_count(), "threshold": gc.get_threshold()},
        "reasons": [{"reason": reason, "details": "", "class": "DatabaseCheck"},
                    {"reason": "Certificates", "details": expiry, "class": "CertificateCheck"}],
        "greenthreads": [],
        "threads": ["".join(traceback.format_stack(frame)) for frame in sys._current_frames().values()],
    }
