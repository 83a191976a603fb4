"""When results and logs were removed because they had been kept long enough."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """A new table; nothing was removed before."""
    op.create_table(
        "removals",
        sa.Column("run_id", sa.String(length=48), nullable=False),
        sa.Column("what", sa.String(length=8), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "what", name=op.f("pk_removals")),
    )


def downgrade() -> None:
    """Without it."""
    op.drop_table("removals")
