# SPDX-License-Identifier: Apache-2.0
"""A load balancer's own log target; an amphora's alarms and what it may really use."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("load_balancers", sa.Column("log_target", sa.String(length=255), nullable=True))
    op.add_column("amphorae", sa.Column("alarms", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("amphorae", sa.Column("effective", sa.JSON(none_as_null=True), nullable=True))
