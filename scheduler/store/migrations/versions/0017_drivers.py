"""How a member is driven by its agent."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """By actors, until an agent says otherwise."""
    op.add_column("clusters", sa.Column("driver", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Without it."""
    op.drop_column("clusters", "driver")
