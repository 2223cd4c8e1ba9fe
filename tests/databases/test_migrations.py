# SPDX-License-Identifier: Apache-2.0
"""The migrations lead to the schema of `store.tables`, on every database."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from statera.errors import SetupError
from statera.store.engine import Store
from statera.store.migrations import REVISIONS, require_schema
from statera.store.migrations.upgrade import alembic_config, upgrade
from statera.store.tables import metadata


def test_the_migrations_and_the_tables_agree(new_store):
    with new_store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_revisions_are_known_without_alembic():
    script = ScriptDirectory.from_config(alembic_config())
    assert [revision.revision for revision in script.walk_revisions()] == list(reversed(REVISIONS))


def test_upgrading_twice_changes_nothing(new_store):
    upgrade(new_store)
    require_schema(new_store)


def test_an_empty_database_is_refused_with_the_command_that_helps(database_url):
    store = Store(database_url)
    with pytest.raises(SetupError, match="no schema yet: run octavia-db-manage upgrade head"):
        require_schema(store)
    store.close()


def test_a_database_of_a_newer_release_is_refused(new_store):
    with new_store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SetupError, match="schema 9999 is newer than this program's"):
        require_schema(new_store)


def test_networks_that_are_there_get_numbers_of_their_own(database_url):
    store = Store(database_url)
    upgrade(store, "0005")
    row = ("INSERT INTO networks (id, project_id, name, description, bridge, existing_bridge, shared, mtu, created_at) "
           "VALUES (:id, 'p', 'n', '', :id, :existing, :shared, 1500, '2026-01-01 00:00:00')")
    with store.write() as connection:
        for id, existing in (("a", False), ("b", True), ("c", False)):
            connection.execute(text(row), {"id": id, "existing": existing, "shared": False})
    upgrade(store)
    with store.read() as connection:
        found = connection.execute(text("SELECT id, vni FROM networks ORDER BY id")).all()
    assert [tuple(one) for one in found] == [("a", 4096), ("b", None), ("c", 4097)]
    store.close()
