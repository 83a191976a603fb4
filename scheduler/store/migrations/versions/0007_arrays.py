"""Arrays: jobs that were submitted as one."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Jobs that are there belong to no array."""
    op.create_table(
        "arrays",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("first", sa.String(length=32), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("at_most", sa.Integer(), nullable=True),
        sa.Column("released", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("idempotency_digest", sa.String(length=64), nullable=True),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrays")),
        sa.UniqueConstraint("tenant", "idempotency_key", name=op.f("uq_arrays_tenant_idempotency_key")),
    )
    op.add_column("jobs", sa.Column("array_id", sa.String(length=32), nullable=True))
    op.add_column("jobs", sa.Column("array_index", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_jobs_array_id_array_index"), "jobs", ["array_id", "array_index"], unique=False)


def downgrade() -> None:
    """Forget which jobs belong together."""
    op.drop_index(op.f("ix_jobs_array_id_array_index"), table_name="jobs")
    op.drop_column("jobs", "array_index")
    op.drop_column("jobs", "array_id")
    op.drop_table("arrays")
