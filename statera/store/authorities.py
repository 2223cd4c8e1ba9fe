# SPDX-License-Identifier: Apache-2.0
"""The certificate authorities of this installation: any process reads whom to trust, those with the master key sign.

The key of an authority is kept sealed, and dropped when it is withdrawn. The row stays, so that a copy of
it that turns up again is not trusted a second time.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from statera.errors import SetupError
from statera.model.authorities import Authority, Holder, Sign, Step, Wait, Withdraw, next_step, signer
from statera.store.clock import now_ms
from statera.store.events import utc_now
from statera.store.tables import authorities, managers, nodes

COLUMNS = tuple(Authority.__struct_fields__)


def trusted(connection: Connection) -> list[Authority]:
    """All that count; who signs comes first."""
    statement = select(*(authorities.c[name] for name in COLUMNS)).where(authorities.c.retired_at.is_(None))
    found = [Authority(**row) for row in connection.execute(statement.order_by(authorities.c.generation)).mappings()]
    first = signer(found)
    return sorted(found, key=lambda each: each is not first)


def roots(connection: Connection) -> str:
    """The certificates of all authorities that are to be trusted, PEM, that of who signs first."""
    return "".join(each.certificate for each in trusted(connection))


def fingerprint(connection: Connection) -> str:
    """SHA-256 of who signs, hexadecimal: what a joining node is told to expect. Raise `SetupError` for none."""
    found = signer(trusted(connection))
    if found is None:
        raise SetupError("there is no certificate authority yet; start a health manager, which makes one")
    return found.id


def sealed_key(connection: Connection, id: str) -> str | None:
    """The authority's private key, sealed; None once it is withdrawn."""
    return connection.execute(select(authorities.c.sealed).where(authorities.c.id == id)).scalar_one_or_none()


def is_known(connection: Connection, id: str) -> bool:
    """Whether the authority was ever there."""
    return connection.execute(select(authorities.c.id).where(authorities.c.id == id)).scalar_one_or_none() is not None


def newest(connection: Connection) -> int:
    """The generation of the authority that was added last, 0 before the first."""
    return int(connection.execute(select(func.max(authorities.c.generation))).scalar_one() or 0)


def add(connection: Connection, id: str, *, certificate: str, sealed: str, after: int) -> None:
    """Have an authority trusted; the very first signs at once.

    Whoever looked before deciding gives what was the `newest` before it looked: of two that add one at the same time
    the later one gets an `IntegrityError`.
    """
    connection.execute(insert(authorities).values(
        id=id, generation=after + 1, certificate=certificate, sealed=sealed, created_at=utc_now(),
        signs_since=None if after else utc_now()))


def advance(connection: Connection) -> Step | None:
    """Take the next step of an exchange of authorities, and say which it was; None when there is none to take.

    Repeating is safe. To wait is a step too, which nothing is done for here.
    """
    step = next_step(trusted(connection), list(holders(connection)), utc_now())
    match step:
        case Sign(id):
            _set(connection, id, signs_since=utc_now())
        case Withdraw(id):
            _set(connection, id, retired_at=utc_now(), sealed=None)
        case Wait() | None:
            pass
    return step


def holders(connection: Connection) -> Iterator[Holder]:
    """Everybody who shows a certificate that is still good."""
    node = nodes.c
    good = select(node.name, node.issuer, node.trusts).where(node.certificate_expires_at > utc_now())
    for row in connection.execute(good.order_by(node.name)):
        yield Holder(name=f"node {row.name}", kind="node", issuer=row.issuer, trusts=frozenset(row.trusts or ()))
    alive = select(managers.c.host, managers.c.issuer).where(managers.c.alive_until_ms > now_ms())
    for host, issuer in connection.execute(alive.order_by(managers.c.host)):
        yield Holder(name=f"health manager on {host}", kind="health manager", issuer=issuer)


def shown_by(connection: Connection, manager_id: str) -> str | None:
    """Who signed what the health manager shows, as written down."""
    return connection.execute(select(managers.c.issuer).where(managers.c.id == manager_id)).scalar_one_or_none()


def shows(connection: Connection, manager_id: str, issuer: str) -> None:
    """Note who signed the certificate that the health manager shows."""
    connection.execute(update(managers).where(managers.c.id == manager_id).values(issuer=issuer))


def _set(connection: Connection, id: str, **values: datetime | str | None) -> None:
    connection.execute(update(authorities).where(authorities.c.id == id).values(**values))
