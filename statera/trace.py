# SPDX-License-Identifier: Apache-2.0
"""Which request is being worked on, so that each line of each log can name it: from the API to the agent."""

import logging
from contextvars import ContextVar
from typing import Any

_request: ContextVar[str | None] = ContextVar("request_id", default=None)


def follow(request_id: str | None) -> None:
    """What this thread or task logs from now on belongs to the request; None for no request."""
    _request.set(request_id)


def install() -> None:
    """Have every log record say to which request it belongs, as oslo.log expects it."""
    make = logging.getLogRecordFactory()

    def made(*args: Any, **more: Any) -> logging.LogRecord:
        record = make(*args, **more)
        if request_id := _request.get():
            record.context = {"request_id": request_id}
        return record

    logging.setLogRecordFactory(made)
