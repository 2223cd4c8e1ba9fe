# SPDX-License-Identifier: Apache-2.0
"""One request passed on with the caller's own token, and its answer in a form that Neutron's clients read too."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

SENT = ("Content-Type", "Accept", "X-Auth-Token", "X-Openstack-Request-Id", "Idempotency-Key", "User-Agent")
"""What the load-balancing API is told of the caller's headers; Neutron's own stay with Neutron."""
TOLD = ("Content-Type", "Retry-After", "X-Openstack-Request-Id", "Allow")
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Forward(Protocol):
    """Passes a request on. Never raises: what cannot be reached is 503."""

    def __call__(
        self, verb: str, path: str, *, query: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer: ...


@dataclass(frozen=True)
class Forwarding:
    """To the API at *base_url*. *service_token* proves who passes on, so that tokens may run out on the way."""

    base_url: str
    service_token: Callable[[], str | None] = lambda: None

    def __call__(self, verb: str, path: str, *, query: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        url = f"{self.base_url.rstrip('/')}{path}{f'?{query}' if query else ''}"
        given = {name.lower(): value for name, value in headers.items()}
        sent = {name: given[name.lower()] for name in SENT if given.get(name.lower())}
        token = self.service_token()
        request = Request(url, data=body or None, method=verb, headers={
            **sent, **({"X-Service-Token": token} if token else {})})
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return Answer(answer.status, answer.read(), _told(answer.headers))
        except HTTPError as refusal:
            return Answer(refusal.code, explained(refusal.read()), _told(refusal.headers))
        except (URLError, OSError) as error:
            return Answer(503, _fault(f"The load-balancing service cannot be reached: {error}"),
                          {"Content-Type": "application/json"})


def explained(body: bytes) -> bytes:
    """A refusal that both kinds of clients understand: in the API's own form, and in Neutron's."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        return body
    words = document.get("faultstring") or document.get("description") if isinstance(document, dict) else None
    return json.dumps({**document, **neutron_error(str(words))}).encode() if words else body


def neutron_error(words: str) -> dict[str, Any]:
    return {"NeutronError": {"type": "LoadBalancing", "message": words, "detail": ""}}


def _fault(words: str) -> bytes:
    return json.dumps({"faultcode": "Server", "faultstring": words, "debuginfo": None, **neutron_error(words)}).encode()


def _told(headers: Message) -> dict[str, str]:
    return {name: headers[name] for name in TOLD if headers.get(name)}
