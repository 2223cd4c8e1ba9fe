# SPDX-License-Identifier: Apache-2.0
"""What happens to a load balancer beside what is wanted and what is there: tries, failures, who watches."""

from datetime import datetime

from msgspec import Struct


class Happening(Struct, frozen=True, kw_only=True):
    """An event, as far as it explains anything."""

    at: datetime
    reason: str
    message: str
    attempt: int = 0


class Circumstances(Struct, frozen=True, kw_only=True):
    """*due_seconds* is when the next pass comes (past when negative), None when nobody asks for one.

    *managers* counts living health managers. *doubt* says why silent nodes are not taken for lost just now.
    The *latest* events come newest first.
    """

    provisioning_status: str = "ACTIVE"
    operating_status: str = "ONLINE"
    failure: str | None = None
    attempts: int = 0
    due_seconds: float | None = None
    is_held: bool = False
    managers: int = 1
    doubt: str | None = None
    latest: tuple[Happening, ...] = ()
