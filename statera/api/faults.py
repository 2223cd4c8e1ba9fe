# SPDX-License-Identifier: Apache-2.0
"""How a refusal looks: the fault of a matched route, and the plain one of everything around it."""

import logging
from http import HTTPStatus
from typing import Any

import falcon
import msgspec
from sqlalchemy.exc import DataError

from statera.errors import ApiError, BadRequest, DriverError, Unavailable

LOG = logging.getLogger(__name__)
RETRY_AFTER = "1"
"""Seconds after which what stood in the way may be over."""


class Plain(ApiError):
    """A refusal in the plain shape: {"code", "title", "description"}. Argument: the description."""

    status, text = HTTPStatus.BAD_REQUEST, "{}"
    title = "Bad Request"


class UnknownParent(Plain):
    """The path goes through an object that does not exist. Arguments: kind, id."""

    status, text = HTTPStatus.NOT_FOUND, "{} {} not found."


class NotAcceptable(Plain):
    status, text = HTTPStatus.NOT_ACCEPTABLE, "Only content type application/json is accepted."
    title = "Not Acceptable"


class NothingThere(Plain):
    status, text, title = HTTPStatus.NOT_FOUND, "", "Not Found"


class Retired(Plain):
    """Octavia's API v1 ended in 2019. Argument: the path's place in v2."""

    status, text = HTTPStatus.GONE, "Version 1 of this API is gone since 2019; the same is at {} now."
    title = "Gone"


class TooLarge(Plain):
    """Argument: the most bytes that a body may have."""

    status, text = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body of a request may have {} bytes."
    title = "Request Entity Too Large"


def missing(argument: str) -> BadRequest:
    return BadRequest(f'Missing argument: "{argument}"')


def unknown_argument(name: str) -> BadRequest:
    return BadRequest(f'Unknown argument: "{name}"')


def document(error: ApiError) -> dict[str, Any]:
    """The body that tells the caller about *error*."""
    if isinstance(error, Plain):
        return {"code": int(error.status), "title": error.title, "description": str(error)}
    side = "Server" if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Client"
    return {"faultcode": side, "faultstring": str(error), "debuginfo": None}


def refuse(_request: falcon.Request, response: falcon.Response, error: ApiError, _params: object) -> None:
    response.status = int(error.status)
    response.content_type = falcon.MEDIA_JSON
    if error.passes:
        response.set_header("Retry-After", RETRY_AFTER)
    response.data = msgspec.json.encode(document(error))


def break_down(request: falcon.Request, response: falcon.Response, error: Exception, params: object) -> None:
    """Something that nobody foresaw: the log gets all, the caller nothing but that it is our fault."""
    LOG.error("%s %s failed", request.method, request.path, exc_info=error)
    refuse(request, response, ApiError(), params)


def too_deep(request: falcon.Request, response: falcon.Response, _error: Exception, params: object) -> None:
    refuse(request, response, BadRequest("The request is nested too deeply."), params)


def not_now(request: falcon.Request, response: falcon.Response, error: DriverError, params: object) -> None:
    """The cloud could not be asked; its own words are the operator's and the caller's best help."""
    LOG.warning("%s %s: %s", request.method, request.path, error)
    refuse(request, response, Unavailable(f"{error} Please try again."), params)


def does_not_fit(request: falcon.Request, response: falcon.Response, error: Exception, params: object) -> None:
    """A value that passed all checks, but not the database's."""
    LOG.warning("%s %s holds a value that the database refuses: %s", request.method, request.path, error)
    refuse(request, response, BadRequest("The request holds a value that cannot be stored."), params)


def serialize(_request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Falcon's own refusals (no route, wrong verb) in the plain shape."""
    code = int(error.status.split()[0]) if isinstance(error.status, str) else int(error.status)
    response.content_type = falcon.MEDIA_JSON
    response.data = msgspec.json.encode(
        {"code": code, "title": HTTPStatus(code).phrase, "description": error.description}
    )


def install(app: Any) -> None:
    app.set_error_serializer(serialize)
    app.add_error_handler(Exception, break_down)
    app.add_error_handler(RecursionError, too_deep)
    app.add_error_handler((OverflowError, DataError), does_not_fit)
    app.add_error_handler(DriverError, not_now)
    app.add_error_handler(ApiError, refuse)
