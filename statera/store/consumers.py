# SPDX-License-Identifier: Apache-2.0
"""Which secrets are to know that a load balancer uses them: each is written down before it is told.

So a listing that nobody needs any more is found, whenever the process died.
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, and_, delete, exists, insert, select, tuple_, update

from statera.store.tables import load_balancers, sealed_secrets, secret_consumers

listed, used = secret_consumers.c, sealed_secrets.c
Place = tuple[str, str]


class Use(Struct, frozen=True):
    """A load balancer and a reference that it uses, or has used."""

    load_balancer_id: str
    ref: str

    @property
    def place(self) -> Place:
        return self.load_balancer_id, self.ref


def unlisted(connection: Connection, after: Place, *, limit: int) -> list[Use]:
    """At most *limit* uses that the secret does not know of yet, in the order of their places, from behind *after*."""
    known = exists().where(listed.load_balancer_id == used.load_balancer_id, listed.ref == used.ref, listed.listed)
    place = (used.load_balancer_id, used.ref)
    statement = (
        select(*place).join(load_balancers, load_balancers.c.id == used.load_balancer_id)
        .where(~known, tuple_(*place) > after, ~load_balancers.c.deleting, load_balancers.c.deleted_at.is_(None)))
    return _uses(connection, statement.order_by(*place).limit(limit))


def outdated(connection: Connection, after: Place, *, limit: int) -> list[Use]:
    """The same of uses that are over, of which the secret was told."""
    still = exists().where(used.load_balancer_id == listed.load_balancer_id, used.ref == listed.ref)
    place = (listed.load_balancer_id, listed.ref)
    return _uses(connection, select(*place).where(~still, tuple_(*place) > after).order_by(*place).limit(limit))


def intend(connection: Connection, use: Use) -> None:
    """The secret is about to be told; repeating changes nothing."""
    if connection.execute(select(listed.ref).where(_one(use))).first() is None:
        connection.execute(insert(secret_consumers).values(
            load_balancer_id=use.load_balancer_id, ref=use.ref, listed=False))


def note(connection: Connection, use: Use) -> None:
    """The secret was told."""
    connection.execute(update(secret_consumers).where(_one(use)).values(listed=True))


def forget(connection: Connection, use: Use) -> None:
    """The secret was told that it is over."""
    connection.execute(delete(secret_consumers).where(_one(use)))


def _one(use: Use) -> ColumnElement[bool]:
    return and_(listed.load_balancer_id == use.load_balancer_id, listed.ref == use.ref)


def _uses(connection: Connection, statement: Select[Any]) -> list[Use]:
    return [Use(*row) for row in connection.execute(statement)]
