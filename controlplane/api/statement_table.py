"""Statements as CSV: a row for each line of each receipt, or for each use, however many there are.

Written to a file that goes to the disk when it is large, because a month may have more jobs than memory should hold.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from workloads.catalogue.pricing import Receipt
from workloads.catalogue.statement import uses_of
from workloads.months import Month

IN_MEMORY_BYTES = 16 * 1024**2
LINES = (
    "month", "time_zone", "tenant", "issued_at", "job_id", "run_id", "purpose", "cost_centre", "research", "cluster", "item", "detail",
    "quantity", "unit", "unit_price", "amount", "currency", "note",
)  # fmt: skip
USES = (
    "month",
    "time_zone",
    "product",
    "version",
    "licence",
    "tenant",
    "issued_at",
    "job_id",
    "run_id",
    "purpose",
    "cluster",
    "income",
    "currency",
)
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def of_receipts(month: Month, receipts: Iterable[Mapping[str, Any]]) -> IO[bytes]:
    """A file at its beginning: the lines of these receipts. A job that cost nothing has one row, of 0."""
    return _written(LINES, (row for document in receipts for row in _lines(month, Receipt.model_validate(document))))


def of_uses(month: Month, receipts: Iterable[Mapping[str, Any]], products: frozenset[str]) -> IO[bytes]:
    """A file at its beginning: the uses of some products."""
    return _written(USES, (row for document in receipts for row in _uses(month, Receipt.model_validate(document), products)))


def _lines(month: Month, receipt: Receipt) -> Iterator[Sequence[str]]:
    of_job = (
        month.name, month.zone, receipt.tenant, receipt.issued_at.isoformat(), receipt.job_id, receipt.run_id, receipt.purpose,
        receipt.cost_centre or "", "yes" if receipt.research else "no", receipt.cluster,
    )  # fmt: skip
    for line in receipt.lines:
        yield (
            *of_job, line.item, line.detail, f"{line.quantity:f}", line.unit, f"{line.unit_price.amount:f}", f"{line.amount.amount:f}",
            line.amount.currency, line.note,
        )  # fmt: skip
    if not receipt.lines:
        yield (*of_job, "", "", "", "", "", f"{receipt.total.amount:f}", receipt.total.currency, "")


def _uses(month: Month, receipt: Receipt, products: frozenset[str]) -> Iterator[Sequence[str]]:
    for use in uses_of(receipt, products):
        yield (
            month.name, month.zone, use.product, use.ref.rpartition("@")[2], use.licence or "", use.tenant, use.issued_at.isoformat(),
            use.job_id, use.run_id, use.purpose, use.cluster, f"{use.income.amount:f}", use.income.currency,
        )  # fmt: skip


def _written(header: Sequence[str], rows: Iterable[Sequence[str]]) -> IO[bytes]:
    file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - whoever sends it closes it
    text = TextIOWrapper(cast(IO[bytes], file), encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row])
    text.detach()
    file.seek(0)
    return cast(IO[bytes], file)
