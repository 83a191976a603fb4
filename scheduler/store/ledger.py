"""Receipts: one per job that was charged, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from scheduler.errors import NotFoundError
from scheduler.store.rows import insert_rows
from scheduler.store.tables import receipts


def add_receipt(conn: Connection, job_id: str, run_id: str, tenant: str, receipt: dict[str, Any], now: float) -> None:
    """Store a receipt; a second one for the same job is a primary key violation, never a second charge."""
    add_receipts(conn, [{"job_id": job_id, "run_id": run_id, "tenant": tenant, "receipt": receipt, "issued_at": now}])


def add_receipts(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Store receipts, as rows of the table."""
    if rows:
        insert_rows(conn, receipts, rows)


def get_receipt(conn: Connection, job_id: str) -> dict[str, Any]:
    """The receipt of a job. Raises NotFoundError."""
    row = conn.execute(select(receipts.c.receipt).where(receipts.c.job_id == job_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"job {job_id!r} has no receipt: it has not ended, or it was not charged")
    document: dict[str, Any] = row.receipt
    return document
