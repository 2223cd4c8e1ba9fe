# SPDX-License-Identifier: Apache-2.0
"""Until when somebody is busy telling others of a load balancer."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("load_balancers", sa.Column("telling_until_ms", sa.BigInteger, nullable=False, server_default="0"))
