# SPDX-License-Identifier: Apache-2.0
"""`Idempotency-Key`: a creation that is asked for again, because the answer got lost, happens once."""

from collections.abc import Callable
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import falcon
import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from statera.api.acts import Service
from statera.api.identity import Identity
from statera.errors import ApiError, BadRequest
from statera.store import idempotency
from statera.store.idempotency import Kept

LONGEST = 255


class KeyReused(ApiError):
    """Argument: the key."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    text = "Idempotency-Key '{}' has been used for another request; take a new key for a new request."


class Once(Struct, frozen=True):
    """One creation by one caller; without a *key* it happens as often as it is asked for."""

    service: Service
    project_id: str
    key: str
    request_hash: str

    def answer(self, create: Callable[["Once"], bytes]) -> bytes:
        """What *create* answers, or has answered before. Raise `KeyReused`, and what *create* raises.

        *create* calls `keep` in the transaction that writes. Of two at once the slower one may fail in many
        ways; it is then answered what the faster one made.
        """
        earlier = self._earlier()
        if earlier is not None:
            return earlier
        try:
            return create(self)
        except ApiError:
            earlier = self._earlier()
            if earlier is None:
                raise
            return earlier

    def keep(self, connection: Connection, answer: bytes) -> None:
        if self.key:
            idempotency.keep(
                connection, self.project_id, self.key, Kept(self.request_hash, answer),
                seconds=self.service.settings.api_settings.idempotency_key_age)

    def _earlier(self) -> bytes | None:
        if not self.key:
            return None
        with self.service.store.read() as connection:
            kept = idempotency.recall(connection, self.project_id, self.key)
        if kept is None:
            return None
        if kept.request_hash != self.request_hash:
            raise KeyReused(self.key)
        return kept.answer


def once(service: Service, request: falcon.Request, identity: Identity, sent: dict[str, Any]) -> Once:
    """The creation that the request asks for. Raise for a key that is empty or too long."""
    key = request.get_header("Idempotency-Key")
    if key is not None and not 0 < len(key) <= LONGEST:
        raise BadRequest(f"Idempotency-Key must have 1 to {LONGEST} characters.")
    told = sha256(request.path.encode() + b"\n" + msgspec.json.encode(sent, order="deterministic")) if key else None
    return Once(service, identity.project_id or "", key or "", told.hexdigest() if told else "")
