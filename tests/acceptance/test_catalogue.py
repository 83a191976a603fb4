"""Data products and rights through the HTTP API: what may run where, and why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.network import Network, job, until


def table(folder: Path, name: str = "flights") -> str:
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"carrier": ["AA", "UA", "AA"], "dep_delay": [1.5, None, 3.0]}), path)
    return f"file://{path}"


def publish(network: Network, uri: str, *, at: str = "sh", **terms: Any) -> Any:
    product = {"name": "nyc/flights", "owner": "nyc", "classification": "restricted", **terms}
    network.ok(network.operator.post("/products", json=product))
    version = {"format": "parquet", "replicas": [{"cluster": at, "uri": uri}]}
    return network.ok(network.operator.post("/products/nyc/flights/versions", json=version))


def grant(network: Network, **fields: Any) -> Any:
    return network.ok(network.operator.post("/products/nyc/flights/licences", json={"tenant": "acme", "purposes": ["research"], **fields}))


def reads(**fields: Any) -> dict[str, Any]:
    return job(inputs={"flights": "nyc/flights@1"}, sql="SELECT carrier, count(*) AS n FROM flights GROUP BY carrier", **fields)


@pytest.fixture
def market(network: Network) -> Network:
    """Two members, and flights at the first."""
    network.add_cluster("sh", cpu_hour="0.90 CNY")
    network.add_cluster("gz", jurisdiction="CN-GZ", cpu_hour="0.10 CNY")
    return network


def test_a_version_is_described_from_its_data(market: Network, tmp_path: Path) -> None:
    version = publish(market, table(tmp_path))
    assert (version["version"], version["rows"], len(version["sha256"])) == (1, 3, 64)
    assert version["columns"] == [{"name": "carrier", "type": "VARCHAR"}, {"name": "dep_delay", "type": "DOUBLE"}]
    shown = market.ok(market.operator.get("/products/nyc/flights"))
    assert [item["version"] for item in shown["versions"]] == [1]


def test_replicas_must_hold_the_same_bytes(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), other)
    replicas = [{"cluster": "sh", "uri": table(tmp_path)}, {"cluster": "gz", "uri": f"file://{other}"}]
    answer = market.operator.post("/products/nyc/flights/versions", json={"format": "parquet", "replicas": replicas})
    assert answer.status_code == 422
    assert "same bytes" in answer.json()["detail"]


def test_data_that_is_not_there_is_refused(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    for replica in ({"cluster": "sh", "uri": f"file://{tmp_path}/missing.parquet"}, {"cluster": "mars", "uri": table(tmp_path)}):
        answer = market.operator.post("/products/nyc/flights/versions", json={"format": "parquet", "replicas": [replica]})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["path"].startswith("replicas.0.")


def test_lines_that_are_cut_and_columns_that_differ_are_refused(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    whole.write_text('{"carrier": "AA", "delay": 1}\n')
    cut.write_text('{"carrier": "AA", "delay": 1}\n{"carrier": "UA", "del')

    def answered(path: Path, **fields: Any) -> Any:
        version = {"format": "jsonl", "replicas": [{"cluster": "sh", "uri": path.as_uri()}], **fields}
        return market.operator.post("/products/nyc/flights/versions", json=version)

    refused = answered(cut)
    (fault,) = refused.json()["errors"]
    assert (refused.status_code, fault["path"], fault["reason"]) == (422, "replicas.0.uri", "data")
    assert "line 2 is no JSON; is the file cut off?" in fault["message"]
    asked = [{"name": "carrier", "type": "VARCHAR"}, {"name": "delay", "type": "DOUBLE"}, {"name": "tail", "type": "VARCHAR"}]
    (fault,) = answered(whole, columns=asked).json()["errors"]
    assert (fault["path"], fault["reason"]) == ("columns", "schema")
    assert "delay is BIGINT instead of DOUBLE, tail is missing" in fault["message"]
    asked = [{"name": "carrier", "type": "VARCHAR"}, {"name": "delay", "type": "BIGINT"}]
    assert "order" in answered(whole, columns=asked[::-1]).json()["errors"][0]["message"]
    assert answered(whole, columns=asked[:1]).json()["errors"][0]["message"].count("delay is not asked for") == 1
    assert market.ok(answered(whole, columns=asked))["columns"] == asked


def test_without_a_licence_a_job_is_refused_and_nothing_is_stored(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    answer = market.operator.post("/jobs", json=reads())
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["reason"] == "licence_missing"
    assert market.ok(market.operator.get("/jobs"))["items"] == []


def test_a_purpose_that_the_licence_lacks_is_refused(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    answer = market.operator.post("/jobs", json=reads(purpose="marketing"))
    assert (answer.status_code, answer.json()["errors"][0]["reason"]) == (403, "licence_purpose")
    assert "marketing" in answer.json()["detail"]
    assert 'cpn_jobs_refused_total{reason="licence_purpose"} 1.0' in metrics(market)


def test_with_a_licence_it_goes_to_the_cheaper_cluster(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    done = market.wait(market.submit(reads(max_runtime="1h"))["id"])
    assert (done["state"], done["cluster"]) == ("succeeded", "gz")


@pytest.mark.parametrize(("terms", "licence", "rule"), [
    ({"jurisdictions": ["CN-SH"]}, {}, "product_jurisdiction"),
    ({}, {"jurisdictions": ["CN-SH"]}, "licence_jurisdiction"),
])  # fmt: skip
def test_residency_forces_the_dearer_cluster_and_is_explained(
    market: Network, tmp_path: Path, terms: dict[str, Any], licence: dict[str, Any], rule: str
) -> None:
    publish(market, table(tmp_path), **terms)
    grant(market, **licence)
    plan = market.ok(market.operator.post("/jobs:plan", json=reads(max_runtime="1h")))
    verdicts = {item["cluster"]: item for item in plan["verdicts"]}
    assert plan["chosen"] == "sh"
    assert verdicts["gz"]["verdict"] == "refused"
    assert [item["reason"] for item in verdicts["gz"]["obstacles"]] == [rule]
    assert market.wait(market.submit(reads(max_runtime="1h"))["id"])["cluster"] == "sh"


def test_a_wider_jurisdiction_covers_its_parts(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path), jurisdictions=["CN"])
    grant(market, jurisdictions=["CN"])
    assert market.wait(market.submit(reads())["id"])["state"] == "succeeded"


def test_revoking_stops_what_waits(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    licence = grant(market)
    for name in ("sh", "gz"):
        market.ok(market.operator.post(f"/clusters/{name}:cordon"))
    waiting = market.submit(reads())["id"]
    until(lambda: market.job(waiting)["cause"] == "cluster_cordoned", "the job waits")
    market.ok(market.operator.delete(f"/products/nyc/flights/licences/{licence['id']}"))
    for name in ("sh", "gz"):
        market.ok(market.operator.post(f"/clusters/{name}:uncordon"))
    until(lambda: market.job(waiting)["cause"] == "licence_missing", "the reason is the licence")
    assert market.job(waiting)["state"] == "queued"
    assert not market.clusters["sh"].started
    assert not market.clusters["gz"].started


def test_unknown_columns_are_refused_before_anything_runs(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    answer = market.operator.post("/jobs", json={**reads(), "sql": "SELECT altitude FROM flights"})
    assert answer.status_code == 422
    assert "altitude" in answer.json()["detail"]


def test_a_function_over_columns_that_are_not_there_or_too_many_partitions_is_refused(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    grant(market)
    asked = {**reads(), "kind": "map", "sql": None, "files": {"a.py": "def fn(table): return table"}}
    answer = market.operator.post("/jobs", json={**asked, "map": {"function": "a.py", "columns": ["altitude"]}})
    assert (answer.status_code, [item["path"] for item in answer.json()["errors"]]) == (422, ["map.columns.0"])
    assert "input flights has no column 'altitude'; it has: " in answer.text
    accepted = market.ok(market.operator.post("/jobs:plan", json={**asked, "map": {"function": "a.py", "rows": 1}}))
    assert accepted["chosen"] is not None


def test_terms_change_only_on_purpose(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path))
    product = {"name": "nyc/flights", "owner": "nyc", "classification": "public"}
    assert market.operator.post("/products", json=product).status_code == 409
    assert market.ok(market.operator.put("/products/nyc/flights", json=product))["product"]["classification"] == "public"


def test_data_is_charged_by_its_price_and_only_when_delivered(market: Network, tmp_path: Path) -> None:
    publish(market, table(tmp_path), price={"per_run": "0.50 CNY"})
    grant(market)
    done = market.wait(market.submit(reads())["id"])
    receipt = market.ok(market.operator.get(f"/jobs/{done['id']}/receipt"))
    lines = {line["item"]: line["amount"] for line in receipt["lines"]}
    assert lines["data-run"] == "0.50 CNY"


def metrics(network: Network) -> str:
    text: str = network.operator.get(f"{network.url}/metrics").text
    return text
