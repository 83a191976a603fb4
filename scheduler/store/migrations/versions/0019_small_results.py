"""Small result files, which are stored with the end of their run."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """A new table; until now every result was a file, and those stay."""
    op.create_table(
        "small_results",
        sa.Column("run_id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_small_results")),
    )


def downgrade() -> None:
    """Without it: what was stored there is lost."""
    op.drop_table("small_results")
