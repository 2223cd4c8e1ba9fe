# SPDX-License-Identifier: Apache-2.0
"""Load balancers that failed are found by an index."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_load_balancers_failed_version", "load_balancers", ["failed_version"])
