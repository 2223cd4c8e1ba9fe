# SPDX-License-Identifier: Apache-2.0
"""Networks have a number between hosts, and nodes say where they take frames of them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

FIRST_VNI = 4096


def upgrade() -> None:
    op.add_column("nodes", sa.Column("overlay_ip", sa.String(64)))
    op.add_column("networks", sa.Column("vni", sa.Integer()))
    networks = sa.table("networks", sa.column("id"), sa.column("vni"), sa.column("existing_bridge"))
    number = (sa.func.row_number().over(order_by=networks.c.id) + FIRST_VNI - 1).label("number")
    numbered = sa.select(networks.c.id, number).where(networks.c.existing_bridge.is_(sa.false())).subquery("numbered")
    mine = sa.select(numbered.c.number).where(numbered.c.id == networks.c.id).scalar_subquery()
    op.execute(networks.update().values(vni=mine))
    op.create_index("ix_networks_vni", "networks", ["vni"], unique=True)
