# SPDX-License-Identifier: Apache-2.0
"""What the database knows about how all is going, a few cheap statements for each service that is asked."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from cryptography import x509
from sqlalchemy import Connection, and_, case, func, literal, select

from statera.metrics import Sample
from statera.store import authorities
from statera.store.clock import now_ms
from statera.store.events import utc_now
from statera.store.seen import is_heard
from statera.store.status import provisioning_status
from statera.store.tables import amphorae, events, load_balancers, managers, metadata, nodes, sealed_secrets

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def queue(connection: Connection) -> Iterator[Sample]:
    """How much waits for passes, and how long."""
    lb, now = load_balancers.c, now_ms()
    waits = and_(lb.due_ms.is_not(None), lb.due_ms <= now, lb.lease_until_ms <= now, lb.deleted_at.is_(None))
    count, longest = connection.execute(
        select(func.count(), func.max(now - lb.due_ms)).select_from(load_balancers).where(waits)).one()
    held = select(func.count()).select_from(load_balancers).where(lb.lease_until_ms > now)
    yield "statera_due_load_balancers", (), count
    yield "statera_due_seconds", (), max(0, longest or 0) / 1000
    yield "statera_leases_held", (), connection.execute(held).scalar_one()


def fleet(connection: Connection) -> Iterator[Sample]:
    """How many nodes are in which state, and who vouches for them."""
    node = nodes.c
    state = case((node.lost_ms.is_not(None), literal("lost")), (is_heard(), literal("heard")),
                 (node.connected_at.is_(None), literal("never")), else_=literal("silent"))
    counts = connection.execute(select(state.label("state"), func.count()).group_by("state"))
    found = {str(name): int(count) for name, count in counts}
    for name in ("heard", "silent", "lost", "never"):
        yield "statera_nodes", (name,), found.get(name, 0)
    yield "statera_managers_alive", (), managers_alive(connection)


def managers_alive(connection: Connection) -> int:
    """How many health managers have lately said that they live."""
    alive = select(func.count()).select_from(managers).where(managers.c.alive_until_ms > now_ms())
    return int(connection.execute(alive).scalar_one())


def certificates(connection: Connection) -> Iterator[Sample]:
    """How many days the first certificate of each kind is still good; a kind without any is left out."""
    trusted = authorities.trusted(connection)
    yield "statera_authorities_trusted", (), len(trusted)
    ends = {
        "authority": min((_end(each.certificate) for each in trusted), default=None),
        "node": connection.execute(select(func.min(nodes.c.certificate_expires_at)).where(is_heard())).scalar_one(),
        "load balancer": connection.execute(select(func.min(sealed_secrets.c.expires_at))).scalar_one(),
    }
    for of, at in ends.items():
        if at is not None:
            yield "statera_certificate_days", (of,), (at - utc_now()) / DAY


def tenants(connection: Connection) -> Iterator[Sample]:
    """How many load balancers there are of each status, and what was said in the last hour."""
    word = provisioning_status(load_balancers).label("word")
    statement = select(word, func.count()).where(load_balancers.c.deleted_at.is_(None)).group_by(word)
    for status, count in connection.execute(statement):
        yield "statera_load_balancers", (status,), count
    recent = select(events.c.reason, func.count()).where(events.c.at > utc_now() - HOUR).group_by(events.c.reason)
    for reason, count in connection.execute(recent):
        yield "statera_events", (reason,), count


def rows(connection: Connection) -> Iterable[tuple[str, int]]:
    """Each table with its number of rows; reads all of them, so it is for people and not for every minute."""
    for table in metadata.sorted_tables:
        yield table.name, connection.execute(select(func.count()).select_from(table)).scalar_one()


def size(connection: Connection) -> int | None:
    """The bytes of the database; None where it does not say."""
    statement = SIZES.get(connection.dialect.name)
    return None if statement is None else int(connection.exec_driver_sql(statement).scalar_one() or 0)


SIZES = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
    "mysql": "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()",
}
SIZES["mariadb"] = SIZES["mysql"]


def gone(connection: Connection) -> dict[str, int]:
    """What only waits to be old enough to be removed."""
    return {
        table.name: connection.execute(
            select(func.count()).select_from(table).where(table.c.deleted_at.is_not(None))).scalar_one()
        for table in (load_balancers, amphorae)
    }


def _end(certificate: str) -> datetime:
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc.replace(tzinfo=None)
