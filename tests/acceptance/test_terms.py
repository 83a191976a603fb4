"""Terms of products and licences through the HTTP API: what may be published and granted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_catalogue import grant, publish, table
from tests.network import Network

TERMS = {
    "security_level": 2, "delivery": "aggregates-only", "min_group": 5, "hidden_columns": ["carrier"],
    "masked_columns": {"dep_delay": "null"}, "kinds": ["sql", "command"], "algorithms": ["ab" * 32], "may_copy": False,
}  # fmt: skip
PRODUCT = {"name": "nyc/flights", "owner": "nyc", "classification": "restricted"}


@pytest.fixture
def market(network: Network) -> Network:
    """One member, secured somewhat."""
    network.add_cluster("sh")
    return network


def faults(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {item["path"]: item["message"] for item in answer.json()["errors"]}


def test_terms_read_back_as_they_were_published(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path), **TERMS)
    shown = market.ok(market.operator.get("/products/nyc/flights"))["product"]
    assert {name: shown[name] for name in TERMS} == TERMS
    assert market.operator.post("/products", json={**PRODUCT, **TERMS}).status_code == 200
    assert market.operator.post("/products", json={**PRODUCT, **TERMS, "min_group": 6}).status_code == 409


def test_terms_over_columns_that_the_data_does_not_have_are_refused(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    answer = market.operator.put("/products/nyc/flights", json={**PRODUCT, "hidden_columns": ["carrier", "email"]})
    assert faults(answer).keys() == {"hidden_columns.1"}
    assert "it has: carrier, dep_delay" in answer.text
    answer = market.operator.put("/products/nyc/flights", json={**PRODUCT, "masked_columns": {"carrier": "year"}})
    assert "it is VARCHAR" in faults(answer)["masked_columns.carrier"]
    market.ok(market.operator.put("/products/nyc/flights", json={**PRODUCT, "masked_columns": {"carrier": "hash"}}))


def test_a_version_without_a_column_that_the_terms_hide_is_refused(market: Network, tmp_path: Path) -> None:
    market.ok(market.operator.post("/products", json={**PRODUCT, "hidden_columns": ["email"]}))
    version = {"format": "parquet", "replicas": [{"cluster": "sh", "uri": table(tmp_path)}]}
    assert "no such column" in faults(market.operator.post("/products/nyc/flights/versions", json=version))["hidden_columns.0"]
    assert market.ok(market.operator.get("/products/nyc/flights"))["versions"] == []


def test_a_grant_stays_within_the_terms(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path), classification="personal", kinds=["sql"])
    asked = {"tenant": "acme", "purposes": ["research"], "kinds": ["sql", "training"], "runs": 0, "gib": "none"}
    assert faults(market.operator.post("/products/nyc/flights/licences", json=asked)).keys() == {"runs", "gib"}
    asked |= {"runs": 2, "gib": "0.5"}
    assert faults(market.operator.post("/products/nyc/flights/licences", json=asked)).keys() == {"kinds", "consent"}
    granted = grant(market, kinds=["sql"], runs=2, gib="0.5", consent="consent-17")
    (listed,) = market.ok(market.operator.get("/products/nyc/flights/licences"))["items"]
    assert listed == granted
    assert (granted["runs"], granted["gib"], granted["kinds"], granted["consent"]) == (2, "0.5", ["sql"], "consent-17")


def test_the_level_of_a_cluster_is_shown_and_changed(market: Network) -> None:
    assert market.ok(market.operator.get("/clusters/sh"))["security_level"] == 0
    assert market.ok(market.operator.patch("/clusters/sh", json={"security_level": 4}))["security_level"] == 4
    assert faults(market.operator.patch("/clusters/sh", json={"security_level": 9})).keys() == {"security_level"}
