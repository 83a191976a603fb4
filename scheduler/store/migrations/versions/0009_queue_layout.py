"""Queues that spread their work over nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """The queues that are there do as the one above them, at the top they pack, as before."""
    op.add_column("queues", sa.Column("layout", sa.String(length=8), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("queues", "layout")
