# SPDX-License-Identifier: Apache-2.0
"""The check that a database has the schema that this program needs; `upgrade` beside it brings it there.

Every service makes the check when it starts, so it does without Alembic: revisions are the numbers that the
files begin with.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from statera.errors import SetupError
from statera.store.engine import Store

LOG = logging.getLogger(__name__)

UPGRADE = "run octavia-db-manage upgrade head"
AGAIN_SECONDS = 1.0
REVISIONS = tuple(sorted(path.name.split("_")[0] for path in Path(__file__).parent.glob("versions/[0-9]*.py")))


class Away(SetupError):
    """The database cannot be reached."""


def await_schema(store: Store, wait: Callable[[float], object]) -> None:
    """Return when the database has this program's schema; a server that is not there yet is waited for.

    *wait* sleeps for so many seconds; what it returns says, if true, to wait no more. Raise `SetupError`.
    """
    told = False
    while True:
        try:
            require_schema(store)
        except Away as error:
            if store.backend == "sqlite":
                raise
            if not told:
                LOG.warning("%s; it is tried again every second", error)
            told = True
        else:
            return
        if wait(AGAIN_SECONDS):
            return


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
        raise Away(f"cannot open the database {store.engine.url!r}: {error.orig}") from error
