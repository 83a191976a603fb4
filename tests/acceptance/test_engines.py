"""The engine of a statement as buyers meet it: chosen, told and charged, on a member in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from cluster.backends.memory import Behaviour
from cluster.protocol import RunRequest
from controlplane.cli.main import app
from tests.network import Network, job, node

FLIGHTS = {"flights": "nyc/flights@1"}
SQL = "SELECT carrier, sum(delay) AS delay FROM flights GROUP BY carrier"


@pytest.fixture
def asked() -> list[RunRequest]:
    """What the member was asked to run."""
    return []


@pytest.fixture
def market(network: Network, tmp_path: Path, asked: list[RunRequest]) -> Network:
    def behave(run: RunRequest) -> Behaviour:
        asked.append(run)
        return Behaviour()

    network.add_cluster("sh", node("n1", 8), script=behave)
    path = tmp_path / "flights.parquet"
    pq.write_table(pa.table({"carrier": ["UA", "AA"] * 500, "delay": list(range(1000))}), path)
    network.ok(network.operator.post("/products", json={"name": "nyc/flights", "owner": "nyc", "classification": "public"}))
    version = {"format": "parquet", "replicas": [{"cluster": "sh", "uri": path.as_uri()}]}
    network.ok(network.operator.post("/products/nyc/flights/versions", json=version))
    network.ok(network.operator.post("/products/nyc/flights/licences", json={"tenant": "acme", "purposes": ["research"]}))
    return network


def statement(sql: str = SQL, *, memory: str = "1GiB", workers: int = 3, **fields: Any) -> dict[str, Any]:
    resources = {"cpu": 1, "memory": memory, "workers": workers}
    return job("delays", kind="sql", sql=sql, inputs=FLIGHTS, resources=resources, max_runtime="1h", **fields)


def test_small_inputs_go_to_duckdb_and_pay_one_worker(market: Network, asked: list[RunRequest]) -> None:
    plan = market.ok(market.operator.post("/jobs:plan", json=statement()))
    assert (plan["engine"]["engine"], plan["engine"]["workers"], plan["engine"]["asked_workers"]) == ("duckdb", 1, 3)
    assert "fit the 1GiB of one worker" in plan["engine"]["reason"]
    done = market.wait(market.submit(statement())["id"])
    assert (done["state"], len(done["nodes"]), done["quote"]["total"]) == ("succeeded", 1, plan["verdicts"][0]["quote"]["total"])
    assert [(run.engine, len(run.nodes)) for run in asked] == [("duckdb", 1)]


def test_inputs_beyond_one_worker_go_to_daft_which_plan_event_job_and_receipt_say(
    market: Network, asked: list[RunRequest], tmp_path: Path
) -> None:
    large = statement(memory="16KiB")
    path = tmp_path / "job.json"
    path.write_text(json.dumps(large))
    environment = {"CPN_SERVER": market.url, "CPN_TOKEN": market.operator_token(), "COLUMNS": "200"}
    told = CliRunner().invoke(app, ["job", "plan", "-f", str(path)], env=environment).stdout
    assert "Runs on Daft, with 3 workers: about 1MiB of input are more than the 16KiB of one worker" in told
    done = market.wait(market.submit(large)["id"])
    assert (done["state"], len(done["nodes"])) == ("succeeded", 3)
    assert [(run.engine, len(run.nodes), run.or_duckdb) for run in asked] == [("daft", 3, True)]
    events = market.ok(market.operator.get(f"/jobs/{done['id']}/events"))["items"]
    assert any("runs on daft, 3 of 3 workers" in event["message"] for event in events)
    receipt = market.ok(market.operator.get(f"/jobs/{done['id']}/receipt"))
    assert receipt["engine"] == done["spec"]["chosen_engine"]
    assert "are more than" in receipt["engine"]["reason"]
    for words in (["job", "show", done["id"]], ["job", "receipt", done["id"]]):
        assert "Runs on Daft" in CliRunner().invoke(app, words, env=environment).stdout


def test_what_daft_cannot_run_is_named_and_goes_to_duckdb(market: Network) -> None:
    windowed = "SELECT carrier, rank() OVER (ORDER BY delay) AS place FROM flights"
    plan = market.ok(market.operator.post("/jobs:plan", json=statement(windowed, memory="16KiB")))
    assert (plan["engine"]["engine"], plan["engine"]["reason"]) == ("duckdb", "Daft cannot run it: window expressions")
    refused = market.operator.post("/jobs", json=statement(windowed, engine="daft"))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"] == "engine"
    assert "give engine: auto" in refused.text


def test_the_same_submission_under_a_key_gives_the_same_job(market: Network) -> None:
    first, again = (market.submit(statement(), **{"Idempotency-Key": "once"}) for _ in range(2))
    assert first["id"] == again["id"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"engine": "duckdb"}, "resources.workers"),
        ({"engine": "spark"}, "engine"),
        ({"chosen_engine": {"asked": "auto", "engine": "daft", "workers": 3, "asked_workers": 3, "reason": "", "input_bytes": 0,
                            "one_worker_s": 0}}, "chosen_engine"),
        ({"sql": "SELECT * FROM read_parquet('/etc/x')"}, "sql"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_path(market: Network, fields: dict[str, Any], path: str) -> None:
    answer = market.operator.post("/jobs", json={**statement(), **fields})
    assert answer.status_code == 422
    assert path in [error["path"] for error in answer.json()["errors"]]
