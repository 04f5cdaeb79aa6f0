"""Renewal of keys

The next and the former keys of servers and clients, and since when the present one is in use.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spare_key",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("peer_id", sa.String(), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_spare_key")),
    )
    op.create_index(op.f("ix_spare_key_peer_id"), "spare_key", ["peer_id"])
    op.add_column("server", sa.Column("key_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("client", sa.Column("key_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("client", "key_since")
    op.drop_column("server", "key_since")
    op.drop_index(op.f("ix_spare_key_peer_id"), "spare_key")
    op.drop_table("spare_key")
