# SPDX-License-Identifier: Apache-2.0
"""Which secrets were told that a load balancer uses them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXT: dict[str, Any] = {f"{name}_{option}": value for name in ("mysql", "mariadb")
        for option, value in (("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))}


def upgrade() -> None:
    op.create_table(
        "secret_consumers",
        sa.Column("load_balancer_id", sa.String(length=36), nullable=False),
        sa.Column("ref", sa.String(length=255), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["load_balancer_id"], ["load_balancers.id"], name="fk_secret_consumers_load_balancer_id",
            ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("load_balancer_id", "ref", name="pk_secret_consumers"),
        **TEXT,
    )
