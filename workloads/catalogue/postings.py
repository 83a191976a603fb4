"""Postings: who owes and who earns what by a receipt, in double entry.

The buyer owes the total. Each owner earns what the use of its data costs, less the market's fee; the cluster's operator earns all other
lines: processor, memory, accelerators and transfers. An amount above zero is earned, one below is owed, and those of one receipt
sum to nothing, to the last digit: an owner's income is what is left of its lines after the fee, which alone is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from workloads.resources import EXACT, MONEY_QUANTUM

FEE_ACCOUNT = "fee/market"
NO_FEE = Decimal(0)
_ZERO = Decimal(0)


class Posting(NamedTuple):
    """One side of an entry: `buyer/acme`, `owner/nyc`, `cluster/sh` or `fee/market`, and how much it earns (above zero) or owes."""

    account: str
    amount: Decimal


def is_data(item: str) -> bool:
    """Whether a line of a receipt is the use of data, which its owner earns."""
    return item.startswith("data-")


def product_of(detail: str) -> str:
    """The product that a line of data is for: `nyc/flights` of `nyc/flights@1` and of `nyc/flights 2026-12`."""
    return detail.partition("@")[0].partition(" ")[0]


def postings(
    tenant: str, cluster: str, lines: Iterable[tuple[str, str, Decimal]], owners: Mapping[str, str], fee: Decimal
) -> list[Posting]:
    """The postings of a receipt, sorted by account; none where nothing is charged.

    `lines` are (item, detail, amount), `owners` the owner of each product, `fee` the share of an owner's income that the
    market keeps, rounded half up for each owner.
    """
    earned: dict[str, Decimal] = {}
    for item, detail, amount in lines:
        account = f"owner/{owners[product_of(detail)]}" if is_data(item) else f"cluster/{cluster}"
        earned[account] = EXACT.add(earned.get(account, _ZERO), amount)
    for account in [name for name in earned if name.startswith("owner/")]:
        kept = EXACT.quantize(EXACT.multiply(earned[account], fee), MONEY_QUANTUM)
        earned[account] = EXACT.subtract(earned[account], kept)
        earned[FEE_ACCOUNT] = EXACT.add(earned.get(FEE_ACCOUNT, _ZERO), kept)
    found = {account: amount for account, amount in earned.items() if amount}
    if not found:
        return []
    found[f"buyer/{tenant}"] = EXACT.minus(total_of(found.values()))
    return [Posting(account, found[account]) for account in sorted(found)]


def total_of(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    total = _ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
