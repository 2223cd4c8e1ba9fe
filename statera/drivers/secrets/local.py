# SPDX-License-Identifier: Apache-2.0
"""Secrets that tenants upload to Statera itself; a reference is their address, of which only the id counts."""

import re
from typing import Protocol

from statera.drivers.protocols import Caller
from statera.model.secrets import Secret

REFERENCE = re.compile(r"(?:.*/)?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/?")


class Book(Protocol):
    """What the driver needs; `store.secrets.SecretBook` says what each call promises."""

    def find(self, id: str) -> Secret | None: ...
    def payload(self, id: str) -> bytes | None: ...


class LocalSecrets:
    """The `local` secret store. A secret is seen by its own project alone."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def fetch(self, ref: str, caller: Caller) -> bytes | None:
        match = REFERENCE.fullmatch(ref)
        secret = self.book.find(match[1].lower()) if match else None
        if secret is None or secret.project_id != (caller.project_id or ""):
            return None
        return self.book.payload(secret.id)
