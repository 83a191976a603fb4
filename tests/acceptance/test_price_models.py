"""Prices for rows and for the month as owners and buyers meet them: published, quoted, charged as they came, and refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.acceptance.market import Market, manifest

MONTH = datetime.now(UTC).strftime("%Y-%m")
STATEMENT = "inputs: {{flights: {name}@1}}\nsql: SELECT carrier, dep_delay FROM flights"


@pytest.fixture(scope="module")
def sold(market: Market) -> Market:
    """The same data by the row, and by the month."""
    operator = market.operator
    replica = {"cluster": "sh", "uri": (operator.folder / "flights.parquet").as_uri()}
    for name, price in (("nyc/by-row", {"per_row": "0.10 CNY"}), ("nyc/by-month", {"per_month": "30.00 CNY"})):
        document = {"name": name, "owner": "nyc", "classification": "internal", "price": price, "format": "parquet", "replicas": [replica]}
        operator("product", "publish", "-f", operator.write("sold.yaml", document))
        operator("product", "grant", name, "--tenant", "acme", "--purpose", "research")
    return market


def lines(document: Any) -> dict[str, tuple[str, str]]:
    """(quantity, amount) of each position of data."""
    return {line["item"]: (line["quantity"], line["amount"]) for line in document["lines"] if line["item"].startswith("data-")}


def planned(market: Market, file: str) -> Any:
    [verdict] = market.acme("job", "plan", "-f", file, "-o", "json").document["verdicts"]
    return verdict["quote"]


def done(market: Market, file: str, status: int = 0) -> tuple[Any, Any]:
    """The ended job and its receipt."""
    job = market.acme("job", "submit", "-f", file, "--wait", "-o", "json", status=status).document
    return job, market.acme("job", "receipt", job["id"], "-o", "json").document


def test_rows_are_quoted_at_most_and_charged_as_returned(sold: Market) -> None:
    file = manifest(sold.acme, "few", f"{STATEMENT.format(name='nyc/by-row')}\nmax_rows: 50")
    assert lines(planned(sold, file)) == {"data-rows": ("50", "5.00 CNY")}
    job, receipt = done(sold, file)
    assert job["state"] == "succeeded"
    assert lines(receipt) == {"data-rows": ("2", "0.20 CNY")}
    usual = manifest(sold.acme, "usual", STATEMENT.format(name="nyc/by-row"))
    assert lines(planned(sold, usual)) == {"data-rows": ("10000", "1000.00 CNY")}
    assert "0.10 CNY/row" in sold.operator("product", "list").out


def test_a_result_with_more_rows_ends_the_run_and_nothing_is_charged_for_data(sold: Market) -> None:
    file = manifest(sold.acme, "many", f"{STATEMENT.format(name='nyc/by-row')}\nmax_rows: 1")
    job, receipt = done(sold, file, status=1)
    assert (job["state"], job["cause"]) == ("failed", "max_rows")
    assert "more than 1 rows" in job["message"]
    assert "raise max_rows" in job["message"]
    assert lines(receipt) == {}
    assert "there is a result only when it has succeeded" in sold.acme("job", "result", job["id"], status=1).err


def test_a_month_is_charged_with_its_first_use_and_included_after_it(sold: Market) -> None:
    file = manifest(sold.acme, "monthly", STATEMENT.format(name="nyc/by-month"))
    assert lines(planned(sold, file)) == {"data-month": ("1", "30.00 CNY")}
    _, first = done(sold, file)
    assert lines(first) == {"data-month": ("1", "30.00 CNY")}
    assert lines(planned(sold, file)) == {"data-month": ("0", "0.00 CNY")}
    job, second = done(sold, file)
    assert lines(second) == {"data-month": ("0", "0.00 CNY")}
    assert f"included in the subscription of {MONTH}" in sold.acme("job", "receipt", job["id"]).out
    assert f"included in the subscription of {MONTH}" in sold.acme("job", "plan", "-f", file).out
    assert sold.operator("ledger", "verify", "-o", "json").document["sound"] is True


def test_what_counts_no_rows_is_refused_with_the_reason(sold: Market) -> None:
    program = manifest(sold.acme, "program", "inputs: {flights: nyc/by-row@1}\ncommand: [report]", kind="command")
    assert "nyc/by-row has a price for each row that is returned" in sold.acme("job", "submit", "-f", program, status=2).err
    limited = manifest(sold.acme, "limited", "command: [report]\nmax_rows: 5", kind="command")
    assert "max_rows" in sold.acme("job", "submit", "-f", limited, status=2).err


def test_prices_in_two_currencies_are_refused_with_their_field(sold: Market) -> None:
    price = {"per_row": "0.10 CNY", "per_month": "30.00 USD"}
    file = sold.operator.write("two.yaml", {"name": "nyc/two", "owner": "nyc", "classification": "internal", "price": price})
    assert "price.per_month: is in USD, per_row in CNY" in sold.operator("product", "publish", "-f", file, status=2).err
