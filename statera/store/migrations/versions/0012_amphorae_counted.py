# SPDX-License-Identifier: Apache-2.0
"""What each node carries is counted from an index alone."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_amphorae_node_id_deleted_at", "amphorae", ["node_id", "deleted_at"])
    op.drop_index("ix_amphorae_node_id", table_name="amphorae")
