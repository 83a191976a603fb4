"""Tariffs: what hours cost what, how quotes and receipts count them, and what is refused."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.workloads.samples import prices
from workloads.catalogue.pricing import Prices, Quote, Receipt, charged_time, quote_run, settle_run
from workloads.catalogue.tariffs import LONGEST_S, Tariffs, weigh
from workloads.resources import Resources

NIGHT: dict[str, Any] = {"time_zone": "Asia/Shanghai", "hours": [{"from": "22:00", "to": "06:00", "factor": 0.6}]}
HALF: dict[str, Any] = {"time_zone": "UTC", "hours": [{"from": "00:00", "to": "24:00", "factor": 0.5}]}
DOUBLE: dict[str, Any] = {"time_zone": "UTC", "hours": [{"from": "00:00", "to": "24:00", "factor": 2}]}
ONE = Resources.model_validate({"cpu": 1, "memory": "1GiB"})


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-12-01T{text}:00+08:00").timestamp()


def quote(runtime_s: float, begin: str, **changed: Any) -> Quote:
    return quote_run(ONE, [], prices(**changed), "sh", runtime_s, at(begin))


def hours(found: Quote | Receipt) -> list[tuple[float, float]]:
    return [(float(item.factor), float(item.hours)) for item in found.hours]


def test_a_run_is_quoted_for_the_hours_that_it_occupies() -> None:
    found = quote(4 * 3600.0, "20:00", tariffs=NIGHT)
    assert hours(found) == [(0.6, 2.0), (1.0, 2.0)]
    cpu = found.lines[0]
    assert (cpu.quantity, str(cpu.unit_price), str(cpu.amount)) == (Decimal("3.2"), "0.36 CNY", "1.152 CNY")
    assert str(quote(4 * 3600.0, "22:00", tariffs=NIGHT).lines[0].amount) == "0.864 CNY"
    assert str(quote(4 * 3600.0, "10:00", tariffs=NIGHT).lines[0].amount) == "1.44 CNY"


def test_data_and_transfers_cost_the_same_at_every_hour() -> None:
    assert quote(3600.0, "23:00", tariffs=NIGHT, cpu_hour="0.00 CNY", memory_gib_hour="0.00 CNY").total.amount == 0


def test_without_tariffs_nothing_is_said_of_hours() -> None:
    document = quote(3600.0, "23:00").model_dump(mode="json")
    assert set(document) == {"cluster", "currency", "lines", "total"}
    assert set(prices().model_dump(mode="json")) == {"cpu_hour", "memory_gib_hour", "accelerator_hour", "transfer_gib"}
    assert quote(3600.0, "23:00") == quote(3600.0, "10:00")


@pytest.mark.parametrize(
    ("then", "today", "begin", "amount"),
    [
        (NIGHT, NIGHT, "22:00", "0.432 CNY"),
        (NIGHT, NIGHT, "21:00", "0.576 CNY"),  # It began earlier than it was quoted for: the dear hour counts, up to the quote.
        (NIGHT, NIGHT, "05:00", "0.576 CNY"),
        (NIGHT, HALF, "22:00", "0.36 CNY"),  # What fell since the quote counts,
        (NIGHT, DOUBLE, "22:00", "0.432 CNY"),  # and what rose does not.
        (NIGHT, None, "22:00", "0.432 CNY"),
        (None, DOUBLE, "22:00", "0.72 CNY"),
        (None, HALF, "22:00", "0.36 CNY"),
    ],
)
def test_a_receipt_is_for_the_hours_that_were_used(then: Any, today: Any, begin: str, amount: str) -> None:
    found = quote(8 * 3600.0, "22:00", tariffs=then)
    lines = settle_run(found, ONE, [], prices(tariffs=today), 2 * 3600.0, started_at=at(begin))
    assert str(lines[0].amount) == amount


def test_a_receipt_says_which_hours_it_is_for_and_stays_within_its_quote() -> None:
    tariffs = prices(tariffs=NIGHT)
    found = quote_run(ONE, [], tariffs, "sh", 3600.0, at("22:00"))
    lines = settle_run(found, ONE, [], tariffs, 3600.0, started_at=at("06:00"))
    assert [line.amount for line in lines] == [line.amount for line in found.lines]
    receipt = Receipt.of(
        found, lines, job_id="j", run_id="r", tenant="acme", purpose="research", wall_s=3600.0, issued_at=0.0,
        hours=charged_time(found, tariffs, 3600.0, at("06:00")).hours,
    )  # fmt: skip
    assert hours(receipt) == [(1.0, 1.0)]
    assert Receipt.model_validate(receipt.model_dump(mode="json")) == receipt
    assert Quote.model_validate(found.model_dump(mode="json")) == found


def test_fractions_of_seconds_are_not_lost_and_the_longest_runs_are_counted_at_once() -> None:
    tariffs = Tariffs.model_validate(NIGHT)
    seconds, counted = weigh(tariffs, at("20:00") + 0.7, Decimal("7200.25"))
    assert seconds == Decimal("7200") + Decimal("0.25") * Decimal("0.6")
    assert sum(item.hours for item in counted) == Decimal("2.000069444444")
    century = Decimal(36_500 * 86_400)
    assert weigh(tariffs, at("20:00"), century).seconds == weigh(tariffs, at("20:00"), Decimal(LONGEST_S)).seconds + century - LONGEST_S


@pytest.mark.parametrize(
    ("tariffs", "path", "words"),
    [
        ({**NIGHT, "time_zone": "Asia/Shangai"}, "tariffs.time_zone", "IANA"),
        ({"hours": NIGHT["hours"]}, "tariffs.time_zone", "required"),
        ({**NIGHT, "hours": []}, "tariffs.hours", "is empty; name hours"),
        ({**NIGHT, "hours": [{"from": "22:00", "to": "06:00", "factor": 0}]}, "tariffs.hours.0.factor", "greater than 0"),
        ({**NIGHT, "hours": [{"from": "22:00", "to": "06:00", "factor": "cheap"}]}, "tariffs.hours.0.factor", "not a number"),
        ({**NIGHT, "hours": [{"from": "22:00", "to": "06:00", "factor": float("nan")}]}, "tariffs.hours.0.factor", "finite"),
        ({**NIGHT, "hours": [{"from": "22:00", "to": "06:00"}]}, "tariffs.hours.0.factor", "required"),
        ({**NIGHT, "hours": [{"from": 1320, "to": "06:00", "factor": 0.6}]}, "tariffs.hours.0.from", "quotes"),
        (
            {**NIGHT, "hours": [*NIGHT["hours"], {"from": "05:00", "to": "07:00", "days": ["sun"], "factor": 0.8}]},
            "tariffs.hours.1", "05:00-07:00 on sun overlaps with 22:00-06:00; give every hour one value",
        ),
    ],
)  # fmt: skip
def test_bad_tariffs_are_refused_with_path_and_remedy(tariffs: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        prices(tariffs=tariffs)
    [error] = caught.value.errors()
    assert ".".join(str(part) for part in error["loc"]) == path
    assert words in error["msg"]


def test_prices_with_tariffs_read_back_and_write_what_was_written() -> None:
    found = prices(tariffs=NIGHT)
    assert Prices.model_validate_json(found.model_dump_json()) == found
    written = found.model_dump(mode="json")["tariffs"]
    assert written["hours"][0] == {"from": "22:00", "to": "06:00", "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "factor": 0.6}
