"""Queues whose jobs start in their order."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """In the queues that are there jobs may overtake one that does not fit, as before."""
    op.add_column("queues", sa.Column("order", sa.String(length=16), nullable=False, server_default=sa.text("'best-effort'")))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("queues", "order")
