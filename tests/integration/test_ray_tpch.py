"""All 22 queries of TPC-H as jobs of kind sql on a warm worker of a real Ray."""

from __future__ import annotations

import io
from pathlib import Path

import duckdb
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from cluster.protocol import RunFinished
from controlplane.tpch import TABLES, make_data, queries
from tests.ray import RayAgent, SmallRay
from tests.ray_runs import MIB, delivered, input_file, statement
from tests.tpch import same_rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SCALE = 0.01


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_data(tmp_path_factory.mktemp("tpch"), SCALE)


def test_all_queries_give_the_rows_that_the_files_hold(tables: dict[str, Path], ray_head: SmallRay, tmp_path: Path) -> None:
    assert sorted(tables) == sorted(TABLES)
    inputs = {table: input_file(path) for table, path in tables.items()}
    statements = queries(SCALE)
    assert len(statements) == 22
    with RayAgent(tmp_path / "agent.log") as agent, duckdb.connect() as direct:
        member = agent.connect(ray_head, tmp_path / "data")
        node = member.node()
        for table, path in tables.items():
            direct.execute(f"CREATE VIEW {table} AS FROM '{path}'")
        for name, sql in statements.items():
            used = {table: file for table, file in inputs.items() if table in sql}
            end = member.run(statement(node, sql, used, memory_bytes=256 * MIB))
            assert (name, end.outcome, end.message) == (name, "succeeded", "")
            expected = direct.sql(sql)
            assert same_rows(rows(end), expected.fetchall()), name
            assert end.preview is not None
            assert end.preview.types == tuple(map(str, expected.types)), name
            member.forget(end.run_id)


def rows(end: RunFinished) -> list[tuple[object, ...]]:
    table = pq.read_table(io.BytesIO(delivered(end)))
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
