# SPDX-License-Identifier: Apache-2.0
"""What the API writes: each wish locks its load balancer, raises the version and stamps the rows it touches.

Plain functions on the connection of one write transaction; nothing remains when the transaction fails.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from statera.store import events, status, tables, wake
from statera.store.clock import now_ms
from statera.store.lists import CHUNK, listeners_of_pools

lb = tables.load_balancers.c


def hold(connection: Connection, load_balancer_id: str) -> dict[str, Any] | None:
    """Lock the load balancer until the end of the transaction; its row with `provisioning_status`.

    Deleted ones are given back too, as long as their row is kept.
    """
    shown = status.provisioning_status(tables.load_balancers).label("provisioning_status")
    statement = select(tables.load_balancers, shown).where(lb.id == load_balancer_id).with_for_update()
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def status_of(connection: Connection, load_balancer_id: str) -> str | None:
    """The provisioning status; None when the row is no more."""
    shown = status.provisioning_status(tables.load_balancers)
    return connection.execute(select(shown).where(lb.id == load_balancer_id)).scalar_one_or_none()


def touch(
    connection: Connection, load_balancer_id: str, *, infra: bool = False, request_id: str | None = None
) -> int:
    """Raise the version, make the load balancer pending and due, wake whoever waits; the new version.

    *request_id* is whose wish it is. *infra*: amphorae, VIP or the members' subnets may have to change, so a
    controller has to look.
    """
    new = lb.version + 1
    values: list[tuple[Any, Any]] = [
        (lb.wanted_version, new), (lb.due_ms, now_ms()), (lb.updated_at, events.utc_now()),
        (lb.request_id, request_id)]
    if infra:
        values.append((lb.infra_version, new))
    # MariaDB assigns from left to right: what is computed from the old version comes before the version.
    values.append((lb.version, new))
    connection.execute(update(tables.load_balancers).where(lb.id == load_balancer_id).ordered_values(*values))
    wake.announce(connection)
    version: int = connection.execute(select(lb.version).where(lb.id == load_balancer_id)).scalar_one()
    return version


def change_load_balancer(connection: Connection, load_balancer_id: str, **values: Any) -> None:
    """Set columns of the load balancer itself."""
    if values:
        connection.execute(update(tables.load_balancers).where(lb.id == load_balancer_id).values(**values))


def nudge(connection: Connection, load_balancer_id: str) -> None:
    """Let a controller look at the load balancer now, without any change."""
    connection.execute(update(tables.load_balancers).where(lb.id == load_balancer_id).values(due_ms=now_ms()))
    wake.announce(connection)


def repair(connection: Connection, load_balancer_id: str) -> None:
    """Wish that everybody tries again at once what failed; on nodes, too, as the version is another one."""
    change_load_balancer(connection, load_balancer_id, attempts=0)
    touch(connection, load_balancer_id, infra=True)
    events.record(connection, events.Event(
        load_balancer_id=load_balancer_id, reason="accepted", message="repair"))


def replace_amphora(connection: Connection, amphora_id: str) -> None:
    """Wish that another amphora takes this one's place."""
    amphora = tables.amphorae
    connection.execute(update(amphora).where(amphora.c.id == amphora_id).values(replace=True))


def add_load_balancer(connection: Connection, values: Mapping[str, Any]) -> None:
    """A new load balancer at version 1, due at once."""
    connection.execute(insert(tables.load_balancers).values(
        version=1, infra_version=1, created_version=1, wanted_version=1, due_ms=now_ms(),
        created_at=events.utc_now(), **values,
    ))
    wake.announce(connection)


def add_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, version: int) -> None:
    """New objects of a tree, pending since *version*; one statement."""
    stamp = {"created_version": version, "wanted_version": version, "deleting": False, "created_at": events.utc_now()}
    if rows:
        connection.execute(insert(table), [{**row, **stamp} for row in rows])


def change_rows(connection: Connection, table: Table, ids: Iterable[str], *, version: int, **values: Any) -> None:
    """Set columns of objects of a tree and make them pending since *version*."""
    found = list(ids)
    for start in range(0, len(found), CHUNK):
        connection.execute(
            update(table).where(table.c.id.in_(found[start:start + CHUNK]))
            .values(wanted_version=version, updated_at=events.utc_now(), **values)
        )


