# SPDX-License-Identifier: Apache-2.0
"""A secret that a tenant keeps with Statera, but for its content."""

from datetime import datetime

from msgspec import Struct


class Secret(Struct, frozen=True, kw_only=True):
    """*payload_content_type* says what its content is, as whoever uploaded it did."""

    id: str
    project_id: str
    name: str | None = None
    secret_type: str = "opaque"
    payload_content_type: str = "application/octet-stream"
    created_at: datetime
