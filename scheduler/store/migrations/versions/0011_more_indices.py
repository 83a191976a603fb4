"""Evictions are looked up by whom they ended, arrays by how they stand, jobs of none by age."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Indices; no row changes."""
    op.create_index(op.f("ix_evictions_job_id"), "evictions", ["job_id"], unique=False)
    op.create_index(op.f("ix_jobs_array_id_sequence"), "jobs", ["array_id", "sequence"], unique=False)
    op.create_index(op.f("ix_arrays_state"), "arrays", ["state"], unique=False)


def downgrade() -> None:
    """Without it."""
    op.drop_index(op.f("ix_arrays_state"), table_name="arrays")
    op.drop_index(op.f("ix_jobs_array_id_sequence"), table_name="jobs")
    op.drop_index(op.f("ix_evictions_job_id"), table_name="evictions")
