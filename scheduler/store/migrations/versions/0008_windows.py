"""Maintenance and reservations: times at which nodes are not for everybody."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """No node is under maintenance or reserved."""
    op.create_table(
        "windows",
        sa.Column("name", sa.String(length=63), nullable=False), sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("cluster", sa.String(length=63), nullable=False), sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=True), sa.Column("queue", sa.String(length=63), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False), sa.Column("begins_at", sa.Float(), nullable=False),
        sa.Column("ends_at", sa.Float(), nullable=False), sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_windows")),
    )  # fmt: skip
    op.create_index(op.f("ix_windows_ends_at"), "windows", ["ends_at"], unique=False)


def downgrade() -> None:
    """Forget them."""
    op.drop_index(op.f("ix_windows_ends_at"), table_name="windows")
    op.drop_table("windows")
