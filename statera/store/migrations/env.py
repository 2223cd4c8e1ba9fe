# SPDX-License-Identifier: Apache-2.0
"""How Alembic runs the migrations: on the connection it is given, or as SQL text for the given URL."""

from alembic import context

from statera.store.tables import metadata

connection = context.config.attributes.get("connection")
context.configure(
    connection=connection,
    url=None if connection is not None else context.config.attributes.get("url"),
    target_metadata=metadata,
    literal_binds=connection is None,
    render_as_batch=False,
)
with context.begin_transaction():
    context.run_migrations()
