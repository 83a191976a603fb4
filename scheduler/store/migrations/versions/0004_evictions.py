"""Runs that the network itself ends, and attempts that cost a job none of its own because of it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Of jobs that are there, every attempt counts that was made so far."""
    op.add_column("jobs", sa.Column("spared", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.create_table(
        "evictions",
        sa.Column("run_id", sa.String(length=48), nullable=False), sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("beneficiary", sa.String(length=32), nullable=True), sa.Column("why", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False), sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_evictions")),
    )  # fmt: skip


def downgrade() -> None:
    """Forget which attempts did not count."""
    op.drop_table("evictions")
    op.drop_column("jobs", "spared")
