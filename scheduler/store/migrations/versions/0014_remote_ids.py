"""Members are known by their cluster's own id too, so that none is registered under two names."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Empty until a member's next inventory tells it."""
    op.add_column("clusters", sa.Column("remote_id", sa.String(64), nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("clusters", "remote_id")
