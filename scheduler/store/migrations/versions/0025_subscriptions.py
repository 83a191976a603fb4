"""The months for which tenants have paid subscriptions."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0022"


def upgrade() -> None:
    """None is paid for yet."""
    op.create_table(
        "subscriptions",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("product", sa.String(length=127), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("run_id", sa.String(length=48), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "product", "month", name=op.f("pk_subscriptions")),
    )


def downgrade() -> None:
    """Without them: a month that was paid is charged again."""
    op.drop_table("subscriptions")
