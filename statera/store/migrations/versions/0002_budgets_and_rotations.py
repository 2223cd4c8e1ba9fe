# SPDX-License-Identifier: Apache-2.0
"""The budget of replacements, rotations, and what amphorae were built with and run."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
TEXT: dict[str, Any] = {f"{name}_{option}": value for name in ("mysql", "mariadb")
                        for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))}


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("spent_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_budgets"),
        **TEXT,
    )
    op.create_table(
        "rotations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("load_balancer_id", sa.String(length=36), nullable=True),
        sa.Column("node_id", sa.String(length=36), nullable=True),
        sa.Column("max_unavailable", sa.Integer(), nullable=False),
        sa.Column("hours", sa.String(length=16), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rotations"),
        **TEXT,
    )
    op.add_column("amphorae", sa.Column("built", sa.JSON(), nullable=True))
    op.add_column("amphorae", sa.Column("haproxy_version", sa.String(length=64), nullable=True))
    op.add_column("amphorae", sa.Column("renewal", sa.Integer(), nullable=False, server_default="0"))
