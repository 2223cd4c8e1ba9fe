# SPDX-License-Identifier: Apache-2.0
"""The part of Barbican's v1 API that `openstack secret` needs to store, list, show and delete, as routes of Falcon.

There is no way to read a payload: what is uploaded leaves only towards amphorae.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from uuid import uuid4

import falcon
import msgspec
from msgspec import Meta, Struct

from statera.api.standalone.neutron import caller, writer
from statera.errors import BadRequest, NotFound
from statera.model import pem
from statera.model.secrets import Secret
from statera.store.secrets import SecretBook

PREFIXES = ("", "/v1", "/secrets/v1")
"""Where clients look: those that ask no catalogue leave the version out."""


MOST_CHARACTERS = 1_000_000


class NewSecret(Struct, frozen=True):
    """The body of a POST; what is not here is accepted and means nothing.

    *passphrase*, which Barbican does not have, opens a PKCS12 file or a key, once, now.
    """

    payload: Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS)]
    payload_content_type: str = "text/plain"
    payload_content_encoding: str | None = None
    passphrase: Annotated[str, Meta(min_length=1)] | None = None
    name: Annotated[str, Meta(max_length=255)] | None = None
    secret_type: Annotated[str, Meta(max_length=32)] = "opaque"


def mount(book: SecretBook) -> Callable[[falcon.App[Any, Any]], None]:
    """Adds the routes to an app, whose middleware has to authenticate the callers."""

    def add(app: falcon.App[Any, Any]) -> None:
        for prefix in PREFIXES:
            app.add_route(f"{prefix}/secrets", Secrets(book))
            app.add_route(f"{prefix}/secrets/{{id}}", One(book))

    return add


class Secrets:
    """All secrets of the caller's project."""

    def __init__(self, book: SecretBook) -> None:
        self.book = book

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        found = self.book.list(caller(req).project_id or "")
        offset, limit = req.get_param_as_int("offset", default=0), req.get_param_as_int("limit", default=10)
        secrets = [shown(req, secret, self.book) for secret in found[offset:offset + limit]]
        resp.media = {"secrets": secrets, "total": len(found)}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        who, new = writer(req), body_of(req)
        secret = Secret(
            id=str(uuid4()), project_id=who.project_id or "", name=new.name, secret_type=new.secret_type,
            payload_content_type=new.payload_content_type, created_at=datetime.now(UTC).replace(tzinfo=None))
        self.book.add(secret, payload_of(new))
        resp.status = HTTPStatus.CREATED
        resp.media = {"secret_ref": ref(req, secret)}


class One:
    """One secret, without its payload."""

    def __init__(self, book: SecretBook) -> None:
        self.book = book

    def on_get(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        resp.media = shown(req, own(self.book, id, req), self.book)

    def on_put(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        """Have it hold the body from now on; Barbican does this only for a secret that is still empty."""
        writer(req)
        secret = own(self.book, id, req)
        payload = req.bounded_stream.read(MOST_CHARACTERS + 1)
        if not 0 < len(payload) <= MOST_CHARACTERS:
            raise BadRequest(f"Invalid secret: its payload must have 1 to {MOST_CHARACTERS} bytes")
        if req.get_header("Content-Encoding") == "base64":
            payload = decoded(payload.decode(errors="replace"))
        now = datetime.now(UTC)
        old, new = (pem.read(each, now=now) for each in (self.book.payload(secret.id) or b"", payload))
        if fault := pem.renewal_fault(old, new):
            raise BadRequest(f"Invalid secret: it cannot take the place of what is kept: {fault}")
        self.book.replace(secret.id, payload)
        resp.status = HTTPStatus.NO_CONTENT

    def on_delete(self, req: falcon.Request, resp: falcon.Response, id: str) -> None:
        writer(req)
        self.book.remove(own(self.book, id, req).id)
        resp.status = HTTPStatus.NO_CONTENT


def own(book: SecretBook, id: str, req: falcon.Request) -> Secret:
    """The secret, if it is the caller's project's. Raise `NotFound`."""
    secret = book.find(id)
    if secret is None or secret.project_id != (caller(req).project_id or ""):
        raise NotFound("Secret", id)
    return secret


def body_of(req: falcon.Request) -> NewSecret:
    try:
        return msgspec.json.decode(req.bounded_stream.read(), type=NewSecret)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"Invalid secret: {error}") from None


def payload_of(new: NewSecret) -> bytes:
    """The content; what a passphrase opens is kept open, as PEM. Raise `BadRequest`."""
    if new.payload_content_encoding not in (None, "base64"):
        raise BadRequest("Invalid secret: payload_content_encoding must be base64")
    payload = decoded(new.payload) if new.payload_content_encoding else new.payload.encode()
    if new.passphrase is None:
        return payload
    material = pem.read(payload, new.passphrase.encode(), now=datetime.now(UTC))
    if material.problem or material.flaw:
        raise BadRequest(f"Invalid secret: it cannot be used: {material.problem or material.flaw}")
    return material.pem().encode()


def decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("Invalid secret: its payload is not base64") from None


def ref(req: falcon.Request, secret: Secret) -> str:
    return f"{req.prefix}/v1/secrets/{secret.id}"


def shown(req: falcon.Request, secret: Secret, book: SecretBook) -> dict[str, Any]:
    """As Barbican shows it; *expiration* is when the first of its certificates runs out."""
    expires_at = pem.read(book.payload(secret.id) or b"", now=datetime.now(UTC)).expires_at
    created = f"{secret.created_at:%Y-%m-%dT%H:%M:%S}"
    return {
        "secret_ref": ref(req, secret), "name": secret.name, "secret_type": secret.secret_type, "status": "ACTIVE",
        "content_types": {"default": secret.payload_content_type}, "created": created, "updated": created,
        "algorithm": None, "bit_length": None, "mode": None,
        "expiration": f"{expires_at:%Y-%m-%dT%H:%M:%S}" if expires_at else None, "creator_id": None,
    }
