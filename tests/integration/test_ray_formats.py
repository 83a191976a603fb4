"""Every format of data on real Ray: read by statements on DuckDB and on Daft, and by functions over partitions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from cluster.protocol import InputFile, RunFinished
from tests.ray import Connection
from tests.ray_runs import MIB, input_file, request, statement
from workloads.map_jobs import MapStep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROWS = 300
SQL = """
SELECT a.k, count(*) AS n, sum(l.price) AS price, max(c.word) AS word
FROM arrow_in a JOIN lines_in l ON a.n = l.n JOIN csv_in c ON a.n = c.n GROUP BY a.k ORDER BY a.k
"""
EXPECTED = [(k, 100, sum(n / 2 for n in range(k, ROWS, 3)), "w9") for k in range(3)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputFile]:
    folder = tmp_path_factory.mktemp("formats")
    feather.write_feather(pa.table({"n": range(ROWS), "k": [n % 3 for n in range(ROWS)]}), folder / "a.feather", compression="lz4")
    lines = "".join(json.dumps({"n": n, "price": n / 2}) + "\n" for n in range(ROWS))
    (folder / "l.jsonl").write_text(lines)
    (folder / "c.csv.gz").write_bytes(gzip.compress(("n,word\n" + "".join(f"{n},w{n % 10}\n" for n in range(ROWS))).encode()))
    return {
        "arrow_in": input_file(folder / "a.feather", format="arrow"),
        "lines_in": input_file(folder / "l.jsonl", format="jsonl"),
        # Brought, so that the ending is that of a copy.
        "csv_in": input_file(folder / "c.csv.gz", format="csv", local=False, source="gz"),
    }


def rows(end: RunFinished) -> list[tuple[Any, ...]]:
    assert (end.outcome, end.message) == ("succeeded", "")
    assert end.preview is not None
    return [tuple(row) for row in end.preview.rows]


def test_statements_on_duckdb_and_daft_read_them_alike(member: Connection, node: str, inputs: dict[str, InputFile]) -> None:
    found = rows(member.run(statement(node, SQL, inputs)))
    assert found == EXPECTED
    daft = request((node, node), kind="sql", sql=SQL, engine="daft", inputs=inputs, cpu=1.0, memory_bytes=256 * MIB)
    assert rows(member.run(daft)) == found


def test_functions_over_partitions_read_them(member: Connection, node: str, inputs: dict[str, InputFile]) -> None:
    text = "def fn(table):\n    return table.select(['n'])\n"
    step = MapStep(function="step.py", rows=ROWS // 2)
    end = member.run(request((node,), kind="map", map=step, files={"step.py": text}, inputs=inputs))
    assert (end.outcome, end.message, len(end.files)) == ("succeeded", "", 6)
    found = pa.concat_tables([pq.read_table(Path(end.directory, file.name)) for file in end.files])
    assert sorted(found["n"].to_pylist()) == sorted([*range(ROWS)] * 3)
