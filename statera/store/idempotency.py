# SPDX-License-Identifier: Apache-2.0
"""Answers of creations, kept for a while under the key that the caller chose, for a caller who lost one."""

from msgspec import Struct
from sqlalchemy import Connection, and_, delete, insert, select

from statera.store.clock import now_ms
from statera.store.tables import idempotency_keys

column = idempotency_keys.c


class Kept(Struct, frozen=True):
    """*request_hash* tells whether a key comes with the same request again."""

    request_hash: str
    answer: bytes


def recall(connection: Connection, project_id: str, key: str) -> Kept | None:
    """What was answered under the key; None when nothing was, or too long ago."""
    mine = and_(column.project_id == project_id, column.idempotency_key == key, column.expires_ms > now_ms())
    row = connection.execute(select(column.request_hash, column.answer).where(mine)).one_or_none()
    return None if row is None else Kept(row.request_hash, row.answer.encode())


def keep(connection: Connection, project_id: str, key: str, kept: Kept, *, seconds: int) -> None:
    """Keep the answer that the same transaction makes true; of two at once the database lets one pass."""
    connection.execute(delete(idempotency_keys).where(
        column.project_id == project_id, column.idempotency_key == key, column.expires_ms <= now_ms()))
    connection.execute(insert(idempotency_keys).values(
        project_id=project_id, idempotency_key=key, request_hash=kept.request_hash, answer=kept.answer.decode(),
        expires_ms=now_ms() + seconds * 1000))