def change_each(
    connection: Connection, table: Table, changes: Mapping[str, Mapping[str, Any]], *, version: int
) -> None:
    """Set columns of objects of a tree, for each its own by id, and make them pending since *version*.

    One statement for all that get the same values; what is left is sent together where columns are the same.
    """
    twins = defaultdict[str, list[str]](list)
    for id, values in changes.items():
        twins[repr(sorted(values.items()))].append(id)
    for ids in twins.values():
        if len(ids) > 1:
            change_rows(connection, table, ids, version=version, **changes[ids[0]])
    _change_apart(connection, table, {ids[0]: changes[ids[0]] for ids in twins.values() if len(ids) == 1}, version)


def _change_apart(
    connection: Connection, table: Table, changes: Mapping[str, Mapping[str, Any]], version: int
) -> None:
    stamp = {"wanted_version": version, "updated_at": events.utc_now()}
    alike = defaultdict[tuple[str, ...], list[dict[str, Any]]](list)
    for id, values in changes.items():
        alike[tuple(sorted(values))].append({**values, **stamp, "its_id": id})
    for names, rows in alike.items():
        values = {name: bindparam(name, type_=table.c[name].type) for name in (*names, *stamp)}
        connection.execute(update(table).where(table.c.id == bindparam("its_id")).values(values), rows)


def remove_rows(connection: Connection, table: Table, ids: Iterable[str], *, version: int) -> None:
    """Wish objects of a tree away; `settle` removes the rows once no amphora runs them any more."""
    change_rows(connection, table, ids, version=version, deleting=True)


def set_tags(connection: Connection, names: Mapping[str, Sequence[str]]) -> None:
    """Make *names* the objects' tags, by id."""
    ids = list(names)
    for start in range(0, len(ids), CHUNK):
        connection.execute(delete(tables.tags).where(tables.tags.c.resource_id.in_(ids[start:start + CHUNK])))
    add_tags(connection, names)


def add_tags(connection: Connection, names: Mapping[str, Sequence[str]]) -> None:
    """Tags of objects that have none yet, by id."""
    rows = [{"resource_id": id, "tag": tag} for id, tags in names.items() for tag in tags]
    if rows:
        connection.execute(insert(tables.tags), rows)


def users_of_pool(connection: Connection, pool_id: str) -> list[str]:
    """The listeners that a change of the pool makes pending."""
    return [listener_id for _, listener_id in connection.execute(listeners_of_pools([pool_id]))]


def renumber(connection: Connection, positions: Mapping[str, int]) -> None:
    """Set the positions of policies; moving makes none of them pending."""
    policy = tables.l7policies
    for id, position in positions.items():
        connection.execute(update(policy).where(policy.c.id == id).values(position=position))


# Quotas.

COUNTED: Mapping[str, Table] = {
    "load_balancer": tables.load_balancers, "listener": tables.listeners, "pool": tables.pools,
    "member": tables.members, "health_monitor": tables.health_monitors, "l7policy": tables.l7policies,
    "l7rule": tables.l7rules,
}


def quota_limit(connection: Connection, project_id: str, kind: str, *, hold: bool = True) -> int | None:
    """The project's own limit, None when the configured default counts.

    *hold* locks the project's row, made when there is none, so that creations of one project take turns.
    """
    quota = tables.quotas
    statement = select(quota.c[kind]).where(quota.c.project_id == project_id)
    row = connection.execute(statement.with_for_update() if hold else statement).one_or_none()
    if row is None:
        if hold:
            connection.execute(insert(quota).values(project_id=project_id))
        return None
    limit: int | None = row[0]
    return limit


def quota_use(connection: Connection, project_id: str, kind: str) -> int:
    """How many objects of the kind the project has, those under way to their end included."""
    table = COUNTED[kind]
    statement = select(func.count()).select_from(table).where(table.c.project_id == project_id)
    if table is tables.load_balancers:
        statement = statement.where(lb.deleted_at.is_(None))
    return connection.execute(statement).scalar_one()


def set_quota(connection: Connection, project_id: str, limits: Mapping[str, int | None]) -> None:
    """Set limits of a project, None back to the default; makes its row when there is none."""
    quota = tables.quotas
    here = quota.c.project_id == project_id
    if connection.execute(select(quota.c.project_id).where(here)).first() is None:
        connection.execute(insert(quota).values(project_id=project_id))
    if limits:
        connection.execute(update(quota).where(here).values(**limits))
