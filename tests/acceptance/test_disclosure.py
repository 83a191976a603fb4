"""Statements over products whose owners hide columns, mask them or answer about groups only, through the HTTP API: what runs is executed
on the data by the member's script, as a worker would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import Preview, RunRequest
from tests.acceptance.test_catalogue import grant, publish, reads
from tests.network import Network, until
from workloads.catalogue.locations import local_path
from workloads.runners.sql import InputTable, run_statement

PRODUCT = {"name": "nyc/flights", "owner": "nyc", "classification": "restricted"}
GROUPS = {"delivery": "aggregates-only", "min_group": 3}
ROWS = "SELECT carrier, dep_delay FROM flights ORDER BY ALL"


class Member:
    """What a member runs: the statement that it was sent, on the inputs that it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sent, self.failure = folder, list[str](), ""

    def behave(self, run: RunRequest) -> Behaviour:
        """Run a statement here and now."""
        assert run.sql is not None
        self.sent.append(run.sql)
        if self.failure:
            return Behaviour(outcome="failed", category="statement", message=self.failure)
        paths = {alias: local_path(given.uri) for alias, given in run.inputs.items()}
        tables = {alias: InputTable(path, run.inputs[alias].format) for alias, path in paths.items() if path is not None}
        done = run_statement(run.sql, tables, directory=self.folder / run.run_id, memory_bytes=256 * 1024**2, threads=1)
        return Behaviour(preview=Preview(columns=done.columns, types=done.types, rows=done.rows, total_rows=done.total_rows))


def flights(folder: Path) -> str:
    path = folder / "flights.parquet"
    carriers = ["AA"] * 5 + ["UA"] * 4 + ["ZZ"]
    pq.write_table(
        pa.table({"carrier": carriers, "dep_delay": [float(number) for number in range(10)], "tail": [f"N{n}" for n in range(10)]}), path
    )
    return f"file://{path}"


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return Member(tmp_path / "runs")


@pytest.fixture
def market(network: Network, member: Member) -> Network:
    """One member that runs statements."""
    network.add_cluster("sh", script=member.behave)
    return network


def asked(sql: str, **fields: Any) -> dict[str, Any]:
    return {**reads(), "sql": sql, **fields}


def rows(network: Network, job: Any) -> list[list[object]]:
    found: list[list[object]] = network.ok(network.operator.get(f"/jobs/{job['id']}/result"))["preview"]["rows"]
    return found


def test_groups_that_are_too_small_are_left_out(market: Network, member: Member, tmp_path: Path) -> None:
    publish(market, flights(tmp_path), **GROUPS)
    grant(market)
    sql = "SELECT carrier, count(*) AS n, avg(dep_delay) AS delay FROM flights GROUP BY carrier ORDER BY carrier"
    why = "nyc/flights answers about groups of at least 3 rows only: smaller ones are left out"
    plan = market.ok(market.operator.post("/jobs:plan", json=asked(sql)))
    assert (plan["chosen"], plan["rewritten"]) == ("sh", [why])
    done = market.wait(market.submit(asked(sql))["id"])
    assert (done["state"], done["spec"]["sql"], done["rewritten"]) == ("succeeded", sql, [why])
    assert rows(market, done) == [["AA", 5, 2.0], ["UA", 4, 6.5]]
    assert sql not in member.sent[0]
    assert "COUNT(*) >= 3" in member.sent[0]
    events = market.ok(market.operator.get(f"/jobs/{done['id']}/events"))["items"]
    assert any(f"another statement runs in place of the job's: {why}" in event["message"] for event in events)
    assert "rewritten" not in market.ok(market.operator.get("/jobs"))["items"][0]


@pytest.mark.parametrize(
    ("terms", "sql", "rule", "words"),
    [
        (GROUPS, "SELECT carrier, dep_delay FROM flights", "disclosure_rows", "use GROUP BY or aggregates over its rows"),
        (GROUPS, "SELECT max(dep_delay) FROM flights", "disclosure_aggregate", "use count, count_if"),
        (GROUPS, "SELECT sum(dep_delay * dep_delay % 7) FROM flights", "disclosure_amount", "put conditions into WHERE"),
        ({"hidden_columns": ["tail"]}, "SELECT tail FROM flights", "hidden_column", "column tail of nyc/flights is hidden"),
        ({"hidden_columns": ["tail"]}, "SELECT carrier FROM flights ORDER BY tail", "hidden_column", "ask owner nyc"),
    ],
)
def test_what_would_tell_too_much_is_refused_with_rule_and_remedy(
    market: Network, member: Member, tmp_path: Path, terms: dict[str, Any], sql: str, rule: str, words: str
) -> None:
    publish(market, flights(tmp_path), **terms)
    grant(market)
    answer = market.operator.post("/jobs", json=asked(sql))
    (problem,) = answer.json()["errors"]
    assert (answer.status_code, problem["path"], problem["reason"]) == (403, "sql", "product_disclosure")
    assert f"({rule})" in problem["message"]
    assert words in problem["message"]
    plan = market.ok(market.operator.post("/jobs:plan", json=asked(sql)))
    assert (plan["chosen"], plan["rewritten"]) == (None, [])
    assert [item["reason"] for item in plan["verdicts"][0]["obstacles"]] == ["product_disclosure"]
    batch = market.ok(market.operator.post("/jobs:batch", json={"items": [{"job": asked(sql)}]}))
    assert "product_disclosure" in str(batch)
    assert member.sent == []
    assert market.ok(market.operator.get("/jobs"))["items"] == []


