"""Statements on Daft on a real Ray: DuckDB's rows and types, the granted resources and no more, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from cluster.protocol import RunFinished, RunRequest
from controlplane.tpch import make_data, queries
from tests.network import until
from tests.ray import CPUS, Connection, SmallRay
from tests.ray_runs import MIB, input_file
from tests.ray_runs import request as run_request
from tests.tpch import same_rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SCALE = 0.01


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_data(tmp_path_factory.mktemp("tpch"), SCALE)


def on_daft(node: str, sql: str, inputs: dict[str, Path], second: str = "", **fields: Any) -> RunRequest:
    """For two workers, both on the node or one on each."""
    files = {alias: input_file(path) for alias, path in inputs.items()}
    usual: dict[str, Any] = {"cpu": 1.0, "memory_bytes": 256 * MIB}
    return run_request((node, second or node), kind="sql", sql=sql, engine="daft", inputs=files, **{**usual, **fields})


def rows(end: RunFinished) -> list[tuple[object, ...]]:
    table = pq.read_table(Path(end.directory, end.files[0].name))
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@pytest.mark.parametrize(("spread", "query"), [(False, "q9"), (True, "q12")], ids=["one node", "two nodes"])
def test_two_workers_give_the_rows_and_types_of_duckdb(
    member: Connection, node: str, tables: dict[str, Path], spread: bool, query: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    second = request.getfixturevalue("second") if spread else ""
    sql = queries(SCALE)[query]
    inputs = {table: path for table, path in tables.items() if table in sql}
    if spread:
        # Each node makes a copy of its own, and both have to be cut alike.
        inputs["orders"] = tmp_path / "orders.jsonl"
        duckdb.sql(f"COPY (FROM '{tables['orders']}') TO '{inputs['orders']}' (FORMAT json)")
    end = member.run(on_daft(node, sql, inputs, second))
    assert (end.outcome, end.message) == ("succeeded", "")
    with duckdb.connect() as direct:
        for table, path in tables.items():
            direct.execute(f"CREATE VIEW {table} AS FROM '{path}'")
        expected = direct.sql(sql)
        assert same_rows(rows(end), expected.fetchall())
        assert end.preview is not None
        assert end.preview.types == tuple(map(str, expected.types))
        assert end.preview.total_rows == len(rows(end)) > 0
    assert end.usage.cpu_s > 0


def test_an_input_of_many_parts_is_read_whole(member: Connection, node: str, tmp_path: Path) -> None:
    # More parts than the workers have cores for: Daft would have the cluster grow then.
    with duckdb.connect() as direct:
        direct.execute(f"COPY (SELECT range AS n, range % 7 AS k FROM range(3000000)) TO '{tmp_path}/large.parquet'")
        expected = direct.sql(f"SELECT k, count(*), sum(n) FROM '{tmp_path}/large.parquet' GROUP BY k").fetchall()
    sql = "SELECT k, count(*) AS c, sum(n) AS s FROM large GROUP BY k ORDER BY k"
    # All cores of the node: nothing else of the run may hold any.
    end = member.run(on_daft(node, sql, {"large": tmp_path / "large.parquet"}, cpu=CPUS / 2))
    assert (end.outcome, end.message) == ("succeeded", "")
    assert same_rows(rows(end), expected)


def daft_workers(head: SmallRay) -> list[int]:
    return [pid for pid, words in head.processes().items() if "DaftWorker" in words]


def driver(head: SmallRay) -> int:
    (found,) = (pid for pid, words in head.processes().items() if "daft_driver" in words and "leash.py" not in words)
    return found


def test_a_cancelled_statement_takes_its_workers_with_it(
    member: Connection, node: str, second: str, tables: dict[str, Path], ray_head: SmallRay
) -> None:
    run = on_daft(node, queries(SCALE)["q6"], {"lineitem": tables["lineitem"]}, second)
    member.start(run)
    member.started(run.run_id)
    until(lambda: len(daft_workers(ray_head)) == 2, "each node has one process", 60.0)
    # Who drives them is held where it is, so that the run cannot be done before.
    os.kill(driver(ray_head), signal.SIGSTOP)
    member.stop(run.run_id, "cancelled", grace_s=0.5)
    end = member.end_of(run.run_id)
    assert (end.outcome, end.category) == ("cancelled", "cancelled")
    until(lambda: not daft_workers(ray_head), "what held the run's cores is gone")


@pytest.mark.parametrize(("spread", "granted"), [(False, "512MiB"), (True, "256MiB")], ids=["one node", "two nodes"])
def test_a_statement_that_takes_more_memory_than_granted_is_ended(
    member: Connection, node: str, tables: dict[str, Path], spread: bool, granted: str, request: pytest.FixtureRequest
) -> None:
    second = request.getfixturevalue("second") if spread else ""
    # The square of 60,000 rows.
    sql = "SELECT sum(a.l_quantity * b.l_quantity) AS n FROM lineitem a, lineitem b WHERE a.l_comment < b.l_comment"
    end = member.run(on_daft(node, sql, {"lineitem": tables["lineitem"]}, second))
    assert (end.outcome, end.category, end.files) == ("failed", "statement", ())
    assert f"more than the {granted}" in end.message
    assert "ask for more memory or workers" in end.message


def test_a_run_whose_worker_dies_may_be_tried_again(
    member: Connection, node: str, second: str, tables: dict[str, Path], ray_head: SmallRay
) -> None:
    sql = queries(SCALE)["q9"]
    run = on_daft(node, sql, {table: path for table, path in tables.items() if table in sql}, second)
    member.start(run)
    until(lambda: len(daft_workers(ray_head)) == 2, "each node has one process", 60.0)
    drives = driver(ray_head)
    os.kill(drives, signal.SIGSTOP)
    for worker in daft_workers(ray_head):
        os.kill(worker, signal.SIGKILL)
    os.kill(drives, signal.SIGCONT)
    end = member.end_of(run.run_id)
    assert (end.outcome, end.category, end.files) == ("failed", "infrastructure", ())
    # Of the two, its driver sees one die after the other, or both at once.
    assert re.search("(a worker of the run is|all workers of the run are) gone", end.message), end.message


def test_what_daft_does_not_run_goes_to_duckdb_where_the_choice_was_open(member: Connection, node: str, tables: dict[str, Path]) -> None:
    sql = queries(SCALE)["q16"]
    inputs = {table: tables[table] for table in ("part", "partsupp", "supplier")}
    named, left_open = on_daft(node, sql, inputs), on_daft(node, sql, inputs, or_duckdb=True)
    ends = [member.run(run) for run in (named, left_open)]
    assert [(end.outcome, end.category) for end in ends] == [("failed", "statement"), ("succeeded", None)]
    assert "Daft cannot run it: NOT IN over a query" in ends[0].message
    assert "it runs on DuckDB on the first worker" in member.log(left_open.run_id)
    assert len(rows(ends[1])) > 0


def test_a_statement_on_daft_reaches_no_other_file(member: Connection, node: str, tables: dict[str, Path]) -> None:
    end = member.run(on_daft(node, f"SELECT * FROM read_parquet('{tables['orders']}')", {"region": tables["region"]}))
    assert (end.outcome, end.category, end.files) == ("failed", "statement", ())
