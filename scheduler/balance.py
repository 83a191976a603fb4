"""Balance: whether the journal is sound, entry by entry, against the receipts that it was made from.

Every entry must sum to nothing, belong to one receipt, owe as its buyer what that receipt charges, and give its cluster what the lines
of computing come to. Every receipt that charges something must have its entry. What the market keeps may have been another share
then than it is now, so of the lines of data it is proved that owners and market together earn them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from scheduler.store.ledger import Entry, entries, receipts_without_entry, with_receipts
from scheduler.store.session import Connection
from workloads.catalogue.postings import FEE_ACCOUNT, is_data, total_of
from workloads.resources import EXACT, MONEY_QUANTUM, Money

MOST_TOLD = 100


class Fault(StrEnum):
    """What is wrong with the ledger."""

    UNBALANCED = "unbalanced"
    UNROUNDED = "unrounded"
    WITHOUT_RECEIPT = "without_receipt"
    OTHER_RECEIPT = "other_receipt"
    WITHOUT_ENTRY = "without_entry"
    RECEIPT_TOTAL = "receipt_total"
    OVER_QUOTE = "over_quote"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Found:
    """One fault, at which run, in words."""

    fault: Fault
    run_id: str
    message: str


@dataclass
class Balance:
    """How many entries, and receipts without one, were looked at, what each account holds by (account, currency), and what is wrong;
    the first faults in words."""

    entries: int = 0
    receipts_without_entry: int = 0  # Those that have no entry, because they charge nothing, or though they do.
    accounts: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    faults: int = 0
    told: list[Found] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def note(self, found: Iterable[Found]) -> None:
        """Count these faults, and keep the first."""
        for one in found:
            self.faults += 1
            if len(self.told) < MOST_TOLD:
                self.told.append(one)


def verify(conn: Connection) -> Balance:
    """Look at every entry and receipt, in one consistent state of the database."""
    balance = Balance()
    for entry, tenant, receipt in with_receipts(conn, entries(conn)):
        balance.entries += 1
        for account, amount in entry.postings.items():
            if not amount.is_finite():
                continue
            key = account, entry.currency
            balance.accounts[key] = total_of((balance.accounts.get(key, Decimal(0)), amount))
        balance.note(_readable(entry.run_id, entry_faults(entry, tenant, receipt)))
    for run_id, receipt in receipts_without_entry(conn):
        balance.receipts_without_entry += 1
        balance.note(_readable(run_id, _missing(run_id, receipt)))
    return balance


def _missing(run_id: str, receipt: Mapping[str, Any]) -> Iterator[Found]:
    yield from receipt_faults(receipt)
    if Money.read_back(receipt["total"]).amount:
        yield Found(Fault.WITHOUT_ENTRY, run_id, f"its receipt charges {receipt['total']}, and the journal has no entry of it")


def _readable(run_id: str, faults: Iterator[Found]) -> Iterator[Found]:
    """The faults, and one more where what is stored is no receipt or no amount."""
    try:
        yield from faults
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        yield Found(Fault.UNREADABLE, run_id, f"what is stored cannot be read: {type(error).__name__} {error}")


def entry_faults(entry: Entry, tenant: str, receipt: Mapping[str, Any] | None) -> Iterator[Found]:
    """What is wrong with one entry; `tenant` and `receipt` are those of its run."""

    def found(fault: Fault, message: str) -> Found:
        return Found(fault, entry.run_id, message)

    unread = [account for account, amount in sorted(entry.postings.items()) if not amount.is_finite()]
    if unread:
        yield found(Fault.UNREADABLE, f"what is stored for {', '.join(unread)} is no amount")
        return
    rest = total_of(entry.postings.values())
    if rest:
        yield found(Fault.UNBALANCED, f"its postings sum to {rest:f} {entry.currency} in place of 0")
    for account, amount in sorted(entry.postings.items()):
        if amount != amount.quantize(MONEY_QUANTUM):
            yield found(Fault.UNROUNDED, f"{account} has {amount:f}, which is no whole number of {MONEY_QUANTUM:f} {entry.currency}")
    if receipt is None:
        yield found(Fault.WITHOUT_RECEIPT, "there is no receipt of this run")
        return
    yield from receipt_faults(receipt)
    for account, wanted in _wanted(tenant, receipt).items():
        # Owners and the market share what data costs.
        has = total_of(amount for name, amount in entry.postings.items() if name == account or (account == "data" and _of_data(name)))
        if has != wanted:
            yield found(Fault.OTHER_RECEIPT, f"{account} has {has:f} {entry.currency}, by the receipt it is {wanted:f}")
    strange = [name for name in sorted(entry.postings) if not _of_data(name) and name not in _wanted(tenant, receipt)]
    if strange or entry.job_id != receipt["job_id"] or entry.currency != receipt["total"].rpartition(" ")[2]:
        named = ", ".join(strange) or f"{entry.job_id}, {entry.currency}"
        yield found(Fault.OTHER_RECEIPT, f"the receipt of this run knows nothing of {named}")


def receipt_faults(receipt: Mapping[str, Any]) -> Iterator[Found]:
    """What is wrong with one receipt as it is stored."""
    total, quoted = Money.read_back(receipt["total"]), Money.read_back(receipt["quote_total"])
    lines = total_of(Money.read_back(line["amount"]).amount for line in receipt["lines"])
    if lines != total.amount:
        yield Found(Fault.RECEIPT_TOTAL, receipt["run_id"], f"the lines of its receipt add up to {lines:f}, its total is {total}")
    if total.amount > quoted.amount:
        yield Found(Fault.OVER_QUOTE, receipt["run_id"], f"its receipt of {total} exceeds the quote of {quoted}")


def _of_data(account: str) -> bool:
    return account == FEE_ACCOUNT or account.startswith("owner/")


def _wanted(tenant: str, receipt: Mapping[str, Any]) -> dict[str, Decimal]:
    """What the accounts must have by a receipt; `data` stands for the owners and the market's fee together."""
    amounts = [(line["item"], Money.read_back(line["amount"]).amount) for line in receipt["lines"]]
    total = total_of(amount for _, amount in amounts)
    computing = total_of(amount for item, amount in amounts if not is_data(item))
    owed, of_data = EXACT.minus(total), EXACT.subtract(total, computing)
    return {f"buyer/{tenant}": owed, f"cluster/{receipt['cluster']}": computing, "data": of_data}
