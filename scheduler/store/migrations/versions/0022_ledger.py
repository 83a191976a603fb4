"""The journal of the ledger, which the database itself keeps from being changed. Receipts from before get their entries."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0023"

AT_ONCE = 1000
REFUSED = "the journal is append-only"
SQLITE = """CREATE TRIGGER journal_no_{event} BEFORE {event} ON journal BEGIN SELECT RAISE(ABORT, '{refused}'); END"""
POSTGRES = [
    "CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
    "CREATE TRIGGER journal_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON journal "
    "FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only()",
]


def upgrade() -> None:
    """A journal with an entry for each receipt that charges something."""
    sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "journal",
        sa.Column("sequence", sequence, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(length=48), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("postings", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_journal")),
        sa.UniqueConstraint("run_id", name=op.f("uq_journal_run_id")),
    )
    op.create_index(op.f("ix_journal_at"), "journal", ["at"])
    _enter(op.get_bind())
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(SQLITE.format(event=event, refused=REFUSED))
    else:
        for statement in POSTGRES:
            op.execute(statement)


def downgrade() -> None:
    """Without the journal: receipts are there still."""
    op.drop_table("journal")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION journal_is_append_only()")


def _enter(conn: sa.Connection) -> None:
    """Entries for receipts from before, without a fee."""
    products = sa.table("products", sa.column("name"), sa.column("product", sa.JSON()))
    owners = {row.name: row.product["owner"] for row in conn.execute(sa.select(products))}
    names = ("run_id", "job_id", "issued_at")
    receipts = sa.table("receipts", *map(sa.column, names), sa.column("receipt", sa.JSON()))
    journal = sa.table(
        "journal", *map(sa.column, ("run_id", "job_id", "currency", "at")), sa.column("postings", sa.JSON())
    )  # fmt: skip
    wanted = sa.select(receipts).order_by(receipts.c.issued_at, receipts.c.job_id)
    for rows in conn.execute(wanted).partitions(AT_ONCE):
        entries = list(_entries(rows, owners))
        if entries:
            conn.execute(sa.insert(journal), entries)


def _entries(rows: Any, owners: dict[str, str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        earned: defaultdict[str, Decimal] = defaultdict(Decimal)
        for line in row.receipt["lines"]:
            product = line["detail"].partition("@")[0]
            owner = owners.get(product, product.partition("/")[0])
            account = f"owner/{owner}" if line["item"].startswith("data-") else f"cluster/{row.receipt['cluster']}"
            earned[account] += Decimal(line["amount"].split()[0])
        found = {account: amount for account, amount in earned.items() if amount}
        if found:
            found[f"buyer/{row.receipt['tenant']}"] = -sum(found.values(), Decimal(0))
            yield {
                "run_id": row.run_id, "job_id": row.job_id, "currency": row.receipt["total"].split()[-1], "at": row.issued_at,
                "postings": {account: f"{amount:f}" for account, amount in sorted(found.items())},
            }  # fmt: skip
