"""What is left of licences, which job uses which, and whether versions of products are offered still."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0026"

BYTES_PER_GIB = 2**30


def upgrade() -> None:
    """Of a licence that was granted for so much all of it is left; jobs of before have no uses."""
    op.add_column("licences", sa.Column("runs_left", sa.BigInteger(), nullable=True))
    op.add_column("licences", sa.Column("bytes_left", sa.BigInteger(), nullable=True))
    op.add_column("product_versions", sa.Column("standing", sa.String(length=16), nullable=False, server_default="offered"))
    op.add_column("product_versions", sa.Column("reason", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "licence_uses",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("product", sa.String(length=127), nullable=False),
        sa.Column("licence_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("reserved_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "product", name=op.f("pk_licence_uses")),
    )
    op.create_index(op.f("ix_licence_uses_licence_id_state"), "licence_uses", ["licence_id", "state"])
    _count_what_was_granted()


def _count_what_was_granted() -> None:
    from decimal import Decimal

    conn = op.get_bind()
    for licence_id, document in conn.execute(sa.text("SELECT id, CAST(licence AS TEXT) FROM licences")).all():
        granted = json.loads(document)
        runs, gib = granted.get("runs"), granted.get("gib")
        if runs is None and gib is None:
            continue
        left = {"runs": runs, "bytes": None if gib is None else int(Decimal(gib) * BYTES_PER_GIB), "id": licence_id}
        conn.execute(sa.text("UPDATE licences SET runs_left = :runs, bytes_left = :bytes WHERE id = :id"), left)


def downgrade() -> None:
    """Without them: licences are granted for any number again, and all versions are offered."""
    for name in ("reason", "standing"):
        op.drop_column("product_versions", name)
    op.drop_index(op.f("ix_licence_uses_licence_id_state"), "licence_uses")
    op.drop_table("licence_uses")
    for name in ("bytes_left", "runs_left"):
        op.drop_column("licences", name)
