"""Statements: what a tenant was charged in a month, job by job, and what an owner's products earned, use by use.

Every amount is what its receipt says, to 1/10000 of the currency, and every total is the exact sum of those, whatever they are totalled
by. What is to be paid is the total rounded half up to the cent, once. The parts of a total (purposes, cost centres) are shown in
cents too, and add up to what is to be paid: each has at least its whole cents, and those that are left go to the largest remainders,
of equal ones to the first by name. Currencies are never added: a statement has one account for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from workloads.catalogue.postings import is_data, product_of, total_of
from workloads.catalogue.pricing import QuoteLine, Receipt
from workloads.months import Month
from workloads.resources import EXACT, ComputedMoney, Money
from workloads.spec import CostCentre, Moment, Name, ProductName, ProductRef, Purpose

CENT = Decimal("0.01")
MOST_ITEMS = 10_000
NO_COST_CENTRE, RESEARCH, OTHER = "(none)", "research", "other"
_ZERO = Decimal(0)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Part(_Frozen):
    """A part of a total: exactly, and in cents, so that all parts add up to what is to be paid."""

    name: str
    jobs: int
    total: ComputedMoney
    payable: ComputedMoney


class Account(_Frozen):
    """All of a month in one currency, as one total and by what it is made of."""

    currency: str
    jobs: int
    total: ComputedMoney
    payable: ComputedMoney = Field(description="the total rounded half up to the cent")
    by_kind: tuple[Part, ...] = Field(strict=False, description="computing, data and transfer")
    by_purpose: tuple[Part, ...] = Field(strict=False)
    by_cost_centre: tuple[Part, ...] = Field(strict=False, description="(none): jobs that named none")
    by_research: tuple[Part, ...] = Field(strict=False, description="research: jobs that were declared to be; and other")


class Item(_Frozen):
    """One job of a statement, as its receipt has it."""

    job_id: str
    run_id: str
    issued_at: Moment
    purpose: Purpose
    cost_centre: CostCentre | None
    research: bool
    cluster: Name
    lines: tuple[QuoteLine, ...] = Field(strict=False)
    total: ComputedMoney


class _Monthly(_Frozen):
    month: str
    time_zone: str = Field(description="by whose wall clock the month begins and ends")
    begins_at: Moment
    ends_at: Moment
    closed: bool = Field(description="the month is over, so nothing is added any more")


class Statement(_Monthly):
    """What a tenant was charged in a month."""

    tenant: Name
    accounts: tuple[Account, ...] = Field(strict=False, description="one for each currency")
    items: tuple[Item, ...] = Field(strict=False)
    items_left_out: int = Field(default=0, description="jobs that are in the totals and not among the items; as CSV all are listed")


class Use(_Frozen):
    """One use of a product: by whom, for what, where, by which licence, and what it earned before the market's fee."""

    product: ProductName
    ref: ProductRef
    licence: str | None
    tenant: Name
    job_id: str
    run_id: str
    issued_at: Moment
    purpose: Purpose
    cluster: Name
    income: ComputedMoney


class ProductIncome(_Frozen):
    """A product in a month, in one currency."""

    product: ProductName
    uses: int
    income: ComputedMoney


class OwnerAccount(_Frozen):
    """What an owner's products earned in one currency, and what is left of it after the market's fee."""

    currency: str
    income: ComputedMoney
    fee: ComputedMoney
    net: ComputedMoney
    payable: ComputedMoney = Field(description="what is left, rounded half up to the cent")
    products: tuple[ProductIncome, ...] = Field(strict=False)


class OwnerStatement(_Monthly):
    """The uses and the income of an owner's products in a month."""

    owner: Name
    accounts: tuple[OwnerAccount, ...] = Field(strict=False, description="one for each currency")
    uses: tuple[Use, ...] = Field(strict=False)
    uses_left_out: int = Field(default=0, description="uses that are in the totals and not listed; as CSV all are")


def to_cents(amount: Decimal) -> Decimal:
    """Half up to the cent."""
    return EXACT.quantize(amount, CENT)