def test_hidden_and_masked_columns(market: Network, member: Member, tmp_path: Path) -> None:
    publish(market, flights(tmp_path), hidden_columns=["tail"], masked_columns={"dep_delay": "null"})
    grant(market)
    done = market.wait(market.submit(asked("SELECT * FROM flights WHERE carrier = 'ZZ'"))["id"])
    assert rows(market, done) == [["ZZ", None]]
    assert member.sent[0].startswith("SELECT * FROM (SELECT")
    assert done["rewritten"] == ["nyc/flights has hidden columns: tail", "nyc/flights has masked columns: dep_delay (null)"]


def test_terms_that_change_while_a_job_waits_hold_for_it(market: Network, member: Member, tmp_path: Path) -> None:
    publish(market, flights(tmp_path))
    grant(market)
    market.ok(market.operator.post("/clusters/sh:cordon"))
    named, grouped = market.submit(asked(ROWS))["id"], market.submit(asked("SELECT count(*) AS n FROM flights"))["id"]
    market.ok(market.operator.put("/products/nyc/flights", json={**PRODUCT, **GROUPS}))
    market.ok(market.operator.post("/clusters/sh:uncordon"))
    assert rows(market, market.wait(grouped)) == [[10]]
    assert "COUNT(*) >= 3" in member.sent[0]
    until(lambda: market.job(named)["cause"] == "product_disclosure", "the other is held")
    assert market.job(named)["state"] == "queued"
    explained = market.ok(market.operator.get(f"/jobs/{named}/explanation"))
    assert "disclosure_rows" in str(explained)
    market.ok(market.operator.put("/products/nyc/flights", json={**PRODUCT, "masked_columns": {"carrier": "null"}}))
    assert rows(market, market.wait(named))[0] == [None, 0.0]


def test_a_product_without_such_terms_runs_what_was_submitted(market: Network, member: Member, tmp_path: Path) -> None:
    publish(market, flights(tmp_path))
    grant(market)
    done = market.wait(market.submit(asked(ROWS))["id"])
    assert member.sent == [ROWS]
    assert done["state"] == "succeeded"
    assert "rewritten" not in done
    assert market.ok(market.operator.post("/jobs:plan", json=asked(ROWS)))["rewritten"] == []


def test_what_a_statement_failed_on_is_not_told(market: Network, member: Member, tmp_path: Path) -> None:
    publish(market, flights(tmp_path), **GROUPS)
    grant(market)
    member.failure = "Could not convert string 'N7' to INT32"
    failed = market.wait(market.submit(asked("SELECT count(*) AS n FROM flights"))["id"])
    assert failed["state"] == "failed"
    assert "N7" not in str(failed)
    assert "what it failed on is not told" in failed["message"]
    market.ok(market.operator.put("/products/nyc/flights", json={**PRODUCT, "hidden_columns": ["tail"]}))
    failed = market.wait(market.submit(asked("SELECT count(*) AS m FROM flights"))["id"])
    assert member.failure in failed["message"]


def test_statements_about_groups_are_for_duckdb(market: Network, tmp_path: Path) -> None:
    publish(market, flights(tmp_path), **GROUPS)
    grant(market)
    sql = "SELECT carrier, count(*) AS n FROM flights GROUP BY carrier"
    answer = market.operator.post("/jobs", json=asked(sql, engine="daft", resources={"cpu": 1, "memory": "1GiB", "workers": 2}))
    assert answer.status_code == 422
    assert "answers about groups only, which is for DuckDB" in answer.text
    plan = market.ok(market.operator.post("/jobs:plan", json=asked(sql, resources={"cpu": 1, "memory": "1GiB", "workers": 2})))
    assert plan["engine"]["engine"] == "duckdb"
    hashed = {**PRODUCT, "masked_columns": {"carrier": "hash"}}
    market.ok(market.operator.put("/products/nyc/flights", json=hashed))
    answer = market.operator.post("/jobs", json=asked(sql, engine="daft", resources={"cpu": 1, "memory": "1GiB", "workers": 2}))
    assert answer.status_code == 422
    assert "Daft cannot run it" in answer.text
    market.ok(market.operator.put("/products/nyc/flights", json={**PRODUCT, "hidden_columns": ["tail"]}))
    spread = market.ok(
        market.operator.post("/jobs:plan", json=asked(sql, engine="daft", resources={"cpu": 1, "memory": "1GiB", "workers": 2}))
    )
    assert (spread["engine"]["engine"], spread["rewritten"]) == ("daft", ["nyc/flights has hidden columns: tail"])
