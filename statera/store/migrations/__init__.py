# SPDX-License-Identifier: Apache-2.0
"""The schema's history, and the check that a database has the schema that this program needs."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from statera.errors import SetupError
from statera.store.engine import Store

UPGRADE = "run octavia-db-manage upgrade head"


def alembic_config() -> Config:
    """Where the migrations are, whatever the working directory is."""
    config = Config(stdout=sys.stdout)
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def require_schema(store: Store) -> None:
    """Return if the database has this program's schema.

    Raise `SetupError` that says what to do when it has none, an older or a newer one.
    """
    script = ScriptDirectory.from_config(alembic_config())
    head, found = script.get_current_head(), current(store)
    if found == head:
        return
    if found is None:
        raise SetupError(f"the database {store.engine.url!r} has no schema yet: {UPGRADE}")
    if found in {revision.revision for revision in script.walk_revisions()}:
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


def upgrade(store: Store, revision: str = "head") -> None:
    """Bring the schema to *revision*; nothing happens when it is there already."""
    config = alembic_config()
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
