"""How fast runs on accelerators were is kept, so that the speed of like jobs can be learned by model."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """A new table; what ran before is not in it."""
    op.create_table(
        "rates",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=48), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("devices", sa.Float(), nullable=False),
        sa.Column("steps_per_s", sa.Float(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_rates")),
    )
    op.create_index(op.f("ix_rates_tenant_kind_name_model_sequence"), "rates", ["tenant", "kind", "name", "model", "sequence"])


def downgrade() -> None:
    """Without it."""
    op.drop_index(op.f("ix_rates_tenant_kind_name_model_sequence"), table_name="rates")
    op.drop_table("rates")
