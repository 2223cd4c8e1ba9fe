# SPDX-License-Identifier: Apache-2.0
"""When a backup was restored, what nodes carry that the database does not know, and whose request a wish was."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
TEXT: dict[str, Any] = {f"{name}_{option}": value for name in ("mysql", "mariadb")
                        for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))}


def upgrade() -> None:
    op.create_table(
        "restores",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("restored_at", MOMENT, nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("grace_until_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_restores"),
        **TEXT,
    )
    op.add_column("nodes", sa.Column("strays", sa.JSON))
    op.add_column("load_balancers", sa.Column("request_id", sa.String(64)))
    op.add_column("load_balancers", sa.Column("told_version", sa.BigInteger))
