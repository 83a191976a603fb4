"""Nodes that a member's autoscaler could bring, and which it is asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Unknown until an agent tells; nothing was asked for."""
    op.add_column("clusters", sa.Column("scaling", sa.JSON(none_as_null=True)))
    op.add_column("clusters", sa.Column("wishes", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))


def downgrade() -> None:
    """Without both."""
    op.drop_column("clusters", "wishes")
    op.drop_column("clusters", "scaling")
