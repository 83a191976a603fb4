"""Terms of products and licences through the HTTP API: what may be published and granted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_catalogue import grant, publish, reads, table
from tests.network import Network, job, until

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


def command(**fields: Any) -> dict[str, Any]:
    return {**reads(), "kind": "command", "sql": None, "command": ["python", "main.py"], "files": {"main.py": "print(1)"}, **fields}


def obstacles(network: Network, spec: dict[str, Any]) -> dict[str, list[str]]:
    plan = network.ok(network.operator.post("/jobs:plan", json=spec))
    return {item["cluster"]: [obstacle["reason"] for obstacle in item["obstacles"]] for item in plan["verdicts"]}


@pytest.mark.parametrize(("terms", "licence", "spec", "rule"), [
    ({"kinds": ["command"]}, {}, reads(), "product_kind"),
    ({}, {"kinds": ["command"]}, reads(), "licence_kind"),
    ({"delivery": "aggregates-only"}, {}, command(), "product_program"),
    ({"hidden_columns": ["carrier"]}, {}, command(), "product_program"),
])  # fmt: skip
def test_what_the_terms_forbid_everywhere_is_refused_with_a_remedy(
    market: Network, tmp_path: Path, terms: dict[str, Any], licence: dict[str, Any], spec: dict[str, Any], rule: str
) -> None:  # fmt: skip
    publish(market, table(tmp_path), **terms)
    grant(market, **licence)
    answer = market.operator.post("/jobs", json=spec)
    (problem,) = answer.json()["errors"]
    assert (answer.status_code, problem["reason"]) == (403, rule)
    assert "owner nyc" in problem["message"]
    assert market.ok(market.operator.get("/jobs"))["items"] == []


def test_a_program_that_the_owner_permits_by_its_hash_runs(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path), hidden_columns=["carrier"])
    grant(market)
    plan = market.operator.post("/jobs:plan", json=command())
    digest = market.ok(plan)["program"]
    assert market.ok(market.operator.post("/jobs:plan", json=job()))["program"] is None
    terms = {**PRODUCT, "hidden_columns": ["carrier"], "algorithms": [digest]}
    market.ok(market.operator.put("/products/nyc/flights", json=terms))
    assert market.wait(market.submit(command())["id"])["state"] == "succeeded"
    assert market.operator.post("/jobs", json=command(files={"main.py": "print(2)"})).status_code == 403


def test_programs_of_one_class_are_told_apart_while_they_wait(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    market.ok(market.operator.post("/clusters/sh:cordon"))
    permitted, other = market.submit(command())["id"], market.submit(command(files={"main.py": "print(2)"}))["id"]
    digest = market.ok(market.operator.post("/jobs:plan", json=command()))["program"]
    market.ok(market.operator.put("/products/nyc/flights", json={**PRODUCT, "hidden_columns": ["carrier"], "algorithms": [digest]}))
    market.ok(market.operator.post("/clusters/sh:uncordon"))
    assert market.wait(permitted)["state"] == "succeeded"
    until(lambda: market.job(other)["cause"] == "product_program", "the other is held")
    assert market.job(other)["state"] == "queued"


def test_personal_data_needs_the_consent_that_the_licence_names(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    market.ok(market.operator.put("/products/nyc/flights", json={**PRODUCT, "classification": "personal"}))
    answer = market.operator.post("/jobs", json=reads())
    assert (answer.status_code, answer.json()["errors"][0]["reason"]) == (403, "licence_consent")
    grant(market, consent="consent-17")
    assert market.wait(market.submit(reads())["id"])["state"] == "succeeded"


def test_a_job_goes_where_it_is_secured_enough(market: Network, tmp_path: Path) -> None:
    market.add_cluster("vault", cpu_hour="9.00 CNY", security_level=3)
    publish(market, table(tmp_path), security_level=3)
    grant(market)
    assert obstacles(market, reads()) == {"sh": ["product_security"], "vault": []}
    assert market.wait(market.submit(reads())["id"])["cluster"] == "vault"
    market.ok(market.operator.patch("/clusters/vault", json={"security_level": 2}))
    answer = market.operator.post("/jobs", json=reads())
    assert (answer.status_code, answer.json()["errors"][0]["reason"]) == (403, "product_security")


def test_data_that_may_not_be_copied_is_processed_where_it_lies(market: Network, tmp_path: Path) -> None:
    market.add_cluster("gz", jurisdiction="CN-GZ", cpu_hour="0.01 CNY")
    publish(market, table(tmp_path), may_copy=False)
    grant(market)
    assert obstacles(market, reads()) == {"sh": [], "gz": ["product_copy"]}
    assert market.wait(market.submit(reads())["id"])["cluster"] == "sh"
    answer = market.operator.post("/jobs", json=reads(placement={"clusters": ["gz"]}))
    assert (answer.status_code, [item["reason"] for item in answer.json()["errors"]]) == (403, ["product_copy", "job_cluster"])
    assert "run at sh, which holds it" in answer.text


def test_the_catalogue_is_searched(market: Network) -> None:
    for name, more in (("trains", {"owner": "rail", "description": "Delays of trains"}), ("flights", {"price": {"per_run": "0.50 CNY"}})):
        market.ok(market.operator.post("/products", json={**PRODUCT, "name": f"nyc/{name}", **more}))

    def found(**wanted: str) -> list[str]:
        return [item["product"]["name"] for item in market.ok(market.operator.get("/products", params=wanted))["items"]]

    assert found() == ["nyc/flights", "nyc/trains"]
    assert found(search="DELAYS") == found(owner="rail") == found(max_price="0.40 CNY") == ["nyc/trains"]
    assert found(max_price="0.50 CNY", classification="restricted", owner="nyc") == ["nyc/flights"]
    assert found(classification="public") == []
    assert "write it like 5.00 CNY" in faults(market.operator.get("/products", params={"max_price": "cheap"}))["max_price"]
    assert faults(market.operator.get("/products", params={"classification": "secret"}))
