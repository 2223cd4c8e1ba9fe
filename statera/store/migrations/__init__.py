# SPDX-License-Identifier: Apache-2.0
"""The check that a database has the schema that this program needs; `upgrade` beside it brings it there.

Every service makes the check when it starts, so it does without Alembic: revisions are the numbers that the
files begin with.
"""

from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from statera.errors import SetupError
from statera.store.engine import Store

UPGRADE = "run octavia-db-manage upgrade head"
REVISIONS = tuple(sorted(path.name.split("_")[0] for path in Path(__file__).parent.glob("versions/[0-9]*.py")))


def require_schema(store: Store) -> None:
    """Return if the database has this program's schema.

    Raise `SetupError` that says what to do when it has none, an older or a newer one.
    """
    head, found = REVISIONS[-1], current(store)
    if found == head:
        return
    if found is None:
        raise SetupError(f"the database {store.engine.url!r} has no schema yet: {UPGRADE}")
    if found in REVISIONS:
        raise SetupError(f"the database's schema {found} is older than this program's {head}: {UPGRADE}")
    raise SetupError(
        f"the database's schema {found} is newer than this program's {head}: install the newer release here as well"
    )


def current(store: Store) -> str | None:
    """The revision that the database is at, None for an empty one. Raise `SetupError` if there is no database."""
    try:
        with store.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except OperationalError as error:
        raise SetupError(f"cannot open the database {store.engine.url!r}: {error.orig}") from error
