"""Queues below queues, with quotas; finished runs are looked up by when they ended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

AMOUNTS = ("quota", "borrow_limit", "lend_limit")


def upgrade() -> None:
    """Queues that are there stand at the top, without quotas."""
    op.add_column("queues", sa.Column("parent", sa.String(length=63), nullable=True))
    for name in AMOUNTS:
        op.add_column("queues", sa.Column(name, sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
    op.create_index(op.f("ix_runs_finished_at"), "runs", ["finished_at"], unique=False)


def downgrade() -> None:
    """Forget the tree."""
    op.drop_index(op.f("ix_runs_finished_at"), table_name="runs")
    for name in ("parent", *AMOUNTS):
        op.drop_column("queues", name)
