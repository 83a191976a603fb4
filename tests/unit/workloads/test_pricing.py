"""Quotes and receipts: which lines, which amounts, and that a receipt stays within its quote."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from tests.unit.workloads.samples import prices, product, version
from workloads.catalogue.pricing import Prices, Quote, Receipt, quote_run, settle_run
from workloads.catalogue.rates import QuotedInput
from workloads.errors import CurrencyMismatchError
from workloads.resources import Money, Resources

RESOURCES = Resources.model_validate({"cpu": 2, "memory": "4GiB", "workers": 3, "accelerator": {"model": "H200", "count": 8}})
PAID = product(price={"per_run": "1.00 CNY", "per_gib": "0.30 CNY"})
REMOTE = QuotedInput(PAID, version(size_bytes=3 * 2**29), local=False)


def amounts(lines: object) -> dict[str, str]:
    return {line.item: str(line.amount) for line in lines}  # type: ignore[attr-defined]


def test_every_position_of_a_gang_with_remote_paid_data() -> None:
    quote = quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 1800.0)
    assert amounts(quote.lines) == {
        "cpu": "1.08 CNY", "memory": "0.24 CNY", "accelerator": "240.00 CNY",
        "data-run": "1.00 CNY", "data-gib": "0.45 CNY", "transfer": "0.75 CNY",
    }  # fmt: skip
    assert quote.total == Money.parse("243.52 CNY")
    quantities = {line.item: (line.quantity, line.unit) for line in quote.lines}
    assert quantities["cpu"] == (Decimal(3), "core-hour")
    assert quantities["memory"] == (Decimal(6), "GiB-hour")
    assert quantities["accelerator"] == (Decimal(12), "accelerator-hour")
    assert quantities["data-gib"] == (Decimal("1.5"), "GiB")


def test_local_and_free_data_have_no_lines() -> None:
    free = product(price={"per_run": "0.00 CNY"})
    quote = quote_run(Resources(), [QuotedInput(free, version(), local=True)], prices(), "sh-1", 3600.0)
    assert amounts(quote.lines) == {"cpu": "0.36 CNY", "memory": "0.04 CNY"}


def test_a_version_under_two_aliases_is_charged_once() -> None:
    assert quote_run(RESOURCES, [REMOTE, REMOTE], prices(), "sh-1", 60.0) == quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 60.0)


def test_amounts_round_half_up_and_the_total_is_their_sum() -> None:
    tiny = prices(cpu_hour="0.0001 CNY", memory_gib_hour="0.0001 CNY")
    quote = quote_run(Resources(), [], tiny, "sh-1", 1800.0)
    assert amounts(quote.lines) == {"cpu": "0.0001 CNY", "memory": "0.0001 CNY"}
    assert quote.total == Money.parse("0.0002 CNY")


def test_an_accelerator_without_a_price_is_shown_and_not_charged() -> None:
    other = Resources.model_validate({"accelerator": {"model": "A100"}})
    assert amounts(quote_run(other, [], prices(), "sh-1", 3600.0).lines)["accelerator"] == "0.00 CNY"


def test_products_in_another_currency_cannot_be_quoted() -> None:
    with pytest.raises(CurrencyMismatchError, match=r"nycflights/flights is priced in CNY, the cluster charges USD"):
        quote_run(RESOURCES, [REMOTE], prices("USD"), "us-1", 60.0)


def test_prices_are_in_one_currency() -> None:
    with pytest.raises(ValidationError) as caught:
        prices(accelerator_hour={"H200": "3.00 USD"})
    assert [error["loc"] for error in caught.value.errors()] == [("accelerator_hour", "H200")]


def test_prices_need_their_currency() -> None:
    with pytest.raises(ValidationError) as caught:
        Prices.model_validate({"cpu_hour": 1, "memory_gib_hour": "1 CNY", "transfer_gib": "1 CNY"})
    assert [error["loc"] for error in caught.value.errors()] == [("cpu_hour",)]


def test_quote_and_receipt_read_back_from_json() -> None:
    quote = quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 1234.5)
    assert Quote.model_validate(quote.model_dump(mode="json")) == quote
    assert Quote.model_validate_json(quote.model_dump_json()) == quote
    receipt = _receipt(quote, 77.7)
    assert Receipt.model_validate(receipt.model_dump(mode="json")) == receipt
    assert receipt.model_dump(mode="json")["lines"][0]["quantity"] == "0.1295"


def test_used_time_is_charged_and_the_ceiling_holds() -> None:
    quote = quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 1800.0)
    half = amounts(settle_run(quote, RESOURCES, [REMOTE], prices(), 900.0))
    assert half == {**amounts(quote.lines), "cpu": "0.54 CNY", "memory": "0.12 CNY", "accelerator": "120.00 CNY"}
    assert settle_run(quote, RESOURCES, [REMOTE], prices(), 9_999.0) == quote.lines


def test_data_is_charged_on_delivery() -> None:
    quote = quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 1800.0)
    lines = settle_run(quote, RESOURCES, [REMOTE], prices(), 1800.0, delivered=False)
    assert [line.item for line in lines] == ["cpu", "memory", "accelerator", "transfer"]


@pytest.mark.parametrize(
    ("parts", "charged", "note"),
    [
        (0, 0, "nothing was brought in; a copy was there"),
        (1, 1, "only this was brought in; the rest was there"),
        (2, 2, ""),
        (9, 2, ""),
    ],
)
def test_a_transfer_is_charged_by_the_bytes_that_came_and_never_more_than_quoted(parts: int, charged: int, note: str) -> None:
    quote = quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 1800.0)
    (quoted,) = (line for line in quote.lines if line.item == "transfer")
    moved = {REMOTE.version.ref: parts * REMOTE.version.size_bytes // 2}
    (line,) = (line for line in settle_run(quote, RESOURCES, [REMOTE], prices(), 1800.0, moved=moved) if line.item == "transfer")
    assert (line.detail, line.note) == (quoted.detail, note)
    assert line.quantity == quoted.quantity * charged / 2
    assert line.amount == quoted.unit_price.times(line.quantity)


def test_a_share_costs_its_part_of_the_device() -> None:
    shared = Resources.model_validate({"workers": 2, "accelerator": {"model": "H200", "share": 0.25}})
    quote = quote_run(shared, [], prices(), "sh-1", 3600.0)
    (line,) = (line for line in quote.lines if line.item == "accelerator")
    assert (line.detail, str(line.quantity)) == ("0.25 H200, 2 workers", "0.5")
    assert line.amount == line.unit_price.times("0.5")
    (settled,) = (line for line in settle_run(quote, shared, [], prices(), 1800.0) if line.item == "accelerator")
    assert (settled.detail, str(settled.quantity)) == (line.detail, "0.25")


def test_a_price_that_rose_does_not_count_and_one_that_fell_does() -> None:
    quote = quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 1800.0)
    changed = prices(cpu_hour="9.00 CNY", memory_gib_hour="0.01 CNY")
    settled = amounts(settle_run(quote, RESOURCES, [REMOTE], changed, 1800.0))
    assert settled["cpu"] == "1.08 CNY"
    assert settled["memory"] == "0.06 CNY"


@pytest.mark.parametrize("now_in", ["cluster", "product"])
def test_a_currency_changed_since_the_quote_leaves_the_quoted_prices(now_in: str) -> None:
    quote = quote_run(RESOURCES, [REMOTE], prices(), "sh-1", 1800.0)
    dollars = QuotedInput(product(price={"per_run": "1.00 USD"}), REMOTE.version, local=False)
    changed = (prices("USD"), [REMOTE]) if now_in == "cluster" else (prices(), [dollars])
    settled = settle_run(quote, RESOURCES, changed[1], changed[0], 900.0)
    assert settled == settle_run(quote, RESOURCES, [REMOTE], prices(), 900.0)


def test_a_receipt_over_its_quote_cannot_be_made() -> None:
    quote = quote_run(RESOURCES, [], prices(), "sh-1", 60.0)
    dearer = quote_run(RESOURCES, [], prices(), "sh-1", 120.0)
    with pytest.raises(ValidationError, match="exceeds the quote"):
        Receipt.of(quote, dearer.lines, job_id="j", run_id="r", tenant="acme", purpose="research", wall_s=60.0, issued_at=0.0)


def test_a_quote_that_does_not_add_up_cannot_be_read() -> None:
    document = quote_run(RESOURCES, [], prices(), "sh-1", 60.0).model_dump(mode="json")
    with pytest.raises(ValidationError, match="do not add up"):
        Quote.model_validate({**document, "total": "1.00 CNY"})


def test_a_quote_of_the_largest_prices_and_gangs_reads_back() -> None:
    dear = f"{10**15 - 1}.9999 CNY"
    largest = Resources.model_validate({"cpu": 4096, "memory": "1TiB", "workers": 4096, "accelerator": {"model": "H200", "count": 1024}})
    listed = prices(cpu_hour=dear, memory_gib_hour=dear, transfer_gib=dear, accelerator_hour={"H200": dear})
    quote = quote_run(largest, [REMOTE], listed, "sh-1", 36_500 * 86_400.0)
    assert quote.total.amount > 10**28
    assert Quote.model_validate(quote.model_dump(mode="json")) == quote


def _receipt(quote: Quote, wall_s: float) -> Receipt:
    lines = settle_run(quote, RESOURCES, [REMOTE], prices(), wall_s)
    return Receipt.of(quote, lines, job_id="j-1", run_id="r-1", tenant="acme", purpose="research", wall_s=wall_s, issued_at=1.5)
