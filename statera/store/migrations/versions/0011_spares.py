# SPDX-License-Identifier: Apache-2.0
"""Spare amphorae: where machines run, and whose turn it is to look after them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT: dict[str, Any] = {f"{name}_{option}": value for name in ("mysql", "mariadb")
        for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))}


def upgrade() -> None:
    op.add_column("amphorae", sa.Column("host_id", sa.String(length=64), nullable=True))
    op.create_table(
        "turns",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_turns"),
        **TEXT,
    )
