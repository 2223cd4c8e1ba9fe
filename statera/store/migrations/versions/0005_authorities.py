# SPDX-License-Identifier: Apache-2.0
"""Certificate authorities are kept in the database, and who trusts and shows which."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
SEALED = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
TEXT: dict[str, Any] = {f"{name}_{option}": value for name in ("mysql", "mariadb")
        for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))}


def upgrade() -> None:
    op.create_table(
        "authorities",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("sealed", SEALED),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("signs_since", MOMENT),
        sa.Column("retired_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_authorities"),
        sa.UniqueConstraint("generation", name="uq_authorities_generation"),
        **TEXT,
    )
    op.add_column("nodes", sa.Column("issuer", sa.String(64)))
    op.add_column("nodes", sa.Column("trusts", sa.JSON))
    op.add_column("managers", sa.Column("issuer", sa.String(64)))
