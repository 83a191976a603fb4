"""Queues say whom their jobs may have ended, and jobs claim the room that is made for them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Queues that are there say nothing, which means that nobody is ended for their jobs."""
    op.add_column("queues", sa.Column("preemption", sa.String(length=16), nullable=True))
    op.create_table(
        "claims",
        sa.Column("job_id", sa.String(length=32), nullable=False), sa.Column("cluster", sa.String(length=63), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False), sa.Column("held", sa.JSON(), nullable=False),
        sa.Column("queue", sa.String(length=63), nullable=False), sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_claims")),
    )  # fmt: skip


def downgrade() -> None:
    """Forget policies and claims."""
    op.drop_table("claims")
    op.drop_column("queues", "preemption")
