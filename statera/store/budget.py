# SPDX-License-Identifier: Apache-2.0
"""How many amphorae are replaced at once and a minute, over all workers: one number in one row.

The number says how far ahead of the clock what was spent reaches. Each replacement moves it by a minute's
share, and nobody may move it who finds it a minute ahead: as many at once as a minute has, then evenly.
"""

from sqlalchemy import ColumnElement, Connection, case, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from statera.store.clock import now_ms
from statera.store.tables import budgets

REPLACEMENTS = "replacements"
MINUTE_MS = 60_000


def left(connection: Connection, *, per_minute: int) -> float:
    """The share of the budget that one more replacement would leave; 1 when nothing is spent or there is no limit."""
    ahead = connection.execute(
        select(budgets.c.spent_until_ms - now_ms()).where(budgets.c.name == REPLACEMENTS)).scalar_one_or_none() or 0
    return 1.0 if per_minute <= 0 or ahead <= 0 else 1.0 - (ahead + MINUTE_MS // per_minute) / MINUTE_MS


def spend(connection: Connection, *, per_minute: int, reserve: float) -> bool:
    """Take one replacement out of the budget; False, with nothing taken, when less than *reserve* would be left.

    *per_minute* 0 is no limit. Belongs into the transaction that does what it pays for.
    """
    if per_minute <= 0:
        return True
    each, now, spent = MINUTE_MS // per_minute, now_ms(), budgets.c.spent_until_ms
    taken = connection.execute(
        update(budgets)
        .where(budgets.c.name == REPLACEMENTS, or_(spent <= now, spent - now + each <= int(MINUTE_MS * (1 - reserve))))
        .values(spent_until_ms=case((spent > now, spent), else_=now) + each)).rowcount
    if not taken and connection.execute(select(budgets.c.name).where(budgets.c.name == REPLACEMENTS)).first() is None:
        return _begin(connection, now + each)
    return bool(taken)


def _begin(connection: Connection, spent_until_ms: ColumnElement[int]) -> bool:
    """Make the row; False when another worker does so at the same moment, whose row the next look finds."""
    try:
        with connection.begin_nested():
            connection.execute(insert(budgets).values(name=REPLACEMENTS, spent_until_ms=spent_until_ms))
    except IntegrityError:
        return False
    return True
