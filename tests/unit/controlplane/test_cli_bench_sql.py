"""`cpn bench distributed-sql`: what it says of a document and of wrong options; the measurement itself needs a real Ray and minutes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner, Result

from controlplane.cli.main import app
from controlplane.tpch import bench, queries
from controlplane.tpch.by_hand import plain_copies

DOCUMENT = {
    "scale": 1.0, "workers": 2, "memory": "4GiB", "auto_vs_best": 1.02,
    "queries": {
        "q1": {"duckdb_s": 1.5, "daft_s": None, "auto_s": 1.6, "auto_engine": "duckdb", "equal": True, "daft_cannot": "too many digits"},
        "q6": {"duckdb_s": 0.5, "daft_s": 7.5, "auto_s": 0.5, "auto_engine": "duckdb", "equal": False},
    },
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bench.Course]:
    courses: list[bench.Course] = []

    def run(course: bench.Course, _folder: Path, *, say: Any) -> dict[str, Any]:
        say("measuring")
        courses.append(course)
        return DOCUMENT

    monkeypatch.setattr(bench, "run_distributed_sql", run)
    return courses


def cpn(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", "distributed-sql", *words], env={"COLUMNS": "200"})


def test_json_is_the_document_and_nothing_else(asked: list[bench.Course]) -> None:
    result = cpn("--scale", "0.5", "--workers", "3", "--memory", "2GiB", "--queries", "q6,q1,q6", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, DOCUMENT)
    assert asked == [bench.Course(0.5, 3, 2 * 1024**3, ("q6", "q1"))]


def test_the_table_shows_each_query_with_what_daft_cannot(asked: list[bench.Course]) -> None:
    told = cpn().stdout
    assert asked[0].names == ()
    for words in ("too many digits", "7.50", "NO", "1.02 times"):
        assert words in told


@pytest.mark.parametrize("words", [("--queries", "q23"), ("--queries", ","), ("--memory", "much"), ("--workers", "1"), ("--scale", "0")])
def test_wrong_options_are_a_fault_of_use(asked: list[bench.Course], words: tuple[str, ...]) -> None:
    assert cpn(*words).exit_code == 2
    assert asked == []


def test_rows_are_compared_as_a_bag(tmp_path: Path) -> None:
    for name, rows in (("a", [Decimal("1.50"), Decimal("2.00"), Decimal("2.00")]), ("b", [Decimal("2.0"), Decimal("2.0"), Decimal("1.5")])):
        pq.write_table(pa.table({"x": rows, "y": [0.1 + 0.2 if name == "a" else 0.3] * 3}), tmp_path / name)
    assert bench.rows_of(tmp_path / "a") == bench.rows_of(tmp_path / "b")


def test_there_are_22_queries_and_one_depends_on_the_scale() -> None:
    assert sorted(queries(1), key=lambda name: int(name[1:])) == [f"q{number}" for number in range(1, 23)]
    assert "0.0001000000" in queries(1)["q11"]
    assert "0.0100000000" in queries(0.01)["q11"]
    assert {name for name, text in queries(1).items() if text != queries(0.01)[name]} == {"q11"}


def test_the_table_shows_the_script_beside_them(asked: list[bench.Course], monkeypatch: pytest.MonkeyPatch) -> None:
    queries_ = {
        "q3": {"duckdb_s": 0.5, "daft_s": 4.0, "auto_s": 0.5, "auto_engine": "duckdb", "equal": True, "by_hand_s": 5.25},
        "q9": {
            "duckdb_s": 0.5, "daft_s": 4.0, "auto_s": 0.5, "auto_engine": "duckdb", "equal": True,
            "by_hand_s": None, "by_hand_cannot": "bounds of a decimal",
        },
    }  # fmt: skip
    monkeypatch.setitem(DOCUMENT, "queries", queries_)
    monkeypatch.setitem(DOCUMENT, "daft_vs_by_hand", 1.31)
    told = cpn("--by-hand").stdout
    assert asked[0].by_hand
    for words in ("5.25", "bounds of a decimal", "1.31 times as many rows"):
        assert words in told


def test_ratios_count_what_both_ran() -> None:
    found: dict[str, Any] = {
        "q1": {"duckdb_s": 2.0, "daft_s": None, "auto_s": 2.2, "by_hand_s": 9.0},
        "q3": {"duckdb_s": 3.0, "daft_s": 4.0, "auto_s": 3.3, "by_hand_s": 6.0},
        "q9": {"duckdb_s": 5.0, "daft_s": 4.0, "auto_s": 4.4, "by_hand_s": None},
    }
    assert bench.ratios(found) == {"auto_vs_best": 1.1, "daft_vs_by_hand": 1.5}
    for one in found.values():
        del one["by_hand_s"]
    assert bench.ratios(found) == {"auto_vs_best": 1.1}


def test_the_script_gets_plain_strings_in_row_groups(tmp_path: Path) -> None:
    made = pa.table({"n": pa.array([1, 2, 3], pa.int64()), "word": pa.array(["a", "b", None], pa.string_view())})
    pq.write_table(made, tmp_path / "made.parquet", row_group_size=2)
    (copy,) = plain_copies({"t": tmp_path / "made.parquet"}, tmp_path / "plain").values()
    read = pq.ParquetFile(copy)
    assert (read.schema_arrow.types, read.num_row_groups) == ([pa.int64(), pa.string()], 2)
    assert read.read().to_pylist() == made.to_pylist()
