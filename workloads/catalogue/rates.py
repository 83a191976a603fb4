"""Rates: the positions of a quote before time is known, from resources, data and prices.

Data has a position for each way that its owner charges: for the run, for each GiB that is scanned, for each row that is returned, and
for the calendar month (UTC) in which a tenant uses it first, whatever the versions. What is free has a price of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from workloads.catalogue.product import Product, ProductVersion
from workloads.errors import CurrencyMismatchError
from workloads.resources import EXACT, GIB, Money, Resources, format_memory
from workloads.spec import JobSpec

if TYPE_CHECKING:
    from workloads.catalogue.pricing import Prices

Item = Literal["cpu", "memory", "accelerator", "data-run", "data-gib", "data-rows", "data-month", "transfer"]
# Rows that a statement over data with a price for each may return where its manifest says nothing.
USUAL_MOST_ROWS = 10_000
_ZERO = Decimal(0)


@dataclass(frozen=True)
class QuotedInput:
    """A product version that a run reads, and whether a replica lies at the cluster.

    `source` is the cluster that it would be brought from, where it does not lie there. `month` is the calendar month of the use, like
    2026-12, where the product has a subscription, and `subscribed` whether the tenant has paid for it.
    """

    product: Product
    version: ProductVersion
    local: bool
    month: str = ""
    subscribed: bool = False
    source: str = ""


@dataclass(frozen=True)
class Rate:
    """A position before time is known: `quantity` is per hour when `hourly`, for the whole run otherwise."""

    item: Item
    detail: str
    unit: str
    unit_price: Money
    quantity: Decimal
    hourly: bool = False
    source: str = ""

    @property
    def note(self) -> str:
        """What is to be said of it beside the figures."""
        included = self.item == "data-month" and not self.quantity
        return f"included in the subscription of {self.detail.rpartition(' ')[2]}" if included else ""


def most_rows(spec: JobSpec, products: Sequence[Product]) -> int | None:
    """How many rows a job may return: as its manifest says, else USUAL_MOST_ROWS where rows have a price; None for any number."""
    return USUAL_MOST_ROWS if spec.max_rows is None and any(charges_rows(product) for product in products) else spec.max_rows


def charges_rows(product: Product) -> bool:
    """Whether each row that is returned has a price."""
    return product.price.per_row is not None and product.price.per_row.amount > 0


def rates(resources: Resources, inputs: Sequence[QuotedInput], prices: Prices, rows: int) -> Iterator[Rate]:
    """All positions of a run that returns so many rows. Inputs that name one version twice count once.

    Raises CurrencyMismatchError when a product is priced in another currency than the cluster.
    """
    yield from compute_rates(resources, prices)
    distinct = {quoted.version.ref: quoted for quoted in inputs}
    for quoted in distinct.values():
        yield from _data_rates(quoted, prices.currency, rows)
    for quoted in {quoted.product.name: quoted for quoted in inputs if quoted.month}.values():
        price = quoted.product.price.per_month or Money(amount=_ZERO, currency=prices.currency)
        quantity = _ZERO if quoted.subscribed else Decimal(1)
        yield Rate("data-month", f"{quoted.product.name} {quoted.month}", "month", price, quantity)
    for ref, quoted in distinct.items():
        if not quoted.local:
            price = prices.transfer_from.get(quoted.source, prices.transfer_gib)
            yield Rate("transfer", ref, "GiB", price, in_gib(quoted.version.size_bytes), source=quoted.source)


def compute_rates(resources: Resources, prices: Prices) -> Iterator[Rate]:
    """Processor, memory and accelerators, each for an hour."""
    workers = resources.most
    gang = f", {workers} workers" if workers > 1 else ""
    cores = exactly(resources.cpu)
    yield Rate("cpu", f"{resources.cpu:g} cores{gang}", "core-hour", prices.cpu_hour, cores * workers, hourly=True)
    memory = in_gib(resources.memory * workers)
    yield Rate("memory", f"{format_memory(resources.memory)}{gang}", "GiB-hour", prices.memory_gib_hour, memory, hourly=True)
    if resources.accelerator is not None:
        model, amount = resources.accelerator.choices[0].model, resources.accelerator.amount
        price = prices.accelerator_hour.get(model, Money(amount=_ZERO, currency=prices.currency))
        yield Rate("accelerator", f"{amount:g} {model}{gang}", "accelerator-hour", price, exactly(amount) * workers, hourly=True)


def _data_rates(quoted: QuotedInput, currency: str, rows: int) -> Iterator[Rate]:
    terms, ref = quoted.product.price, quoted.version.ref
    for price in (terms.per_run, terms.per_gib, terms.per_row, terms.per_month):
        if price is not None and price.currency != currency:
            raise CurrencyMismatchError(f"{quoted.product.name} is priced in {price.currency}, the cluster charges {currency}")
    free = Money(amount=_ZERO, currency=currency)
    yield Rate("data-run", ref, "run", terms.per_run or free, Decimal(1))
    yield Rate("data-gib", ref, "GiB", terms.per_gib or free, in_gib(quoted.version.size_bytes))
    yield Rate("data-rows", ref, "row", terms.per_row or free, Decimal(rows))


def in_gib(size_bytes: int) -> Decimal:
    """Bytes in GiB."""
    return EXACT.divide(Decimal(size_bytes), Decimal(GIB))


def exactly(value: float) -> Decimal:
    """The number that is written so."""
    return Decimal(repr(float(value)))
