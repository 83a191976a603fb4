"""What data costs by its row and by the month: quoted at the most that it may be, charged by what came."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.workloads.samples import prices, product, spec, version
from workloads.catalogue.pricing import QuoteLine, quote_run, settle_run
from workloads.catalogue.rates import QuotedInput, most_rows
from workloads.resources import Resources

BY_ROW = product(price={"per_row": "0.0025 CNY"})
BY_MONTH = product("sh/metro", price={"per_month": "30.00 CNY", "per_run": "0.10 CNY"})
ROWS = QuotedInput(BY_ROW, version(), local=True)


def month(*, paid: bool = False, name: str = "2026-12", number: int = 1, price: str = "30.00 CNY") -> QuotedInput:
    sold = product("sh/metro", price={"per_month": price, "per_run": "0.10 CNY"})
    return QuotedInput(sold, version("sh/metro", number=number), local=True, month=name, subscribed=paid)


def data(lines: Any) -> list[tuple[str, str, str, str, str]]:
    return [
        (line.item, line.detail, f"{line.quantity:f} {line.unit}", str(line.amount), line.note)
        for line in lines
        if line.item.startswith("data-")
    ]


def settled(quoted: list[QuotedInput], today: list[QuotedInput], **ended: Any) -> tuple[QuoteLine, ...]:
    quote = quote_run(Resources(), quoted, prices(), "sh-1", 3600.0, rows=1000)
    lines = settle_run(quote, Resources(), today, prices(), 60.0, **ended)
    at_most = {(line.item, line.detail): line.amount.amount for line in quote.lines}
    assert all(line.amount.amount <= at_most[line.item, line.detail] for line in lines)
    return lines


def test_rows_are_quoted_at_the_most_and_charged_as_they_came() -> None:
    quote = quote_run(Resources(), [ROWS], prices(), "sh-1", 3600.0, rows=1000)
    assert data(quote.lines) == [("data-rows", "nycflights/flights@1", "1000 row", "2.50 CNY", "")]
    assert data(settled([ROWS], [ROWS], rows=3)) == [("data-rows", "nycflights/flights@1", "3 row", "0.0075 CNY", "")]
    assert data(settled([ROWS], [ROWS], rows=0)) == [("data-rows", "nycflights/flights@1", "0 row", "0.00 CNY", "")]
    assert data(settled([ROWS], [ROWS], rows=5000))[0][3] == "2.50 CNY"
    assert data(settled([ROWS], [ROWS], rows=3, delivered=False)) == []


def test_a_price_for_rows_that_changed_its_currency_since_still_counts_those_that_came() -> None:
    dollars = QuotedInput(product(price={"per_row": "0.01 USD"}), version(), local=True)
    assert data(settled([ROWS], [dollars], rows=3))[0][3] == "0.0075 CNY"


def test_a_subscription_is_charged_once_whatever_the_versions_and_says_when_it_is_included() -> None:
    quote = quote_run(Resources(), [month(), month(number=2)], prices(), "sh-1", 3600.0)
    assert [line for line in data(quote.lines) if line[0] == "data-month"] == [
        ("data-month", "sh/metro 2026-12", "1 month", "30.00 CNY", "")
    ]
    included = ("data-month", "sh/metro 2026-12", "0 month", "0.00 CNY", "included in the subscription of 2026-12")
    assert included in data(quote_run(Resources(), [month(paid=True)], prices(), "sh-1", 3600.0).lines)
    # Another run has paid for it meanwhile.
    assert included in data(settled([month()], [month(paid=True)]))
    assert ("data-month", "sh/metro 2026-12", "1 month", "30.00 CNY", "") in data(settled([month()], [month()]))
    assert ("data-month", "sh/metro 2026-12", "1 month", "20.00 CNY", "") in data(settled([month()], [month(price="20.00 CNY")]))
    # It was quoted as included: it stays so, whatever is known today.
    assert included in data(settled([month(paid=True)], [month()]))


def test_the_most_rows_are_the_manifests_and_only_prices_for_rows_make_a_usual_one() -> None:
    assert most_rows(spec(), [BY_MONTH]) is None
    assert most_rows(spec(), [BY_MONTH, BY_ROW]) == 10_000
    assert most_rows(spec(max_rows=7), [BY_ROW]) == most_rows(spec(max_rows=7), []) == 7
    assert most_rows(spec(), [product(price={"per_row": "0.00 CNY"})]) is None


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ({"per_row": "0.01 CNY", "per_month": "1.00 USD"}, "is in USD, per_row in CNY; give all prices in one currency"),
        ({"per_row": 0.01}, "is not an amount of money"),
        ({"per_row": "0.00001 CNY"}, "is not an amount of money"),
        ({"per_year": "1.00 CNY"}, "per_year"),
    ],
)
def test_prices_that_are_none_are_refused_with_their_field(price: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        product(price=price)


@pytest.mark.parametrize(("fields", "words"), [
    ({"max_rows": 0}, "max_rows"), ({"max_rows": "10"}, "max_rows"),
    ({"kind": "command", "command": ["true"], "sql": None, "max_rows": 10}, "kind command returns no rows that are counted"),
])  # fmt: skip
def test_a_most_of_rows_that_is_none_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**fields)


def test_a_quantity_of_rows_is_exact() -> None:
    quote = quote_run(Resources(), [ROWS], prices(), "sh-1", 60.0, rows=10**12)
    assert next(line.amount.amount for line in quote.lines if line.item == "data-rows") == Decimal(2_500_000_000)
