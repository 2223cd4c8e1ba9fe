# SPDX-License-Identifier: Apache-2.0
"""Bring a database to a revision of the schema, by Alembic."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from statera.store.engine import Store


def alembic_config() -> Config:
    """Where the migrations are, whatever the working directory is."""
    config = Config(stdout=sys.stdout)
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(store: Store, revision: str = "head") -> None:
    """Bring the schema to *revision*; nothing happens when it is there already."""
    config = alembic_config()
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
