"""Prices, quotes and receipts: what a run may cost at most before it starts, and what it did cost.

A quote is the ceiling at the job's max_runtime, line by line: processor, memory and accelerator time at the
cluster's prices, the use of the data at its owner's prices, and bringing in what does not lie there. A
receipt repeats the lines for what was used. No line of a receipt exceeds its line in the quote, so neither
does the total. A cluster may ask for another part of its prices at some hours (`tariffs`); then hours count as what they
are charged for. Everything is Decimal: an amount is its quantity times its unit price, rounded half up to
1/10000 of the currency, and a total is the sum of its lines; anybody can add a receipt up again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from workloads.catalogue.rates import Item, QuotedInput, Rate, compute_rates, exactly, in_gib, rates
from workloads.catalogue.tariffs import HoursAt, Tariffs, Weighed, weigh
from workloads.engines import EngineChoice
from workloads.errors import CurrencyMismatchError
from workloads.faults import refuse
from workloads.resources import EXACT, MONEY_QUANTUM, ComputedMoney, Money, MoneyAmount, Resources
from workloads.spec import CostCentre, Moment, Name, ProductRef, Purpose

_QUANTITY_QUANTUM = Decimal("1e-12")
_SECONDS_PER_HOUR = Decimal(3600)
_ZERO = Decimal(0)


def _read_quantity(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return Decimal(value)
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not a decimal number") from error


Quantity = Annotated[
    Decimal, BeforeValidator(_read_quantity), Field(ge=0, allow_inf_nan=False),
    PlainSerializer(lambda value: f"{value:f}", return_type=str),
    WithJsonSchema({"type": "string", "examples": ["0.166666666667"], "description": "an exact decimal number"}),
]  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Prices(_Frozen):
    """What the operator charges. All amounts of one cluster are in one currency."""

    cpu_hour: MoneyAmount
    memory_gib_hour: MoneyAmount
    accelerator_hour: dict[str, MoneyAmount] = Field(
        default={}, description="accelerator model → price of one for an hour; a model that is not listed is not charged"
    )
    transfer_gib: MoneyAmount = Field(description="price of a GiB brought in from another cluster")
    transfer_from: dict[Name, MoneyAmount] = Field(
        default={}, exclude_if=lambda value: not value, description="cluster → price of a GiB from there, where it is another"
    )
    tariffs: Tariffs | None = Field(
        default=None, exclude_if=lambda value: value is None, description="hours at which cores, memory and accelerators cost another part"
    )

    @model_validator(mode="after")
    def _one_currency(self) -> Self:
        named: dict[tuple[str | int, ...], Money] = {("memory_gib_hour",): self.memory_gib_hour, ("transfer_gib",): self.transfer_gib}
        named |= {("transfer_from", source): price for source, price in self.transfer_from.items()}
        named |= {("accelerator_hour", model): price for model, price in self.accelerator_hour.items()}
        refuse("Prices", (
            (path, f"is in {price.currency}, cpu_hour in {self.currency}; give all prices in one currency")
            for path, price in named.items() if price.currency != self.currency
        ))  # fmt: skip
        return self

    @property
    def currency(self) -> str:
        """The currency of every price here."""
        return self.cpu_hour.currency


class QuoteLine(_Frozen):
    """One position. `detail` tells lines of one item apart: the size of the gang, the accelerator, the product version."""

    item: Item
    detail: str
    quantity: Quantity
    unit: str
    unit_price: MoneyAmount
    amount: ComputedMoney
    source: str = Field(default="", exclude_if=lambda value: not value, description="of a transfer: the cluster that it is quoted from")
    note: str = Field(default="", exclude_if=lambda value: not value, description="why it is less than it might be")


class _Itemised(_Frozen):
    lines: tuple[QuoteLine, ...] = Field(strict=False)
    total: ComputedMoney
    hours: tuple[HoursAt, ...] = Field(
        default=(), strict=False, exclude_if=lambda value: not value,
        description="where there are tariffs: how many hours of the run are at which factor; hourly quantities are weighed by them",
    )  # fmt: skip

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.total != sum_lines(self.lines, self.total.currency):
            raise ValueError(f"the lines do not add up to the total of {self.total}")
        return self


class Quote(_Itemised):
    """The most that a run can cost at a cluster that starts when it was quoted for: all its lines at max_runtime."""

    cluster: Name
    currency: str
    tariffs: Tariffs | None = Field(default=None, exclude_if=lambda value: value is None, description="the tariffs that it was made by")
    runtime_s: float | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="how long the budget pays for, where not for all of max_runtime",
    )

    @model_validator(mode="after")
    def _in_its_currency(self) -> Self:
        if self.total.currency != self.currency:
            raise ValueError(f"the total is in {self.total.currency}, the quote in {self.currency}")
        return self


class DataUse(_Frozen):
    """A product version that was read for a delivered result, and the licence that allowed it; none for public data."""

    ref: ProductRef
    licence: str | None = None


class Receipt(_Itemised):
    """What a job did cost, never more than `quote_total`. `wall_s` is the time charged for, in seconds.

    `carbon_g` is an estimate, from declared or published power at its greatest and the declared intensity of the hours that it ran in.
    """

    job_id: str
    run_id: str
    tenant: Name
    purpose: Purpose
    cluster: Name
    quote_total: ComputedMoney
    wall_s: float = Field(ge=0)
    issued_at: Moment
    engine: EngineChoice | None = Field(default=None, description="of a statement: what ran it, and why, where that was chosen")
    carbon_g: float | None = Field(default=None, ge=0, description="estimated grams of CO2 of the run; null where a part of it is unknown")
    cost_centre: CostCentre | None = Field(default=None, exclude_if=lambda value: value is None, description="as the job named it")
    research: bool = Field(default=False, exclude_if=lambda value: not value, description="the job was declared to be research expenditure")
    uses: tuple[DataUse, ...] = Field(
        default=(), strict=False, exclude_if=lambda value: not value, description="the data that was read for the delivered result"
    )

    @model_validator(mode="after")
    def _within_its_quote(self) -> Self:
        if self.quote_total.currency != self.total.currency or self.total.amount > self.quote_total.amount:
            raise ValueError(f"the receipt of {self.total} exceeds the quote of {self.quote_total}")
        return self

    @classmethod
    def of(
        cls,
        quote: Quote,
        lines: Sequence[QuoteLine],
        *,
        job_id: str,
        run_id: str,
        tenant: str,
        purpose: str,
        wall_s: float,
        issued_at: float,
        hours: tuple[HoursAt, ...] = (),
        engine: EngineChoice | None = None,
        carbon_g: float | None = None,
        cost_centre: str | None = None,
        research: bool = False,
        uses: tuple[DataUse, ...] = (),
    ) -> Receipt:
        """The receipt over settled lines; `issued_at` in seconds since the epoch, `hours` as in `charged_time`."""
        return cls(
            job_id=job_id, run_id=run_id, tenant=tenant, purpose=purpose, cluster=quote.cluster, lines=tuple(lines),
            total=sum_lines(lines, quote.currency), quote_total=quote.total, wall_s=max(wall_s, 0.0),
            issued_at=datetime.fromtimestamp(issued_at, tz=UTC), hours=hours, engine=engine, carbon_g=carbon_g,
            cost_centre=cost_centre, research=research, uses=uses,
        )  # fmt: skip


def quote_run(
    resources: Resources, inputs: Sequence[QuotedInput], prices: Prices, cluster: str, runtime_s: float, starts_at: float = 0.0,
    rows: int | None = None,
) -> Quote:  # fmt: skip
    """The ceiling for a run of `runtime_s` seconds, of an elastic gang with the most workers.

    `starts_at`, in seconds since the epoch, counts where the cluster has tariffs, `rows`, the most that may be returned, where rows
    have a price.

    Inputs that name one version twice count once; free data has no line.

    Raises CurrencyMismatchError when a product is priced in another currency than the cluster.
    """
    seconds, hours = weigh(prices.tariffs, starts_at, exactly(runtime_s))
    lines = tuple(
        _line(rate, _over(rate, seconds)) for rate in rates(resources, inputs, prices, rows or 0)
        if not (rate.item.startswith("data-") and rate.unit_price.amount == 0)
    )  # fmt: skip
    return Quote(
        cluster=cluster, currency=prices.currency, lines=lines, total=sum_lines(lines, prices.currency), hours=hours, tariffs=prices.tariffs
    )


def total_at(quote: Quote, resources: Resources, prices: Prices, runtime_s: float, starts_at: float) -> Money:
    """What the run of a quote, with the same resources and prices, would be quoted for a start at another time, in seconds since the epoch.

    Only what is charged by the hour differs.
    """
    seconds, _ = weigh(prices.tariffs, starts_at, exactly(runtime_s))
    hourly = [_line(rate, _over(rate, seconds)) for rate in compute_rates(resources, prices)]
    return sum_lines([*hourly, *(line for line in quote.lines if not line.unit.endswith("-hour"))], quote.currency)


def requoted(quote: Quote, before: Resources, after: Resources) -> Quote:
    """The ceiling of a run that was quoted for some resources, for others, alike but for the number of workers, at the same prices."""
    amounts = Prices(cpu_hour=_nothing(quote), memory_gib_hour=_nothing(quote), transfer_gib=_nothing(quote))
    was, now = ({rate.item: rate for rate in compute_rates(resources, amounts)} for resources in (before, after))
    lines = tuple(
        _priced(line.item, now[line.item].detail, _times(line.quantity, was[line.item], now[line.item]), line.unit, line.unit_price)
        if line.item in was else line
        for line in quote.lines
    )  # fmt: skip
    return quote.model_copy(update={"lines": lines, "total": sum_lines(lines, quote.currency)})


def _nothing(quote: Quote) -> Money:
    return Money(amount=_ZERO, currency=quote.currency)


def _times(quantity: Decimal, was: Rate, now: Rate) -> Decimal:
    """A quantity of the same time for another amount each hour, to 12 places."""
    return EXACT.quantize(EXACT.divide(EXACT.multiply(quantity, now.quantity), was.quantity), _QUANTITY_QUANTUM)


def settle_run(
    quote: Quote, resources: Resources, inputs: Sequence[QuotedInput], prices: Prices, wall_s: float, *,
    started_at: float = 0.0, delivered: bool = True, moved: Mapping[str, int] | None = None, seconds: Decimal | None = None,
    rows: int = 0,
) -> tuple[QuoteLine, ...]:  # fmt: skip
    """The lines that a run of `wall_s` seconds from `started_at` on is charged, each at most its quoted line.

    `delivered`: the result was handed over, so the use of the data is charged. `moved` are the bytes of each version that were brought
    in for the run, by which a transfer is charged; None: by what was quoted. `inputs` and `prices` are today's: a price that fell since
    the quote counts, one that rose does not, and neither does one in another currency. So do tariffs. `seconds` is the charged time,
    where that is not the run's. `rows` are those of the result.
    """
    today = {(rate.item, rate.detail): rate for rate in _comparable_rates(quote, resources, inputs, prices, rows)}
    seconds = charged_time(quote, prices, wall_s, started_at).seconds if seconds is None else seconds
    settled = []
    for line in quote.lines:
        if line.item.startswith("data-") and not delivered:
            continue
        if line.item == "transfer" and moved is not None:
            line = _moved(line, moved.get(line.detail, 0))
        if line.item == "data-rows":
            line = _priced(line.item, line.detail, min(Decimal(rows), line.quantity), line.unit, line.unit_price)
        rate = today.get((line.item, line.detail))
        if rate is None:
            settled.append(line)
            continue
        price = min(line.unit_price, rate.unit_price, key=lambda money: money.amount)
        paid = _priced(line.item, line.detail, min(_over(rate, seconds), line.quantity), line.unit, price)
        settled.append(paid.model_copy(update={"note": rate.note or line.note, "source": line.source}))
    return tuple(settled)


def _moved(line: QuoteLine, size_bytes: int) -> QuoteLine:
    """A quoted transfer for the bytes that were brought in, never more than was quoted; where that is less, it says so."""
    quantity = EXACT.quantize(in_gib(size_bytes), _QUANTITY_QUANTUM)
    if quantity >= line.quantity:
        return line
    note = "only this was brought in; the rest was there" if size_bytes else "nothing was brought in; a copy was there"
    return _priced(line.item, line.detail, quantity, line.unit, line.unit_price).model_copy(update={"note": note, "source": line.source})


def charged_time(quote: Quote, prices: Prices, wall_s: float, started_at: float) -> Weighed:
    """The time that a run is charged for, by the tariffs of its quote or today's, whichever make it less."""
    seconds = exactly(max(wall_s, 0.0))
    quoted = weigh(quote.tariffs, started_at, seconds)
    if prices.tariffs == quote.tariffs or prices.currency != quote.currency:
        return quoted
    return min(quoted, weigh(prices.tariffs, started_at, seconds), key=lambda weighed: weighed.seconds)


