"""The last transfers to each member are kept, so that links are known by what they do, and so is what its caches hold."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """None yet."""
    op.add_column("clusters", sa.Column("links", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
    op.add_column("clusters", sa.Column("copies", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Forget them."""
    op.drop_column("clusters", "copies")
    op.drop_column("clusters", "links")
