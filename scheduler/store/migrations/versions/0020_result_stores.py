"""Where tenants' results lie and how long, and which results have been moved there."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Tenants as before: the server's directory, and the time that holds for all."""
    op.add_column("tenants", sa.Column("result_store", sa.Text(), nullable=True))
    op.add_column("tenants", sa.Column("keep_results_days", sa.Float(), nullable=True))
    op.add_column("tenants", sa.Column("keep_results_bytes", sa.BigInteger(), nullable=True))
    op.create_table(
        "placed_results",
        sa.Column("run_id", sa.String(length=48), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_placed_results")),
    )


def downgrade() -> None:
    """Without them: results in a store are there still, and nobody finds them."""
    op.drop_table("placed_results")
    for name in ("keep_results_bytes", "keep_results_days", "result_store"):
        op.drop_column("tenants", name)
