"""Members whose agent has to name its runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """No agent has been introduced to a server of this version."""
    op.add_column("clusters", sa.Column("introduced", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Forget who was introduced."""
    op.drop_column("clusters", "introduced")
