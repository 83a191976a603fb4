"""Units: what people write, what programs get, and what is refused."""

from __future__ import annotations

import warnings
from decimal import Decimal

import pytest
from pydantic import BaseModel, ValidationError

from workloads.errors import UnitError
from workloads.resources import (
    GIB,
    FlopsRate,
    Money,
    MoneyAmount,
    Resources,
    format_duration,
    format_flops,
    format_memory,
    parse_duration,
    parse_flops,
    parse_memory,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GiB", GIB), ("512 MiB", 512 * 1024**2), (" 2GB ", 2 * 10**9), ("1.5GiB", 3 * GIB // 2), ("0.1KiB", 102), ("7B", 7)],
)
def test_memory_parses(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["1", "GiB", "1 gib", "1Gi", "-1GiB", "1e3MiB", "١GiB", "2000000TiB", "1GiB\n2GiB", ""])  # noqa: RUF001
def test_memory_refuses_what_is_no_amount(text: str) -> None:
    with pytest.raises(UnitError):
        parse_memory(text)


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86400), ("1.5h", 5400), ("0s", 0)])
def test_duration_parses(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "10 m", "-5s", "1h 30m", "10min", "99999999d", "1hh", ""])
def test_duration_refuses_what_is_none(text: str) -> None:
    with pytest.raises(UnitError):
        parse_duration(text)


@pytest.mark.parametrize(("text", "flops"), [("18000PFLOPS", 1.8e19), ("14 EFLOPS", 1.4e19), ("0.5GFLOPS", 5e8), ("989.5TFLOPS", 989.5e12)])
def test_flops_parse(text: str, flops: float) -> None:
    assert parse_flops(text) == flops


@pytest.mark.parametrize("text", ["100", "100 FLOPS", "1 pflops", "-1PFLOPS", "99999999999EFLOPS"])
def test_flops_refuse_what_is_no_rate(text: str) -> None:
    with pytest.raises(UnitError):
        parse_flops(text)


def test_formats_for_people_are_short() -> None:
    assert [format_memory(size) for size in (0, 1, 1024, 3 * GIB, 10**9)] == ["0B", "1B", "1KiB", "3GiB", "1000000000B"]
    assert [format_duration(seconds) for seconds in (0, 5400, 0.25, 86461)] == ["0s", "1h30m", "250ms", "1d1m1s"]
    assert [format_flops(flops) for flops in (1.5e15, 18e18, 2e7, 123456e18)] == ["1.5 PFLOPS", "18 EFLOPS", "0.02 GFLOPS", "123456 EFLOPS"]


@pytest.mark.parametrize(("text", "amount"), [("5.00 CNY", "5.00"), ("0 USD", "0"), (" 12.3456 EUR ", "12.3456")])
def test_money_parses(text: str, amount: str) -> None:
    assert Money.parse(text).amount == Decimal(amount)


@pytest.mark.parametrize("text", ["5.00", "CNY", "5.00CNY", "5.00 GBP", "-5 CNY", "1.23456 CNY", "1e3 CNY", "5,00 CNY", "1" * 16 + " CNY"])
def test_money_refuses_what_is_no_amount(text: str) -> None:
    with pytest.raises(UnitError):
        Money.parse(text)


def test_a_computed_amount_reads_back_however_large_it_is() -> None:
    largest = Money.parse(f"{10**15 - 1}.9999 CNY").times(4096 * 4096).times(36_500 * 24).times(2**30)
    assert Money.read_back(str(largest + largest)) == largest + largest
    with pytest.raises(UnitError, match="more money than cpn counts"):
        Money.parse(str(largest))


def test_money_is_shown_with_two_to_four_places() -> None:
    shown = [str(Money(amount=Decimal(amount), currency="CNY")) for amount in ("5", "5.1", "5.1234", "0.00005")]
    assert shown == ["5.00 CNY", "5.10 CNY", "5.1234 CNY", "0.0001 CNY"]


def test_money_rounds_half_up_when_multiplied() -> None:
    assert Money.parse("0.0001 CNY").times(Decimal("0.5")) == Money.parse("0.0001 CNY")
    assert Money.parse("0.0001 CNY").times(Decimal("0.49")) == Money.parse("0 CNY")


def test_currencies_do_not_mix() -> None:
    with pytest.raises(UnitError, match="USD"):
        Money.parse("1 CNY") + Money.parse("1 USD")


@pytest.mark.parametrize(
    ("field", "value"),
    [("memory", 1024), ("memory", "1"), ("memory", "0GiB"), ("memory", None), ("cpu", "2"), ("cpu", True), ("cpu", 0),
     ("cpu", float("nan")), ("cpu", float("inf")), ("workers", 0), ("workers", 1.5), ("workers", True), ("gpu", 1)],
)  # fmt: skip
def test_resources_refuse_with_the_path(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Resources.model_validate({field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_refusal_says_how_to_write_it() -> None:
    with pytest.raises(ValidationError, match="write it as text, like"):
        Resources.model_validate({"memory": 1073741824})


class _Rates(BaseModel):
    flops: FlopsRate
    price: MoneyAmount


def test_bare_numbers_are_refused_for_rates_and_money() -> None:
    with pytest.raises(ValidationError) as caught:
        _Rates.model_validate({"flops": 1e18, "price": 5})
    assert [error["loc"] for error in caught.value.errors()] == [("flops",), ("price",)]


def test_schema_shows_quantities_as_text() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory = Resources.model_json_schema()["properties"]["memory"]
    assert memory["type"] == "string"
    assert memory["default"] == "1GiB"
