# SPDX-License-Identifier: Apache-2.0
"""Answers are kept with what they tell of, as long as promised, and then no longer."""

from sqlalchemy import func, select, update

from statera.store.idempotency import Kept, keep, recall
from statera.store.sweep import purge_idempotency_keys
from statera.store.tables import idempotency_keys

LONG = Kept("hash", b'{"name": "' + "é🦄".encode() * 20_000 + b'"}')


def held(store):
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(idempotency_keys)).scalar_one()


def test_a_long_answer_comes_back_as_it_was(store):
    with store.write() as connection:
        keep(connection, "p", "k", LONG, seconds=60)
    with store.read() as connection:
        assert recall(connection, "p", "k") == LONG
        assert recall(connection, "other", "k") is None
        assert recall(connection, "p", "K") is None


def test_old_answers_are_not_recalled_make_room_and_are_purged(store):
    with store.write() as connection:
        for key in ("old", "older", "new"):
            keep(connection, "p", key, LONG, seconds=60)
        others = idempotency_keys.c.idempotency_key != "new"
        connection.execute(update(idempotency_keys).where(others).values(expires_ms=1))
    with store.write() as connection:
        assert recall(connection, "p", "old") is None
        keep(connection, "p", "old", Kept("other", b"{}"), seconds=60)
        assert purge_idempotency_keys(connection) == 1
    assert held(store) == 2
