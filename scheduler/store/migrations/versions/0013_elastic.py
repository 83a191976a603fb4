"""Gangs that run are grown and shrunk: what each has and had, and which members can do it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Runs that are there keep the size that they have; members say what they can with their next inventory."""
    op.add_column("runs", sa.Column("elastic", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("clusters", sa.Column("resizes", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("clusters", "resizes")
    op.drop_column("runs", "elastic")
