"""Jobs that wait for other jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BEFORE, AFTER = "ix_jobs_state_queue_rank_sequence", "ix_jobs_state_waiting_for_queue_rank_sequence"


def upgrade() -> None:
    """No job that is there waits for another one."""
    op.create_table(
        "dependencies",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("needs", sa.String(length=32), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "needs", name=op.f("pk_dependencies")),
    )
    op.create_index(op.f("ix_dependencies_needs"), "dependencies", ["needs"], unique=False)
    op.add_column("jobs", sa.Column("waiting_for", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.drop_index(op.f(BEFORE), table_name="jobs")
    op.create_index(op.f(AFTER), "jobs", ["state", "waiting_for", "queue", "rank", "sequence"], unique=False)


def downgrade() -> None:
    """Forget who waits for whom."""
    op.drop_index(op.f(AFTER), table_name="jobs")
    op.create_index(op.f(BEFORE), "jobs", ["state", "queue", "rank", "sequence"], unique=False)
    op.drop_column("jobs", "waiting_for")
    op.drop_index(op.f("ix_dependencies_needs"), table_name="dependencies")
    op.drop_table("dependencies")
