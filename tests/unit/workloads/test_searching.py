"""Finding products: each filter by itself, and together."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.workloads.samples import product
from workloads.catalogue.searching import Wanted
from workloads.resources import Money

FLIGHTS = product(description="Flights from New York", price={"per_run": "0.50 CNY", "per_gib": "2.00 CNY"})


@pytest.mark.parametrize(("wanted", "expected"), [
    ({}, True), ({"text": "york FLIGHTS"}, True), ({"text": "york trains"}, False), ({"owner": "nyc-open-data"}, True),
    ({"owner": "nyc"}, False), ({"classification": "internal"}, True), ({"classification": "public"}, False),
    ({"max_price": Money.parse("2.00 CNY")}, True), ({"max_price": Money.parse("1.99 CNY")}, False),
    ({"max_price": Money.parse("9.00 EUR")}, False), ({"text": "flights", "owner": "nyc"}, False),
])  # fmt: skip
def test_what_is_looked_for_is_found(wanted: dict[str, Any], expected: bool) -> None:
    assert Wanted(**wanted).suits(FLIGHTS) is expected


def test_what_is_free_is_within_any_price() -> None:
    assert Wanted(max_price=Money.parse("0.01 EUR")).suits(product())
    assert Wanted(max_price=Money.parse("0.01 EUR")).suits(product(price={"per_run": "0.00 CNY"}))
