# SPDX-License-Identifier: Apache-2.0
"""Drivers of other providers say for each object what is done."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TREE = ("listeners", "pools", "members", "health_monitors", "l7policies", "l7rules")


def upgrade() -> None:
    for table in TREE:
        op.add_column(table, sa.Column("answered_version", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("load_balancers", sa.Column("asked_ms", sa.BigInteger(), nullable=True))