def sum_lines(lines: Sequence[QuoteLine], currency: str) -> Money:
    """The exact sum of the lines' amounts. Raises CurrencyMismatchError when one is in another currency."""
    total = _ZERO
    for line in lines:
        if line.amount.currency != currency:
            raise CurrencyMismatchError(f"a line of {line.amount} does not belong in a total in {currency}")
        total = EXACT.add(total, line.amount.amount)
    return Money(amount=total.quantize(MONEY_QUANTUM, context=EXACT), currency=currency)


def _comparable_rates(
    quote: Quote, resources: Resources, inputs: Sequence[QuotedInput], prices: Prices, rows: int
) -> list[Rate]:  # fmt: skip
    """Today's rates where they can be compared with the quote, else the quoted ones."""
    try:
        if prices.currency == quote.currency:
            return list(rates(resources, inputs, prices, rows))
    except CurrencyMismatchError:
        pass  # a product changed its currency since the quote; the quoted prices hold
    quoted = {(line.item, line.detail): line.unit_price for line in quote.lines}
    hourly = compute_rates(resources, prices)
    return [
        Rate(rate.item, rate.detail, rate.unit, quoted[rate.item, rate.detail], rate.quantity, hourly=True)
        for rate in hourly if (rate.item, rate.detail) in quoted
    ]  # fmt: skip


def _over(rate: Rate, seconds: Decimal) -> Decimal:
    """The quantity for a run of this length, to 12 places."""
    quantity = EXACT.divide(EXACT.multiply(rate.quantity, seconds), _SECONDS_PER_HOUR) if rate.hourly else rate.quantity
    return EXACT.quantize(quantity, _QUANTITY_QUANTUM)


def _line(rate: Rate, quantity: Decimal) -> QuoteLine:
    line = _priced(rate.item, rate.detail, quantity, rate.unit, rate.unit_price)
    return line.model_copy(update={"note": rate.note, "source": rate.source}) if rate.note or rate.source else line


def _priced(item: Item, detail: str, quantity: Decimal, unit: str, price: Money) -> QuoteLine:
    amount = EXACT.quantize(EXACT.multiply(quantity, price.amount), MONEY_QUANTUM)
    shown = quantity.normalize(EXACT)
    return QuoteLine(
        item=item, detail=detail, quantity=shown, unit=unit, unit_price=price, amount=Money(amount=amount, currency=price.currency)
    )
