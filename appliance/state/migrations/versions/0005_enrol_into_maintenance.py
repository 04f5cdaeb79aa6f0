"""Servers that begin in maintenance

An enrolment ticket says whether the server takes leases at once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "enrolment_token", sa.Column("begins", sa.String(), nullable=False, server_default=sa.text("'active'"))
    )


def downgrade() -> None:
    op.drop_column("enrolment_token", "begins")
