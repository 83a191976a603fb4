"""The ledger: a receipt for each job that was charged, and an entry of the journal for each that costs something. Never changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, bindparam, cast, or_, select

from scheduler.errors import NotFoundError
from scheduler.store.parts import parts
from scheduler.store.rows import Written, insert_rows
from scheduler.store.tables import journal, receipts, runs

_IDS: Any = bindparam("ids", expanding=True)
_RECEIPTS_OF = select(receipts.c.run_id, receipts.c.tenant, receipts.c.receipt).where(receipts.c.job_id.in_(_IDS))
AT_ONCE = 1000


class Charge(NamedTuple):
    """A receipt as it is stored, its currency, its postings as JSON, None where nothing is charged, and the subscriptions that it
    charges: product and month of each."""

    receipt: dict[str, Any]
    currency: str
    postings: Written | None
    months: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Entry:
    """One entry of the journal: what each account earns (above zero) or owes by a run; `at` in seconds since the epoch."""

    sequence: int
    run_id: str
    job_id: str
    currency: str
    postings: dict[str, Decimal]
    at: float


def add_receipt(conn: Connection, job_id: str, run_id: str, tenant: str, receipt: dict[str, Any], now: float) -> None:
    """Store a receipt; a second one for the same job is a primary key violation, never a second charge."""
    add_receipts(conn, [{"job_id": job_id, "run_id": run_id, "tenant": tenant, "receipt": receipt, "issued_at": now}], [])


def add_receipts(conn: Connection, rows: Sequence[dict[str, Any]], entries: Sequence[dict[str, Any]]) -> None:
    """Store receipts and their entries in the journal, as rows of the tables."""
    if rows:
        insert_rows(conn, receipts, rows)
    if entries:
        insert_rows(conn, journal, entries)


def get_receipt(conn: Connection, job_id: str) -> dict[str, Any]:
    """The receipt of a job. Raises NotFoundError."""
    row = conn.execute(select(receipts.c.receipt).where(receipts.c.job_id == job_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"job {job_id!r} has no receipt: it has not ended, or it was not charged")
    document: dict[str, Any] = row.receipt
    return document


def receipts_of(conn: Connection, tenant: str, begin: float, end: float) -> Iterator[dict[str, Any]]:
    """The receipts of a tenant that were issued from `begin` until before `end` (seconds since the epoch), in that order."""
    wanted = select(receipts.c.receipt).where(receipts.c.tenant == tenant, receipts.c.issued_at >= begin, receipts.c.issued_at < end)
    for row in _streamed(conn, wanted.order_by(receipts.c.issued_at, receipts.c.job_id)):
        yield row.receipt


def receipts_between(conn: Connection, begin: float, end: float, *, of_data: bool = False) -> Iterator[dict[str, Any]]:
    """All receipts that were issued from `begin` until before `end`, in that order; with `of_data` those of jobs that have read data.

    A receipt is issued when its run ends, and runs are found by when they ended.
    """
    wanted = select(receipts.c.receipt).join(runs, runs.c.id == receipts.c.run_id)
    wanted = wanted.where(runs.c.finished_at >= begin, runs.c.finished_at < end)
    if of_data:
        text = cast(receipts.c.receipt, Text)
        wanted = wanted.where(or_(text.contains('"uses"'), text.contains('"data-')))
    for row in _streamed(conn, wanted.order_by(runs.c.finished_at, receipts.c.job_id)):
        yield row.receipt


def entries(
    conn: Connection, *, run_id: str | None = None, account: str | None = None, begin: float | None = None, end: float | None = None,
    after: int = 0, most: int | None = None,
) -> Iterator[Entry]:  # fmt: skip
    """Entries of the journal behind number `after`, in their order: of a run, with an account, from `begin` until before `end`; all, or
    the first `most`."""
    wanted = select(journal).where(journal.c.sequence > after)
    if run_id is not None:
        wanted = wanted.where(journal.c.run_id == run_id)
    if account is not None:
        wanted = wanted.where(cast(journal.c.postings, Text).contains(f'"{account}"', autoescape=True))
    if begin is not None:
        wanted = wanted.where(journal.c.at >= begin)
    if end is not None:
        wanted = wanted.where(journal.c.at < end)
    for row in _streamed(conn, wanted.order_by(journal.c.sequence).limit(most)):
        amounts = {name: _amount(amount) for name, amount in row.postings.items()}
        yield Entry(row.sequence, row.run_id, row.job_id, row.currency, amounts, row.at)


def with_receipts(conn: Connection, found: Iterator[Entry]) -> Iterator[tuple[Entry, str, dict[str, Any] | None]]:
    """Entries with the tenant and the receipt of each; an empty tenant and None where a receipt is missing."""
    some: list[Entry] = []
    for entry in found:
        some.append(entry)
        if len(some) == AT_ONCE:
            yield from _joined(conn, some)
            some = []
    yield from _joined(conn, some)


def _joined(conn: Connection, some: list[Entry]) -> Iterator[tuple[Entry, str, dict[str, Any] | None]]:
    of = {row.run_id: row for ids in parts({entry.job_id for entry in some}) for row in conn.execute(_RECEIPTS_OF, {"ids": ids})}
    for entry in some:
        row = of.get(entry.run_id)
        yield entry, row.tenant if row is not None else "", row.receipt if row is not None else None


def receipts_without_entry(conn: Connection) -> Iterator[tuple[str, dict[str, Any]]]:
    """The receipts, whatever they charge, that have no entry in the journal, each with its run."""
    missing = (
        select(receipts.c.run_id, receipts.c.receipt)
        .outerjoin(journal, journal.c.run_id == receipts.c.run_id)
        .where(journal.c.run_id.is_(None))
    )
    for row in _streamed(conn, missing.order_by(receipts.c.job_id)):
        yield row.run_id, row.receipt


def _streamed(conn: Connection, wanted: Any) -> Iterator[Any]:
    """Rows as they are read, some at a time."""
    with conn.execute(wanted, execution_options={"yield_per": AT_ONCE}) as rows:
        yield from rows


def _amount(text: Any) -> Decimal:
    """An amount as it is stored; no number where somebody wrote something else there."""
    try:
        return Decimal(text)
    except (ArithmeticError, TypeError, ValueError):
        return Decimal("NaN")