def in_cents(parts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Parts, none below zero, in whole cents that add up to their sum rounded half up: by the largest remainder."""
    whole = {name: amount.quantize(CENT, rounding=ROUND_FLOOR, context=EXACT) for name, amount in parts.items()}
    left = EXACT.subtract(to_cents(total_of(parts.values())), total_of(whole.values()))
    by_remainder = sorted(parts, key=lambda name: (EXACT.subtract(whole[name], parts[name]), name))
    for name in by_remainder[: int(left / CENT)]:
        whole[name] = EXACT.add(whole[name], CENT)
    return whole


class _Sums:
    """Jobs and amounts by name."""

    def __init__(self) -> None:
        self._amounts: dict[str, Decimal] = {}
        self._jobs: dict[str, int] = {}

    def add(self, name: str, amount: Decimal) -> None:
        self._amounts[name] = EXACT.add(self._amounts.get(name, _ZERO), amount)
        self._jobs[name] = self._jobs.get(name, 0) + 1

    def parts(self, currency: str) -> tuple[Part, ...]:
        cents = in_cents(self._amounts)
        return tuple(
            Part(name=name, jobs=self._jobs[name], total=_money(self._amounts[name], currency), payable=_money(cents[name], currency))
            for name in sorted(self._amounts)
        )


class _Tally:
    """One currency of a tenant's statement as its receipts come."""

    def __init__(self, currency: str) -> None:
        self._currency, self._jobs, self._total = currency, 0, _ZERO
        self._kinds, self._purposes, self._centres, self._research = (_Sums() for _ in range(4))

    def add(self, receipt: Receipt) -> None:
        amount = receipt.total.amount
        self._jobs, self._total = self._jobs + 1, EXACT.add(self._total, amount)
        self._purposes.add(receipt.purpose, amount)
        self._centres.add(receipt.cost_centre or NO_COST_CENTRE, amount)
        self._research.add(RESEARCH if receipt.research else OTHER, amount)
        kinds: dict[str, Decimal] = {}
        for line in receipt.lines:
            kind = "data" if is_data(line.item) else "transfer" if line.item == "transfer" else "computing"
            kinds[kind] = EXACT.add(kinds.get(kind, _ZERO), line.amount.amount)
        for kind, part in kinds.items():
            self._kinds.add(kind, part)

    def account(self) -> Account:
        by = (sums.parts(self._currency) for sums in (self._kinds, self._purposes, self._centres, self._research))
        kind, purpose, centre, research = by
        return Account(
            currency=self._currency, jobs=self._jobs, total=_money(self._total, self._currency),
            payable=_money(to_cents(self._total), self._currency),
            by_kind=kind, by_purpose=purpose, by_cost_centre=centre, by_research=research,
        )  # fmt: skip


def statement_of(tenant: str, month: Month, receipts: Iterable[Mapping[str, Any]], now: float, most: int = MOST_ITEMS) -> Statement:
    """The statement over a tenant's receipts of a month, as they are stored; the first `most` are listed."""
    tallies: dict[str, _Tally] = {}
    items: list[Item] = []
    left_out = 0
    for document in receipts:
        receipt = Receipt.model_validate(document)
        currency = receipt.total.currency
        if currency not in tallies:
            tallies[currency] = _Tally(currency)
        tallies[currency].add(receipt)
        if len(items) < most:
            items.append(item_of(receipt))
        else:
            left_out += 1
    accounts = tuple(tallies[currency].account() for currency in sorted(tallies))
    return Statement(tenant=tenant, accounts=accounts, items=tuple(items), items_left_out=left_out, **_period(month, now))


def item_of(receipt: Receipt) -> Item:
    """A receipt as an item of a statement."""
    return Item(
        job_id=receipt.job_id, run_id=receipt.run_id, issued_at=receipt.issued_at, purpose=receipt.purpose, cost_centre=receipt.cost_centre,
        research=receipt.research, cluster=receipt.cluster, lines=receipt.lines, total=receipt.total,
    )  # fmt: skip


def uses_of(receipt: Receipt, products: frozenset[str]) -> list[Use]:
    """The uses of some products by one job, each product version once.

    What a product earned is put down to the first of its versions, where a job has read several.
    """
    income: dict[str, Decimal] = {}
    refs: dict[str, str | None] = {use.ref: use.licence for use in receipt.uses}
    for line in receipt.lines:
        if is_data(line.item):
            name = product_of(line.detail)
            income[name] = EXACT.add(income.get(name, _ZERO), line.amount.amount)
            if "@" in line.detail:
                refs.setdefault(line.detail, None)
    found = []
    for ref in sorted(refs):
        name = product_of(ref)
        if name in products:
            found.append(Use(
                product=name, ref=ref, licence=refs[ref], tenant=receipt.tenant, job_id=receipt.job_id, run_id=receipt.run_id,
                issued_at=receipt.issued_at, purpose=receipt.purpose, cluster=receipt.cluster,
                income=_money(income.pop(name, _ZERO), receipt.total.currency),
            ))  # fmt: skip
    return found


def owner_statement_of(
    owner: str, month: Month, products: frozenset[str], receipts: Iterable[Mapping[str, Any]], net: Mapping[str, Decimal], now: float,
    most: int = MOST_ITEMS,
) -> OwnerStatement:  # fmt: skip
    """The statement of an owner over all receipts of a month that may name its products; `net` is what it earned by currency."""
    amounts: dict[str, dict[str, Decimal]] = {}
    counts: dict[str, dict[str, int]] = {}
    uses: list[Use] = []
    left_out = 0
    for document in receipts:
        for use in uses_of(Receipt.model_validate(document), products):
            earned, counted = amounts.setdefault(use.income.currency, {}), counts.setdefault(use.income.currency, {})
            earned[use.product] = EXACT.add(earned.get(use.product, _ZERO), use.income.amount)
            counted[use.product] = counted.get(use.product, 0) + 1
            if len(uses) < most:
                uses.append(use)
            else:
                left_out += 1
    accounts = tuple(
        _owner_account(currency, amounts[currency], counts[currency], net.get(currency, _ZERO)) for currency in sorted(amounts)
    )
    return OwnerStatement(owner=owner, accounts=accounts, uses=tuple(uses), uses_left_out=left_out, **_period(month, now))


def _owner_account(currency: str, amounts: Mapping[str, Decimal], counts: Mapping[str, int], net: Decimal) -> OwnerAccount:
    income = total_of(amounts.values())
    fee = max(EXACT.subtract(income, net), _ZERO)
    return OwnerAccount(
        currency=currency, income=_money(income, currency), fee=_money(fee, currency), net=_money(net, currency),
        payable=_money(to_cents(net), currency),
        products=tuple(
            ProductIncome(product=name, uses=counts[name], income=_money(amounts[name], currency)) for name in sorted(amounts)
        ),
    )  # fmt: skip


def _period(month: Month, now: float) -> dict[str, Any]:
    begins, ends = (datetime.fromtimestamp(at, UTC) for at in (month.begin_s, month.end_s))
    return {"month": month.name, "time_zone": month.zone, "begins_at": begins, "ends_at": ends, "closed": now >= month.end_s}


def _money(amount: Decimal, currency: str) -> Money:
    return Money(amount=amount, currency=currency)
