"""Statements in Daft's words: the rows and types of DuckDB where they are translated, the reason where they are not."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.tpch import same_rows
from workloads.catalogue.product import Column
from workloads.errors import StatementError, TooManyRowsError
from workloads.runners.daft_run import plain_words, plan_statement, run_plan
from workloads.runners.sql import InputTable, SqlOutcome, judge_for_daft, run_statement

MIB = 1024**2
Both = Callable[[str], tuple[SqlOutcome, SqlOutcome]]


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    """Daft in this process, without a cluster; it may be told so once."""
    import daft

    daft.set_runner_native()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputTable]:
    folder = tmp_path_factory.mktemp("data")
    day = datetime.date(2020, 1, 31)
    tables = {
        "t": pa.table({
            "A": pa.array([1, 2, None, 4, 2**31 - 1], pa.int32()), "s": ["abc", "x.y", "A_b%", None, "日本語"],
            "x": pa.array([Decimal("0.05"), Decimal("0.07"), Decimal("1.00"), None, Decimal("-3.10")], pa.decimal128(15, 2)),
            "d": pa.array([day, day + datetime.timedelta(1), None, day, day], pa.date32()),
            "m": pa.array([datetime.datetime(2020, 1, 1, 3)] * 5, pa.timestamp("us")), "f": [0.5, -1.5, None, 2.25, 0.0],
            "b": [True, False, None, True, False], "big": pa.array([2**62, 2**62, 1, None, 5], pa.int64()),
            "nested": [[1], [2], [], None, [3]],
        }),
        "u": pa.table({"k": pa.array([1, 2, None, 9], pa.int64()), "word": ["eins", "zwei", "nichts", "neun"]}),
    }  # fmt: skip
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return {name: InputTable(folder / f"{name}.parquet", "parquet") for name in tables}


@pytest.fixture
def both(files: dict[str, InputTable], tmp_path: Path) -> Both:
    def run(sql: str) -> tuple[SqlOutcome, SqlOutcome]:
        for folder in ("duckdb", "daft"):
            (tmp_path / folder).mkdir()
        expected = run_statement(sql, files, directory=tmp_path / "duckdb", memory_bytes=256 * MIB, threads=1)
        plan = plan_statement(sql, files)
        found = run_plan(plan, {name: table.path for name, table in files.items()}, directory=tmp_path / "daft", parts=2)
        return expected, found

    return run


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a, S, x FROM T WHERE x BETWEEN 0.06 - 0.01 AND 0.06 + 0.01",
        "SELECT CASE WHEN a = 1 THEN 'one' ELSE 'other' END AS c FROM t",
        "SELECT CASE WHEN x > 0.06 THEN x ELSE 0 END AS c, CASE WHEN b THEN a END AS e FROM t",
        "SELECT sum(big) AS total, avg(big), count(*), count(a), count(DISTINCT b), min(x), max(d), sum(x), avg(x), sum(f), avg(f) FROM t",
        "SELECT a * a AS square, a + 1, -a, x * (1 - x) AS y, x / 3 AS z, a / 2, f * x FROM t WHERE a < 10",
        "SELECT sum(a) AS nothing, count(*) AS n FROM t WHERE a > 10 AND a < 20",
        "SELECT b, sum(x) AS y, count(*) FROM t GROUP BY b HAVING count(*) > 1 ORDER BY 2 DESC",
        "SELECT extract(year FROM d) AS y, count(*) FROM t GROUP BY y",
        "SELECT d FROM t WHERE d >= DATE '2020-03-01' - INTERVAL '1' MONTH",
        "SELECT d, m FROM t WHERE m > TIMESTAMP '2020-01-01 02:00:00' AND d < '2020-02-01'",
        "SELECT s FROM t WHERE s LIKE 'x.%' OR s LIKE 'A_b%' OR s NOT LIKE '%b%'",
        "SELECT substring(s FROM 1 FOR 2) AS p FROM t WHERE s IN ('abc', 'x.y', '日本語')",
        "SELECT a FROM t WHERE a NOT IN (1, 2) OR a IS NULL",
        "SELECT q.word, t.x FROM t LEFT JOIN u AS q ON t.a = q.k",
        "SELECT n1.word AS one, n2.word AS two FROM u n1, u n2, t WHERE n1.k = t.a AND n2.k <> n1.k",
        "SELECT word FROM u WHERE EXISTS (SELECT * FROM t WHERE a = k) AND k IN (SELECT big FROM t WHERE big < 3)",
        "SELECT word FROM u WHERE NOT EXISTS (SELECT * FROM t WHERE t.a = u.k)",
        "SELECT a FROM t WHERE x < (SELECT avg(x) FROM t)",
        "WITH c AS (SELECT a AS key, sum(x) AS y FROM t GROUP BY a) SELECT key, c.y, word FROM c, u WHERE key = k ORDER BY y NULLS FIRST",
        "SELECT DISTINCT b FROM t",
        "SELECT * FROM (SELECT a AS z, f FROM t WHERE NOT b) AS inside ORDER BY z DESC LIMIT 1",
        "SELECT coalesce(x, 0) AS y, coalesce(s, '-') AS w FROM t",
        "SELECT count(*) FROM t",
    ],
)  # fmt: skip
def test_daft_gives_the_rows_and_types_of_duckdb(both: Both, sql: str) -> None:
    expected, found = both(sql)
    assert (found.columns, found.types) == (expected.columns, expected.types)
    assert pq.read_schema(found.path).equals(pq.read_schema(expected.path))
    assert same_rows(rows(found.path), rows(expected.path))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT a FROM t WHERE a NOT IN (SELECT k FROM u)", "NOT IN over a query"),
        ("SELECT x * x * x AS y FROM t", "more than 38 digits"),
        ("SELECT nested FROM t", "column nested, for its type"),
        ("SELECT a FROM t LIMIT 2", "LIMIT without ORDER BY"),
        ("SELECT a FROM t UNION ALL SELECT k FROM u", "UNION"),
        ("SELECT row_number() OVER () AS n FROM t", "window"),
        ("SELECT md5(s) AS h FROM t", "the function md5"),
        ("SELECT random() AS r FROM t", "the function random"),
        ("SELECT sum(DISTINCT a) AS y FROM t", "DISTINCT"),
        ("SELECT d + INTERVAL 1 MONTH AS y FROM t", "interval"),
        ("SELECT word FROM u WHERE (SELECT count(*) FROM t WHERE a = k) = 0", "no plain aggregate"),
        ("SELECT word FROM u WHERE EXISTS (SELECT * FROM t WHERE a > k)", "but by equality"),
        ("SELECT s FROM t WHERE s LIKE 'a\\%'", "backslash"),
        ("SELECT CAST(x AS INTEGER) AS y FROM t", "a cast of decimal to INTEGER"),
        ("SELECT a // 2 AS y FROM t", "the function //"),
        ("SELECT range FROM range(3)", "table function"),
        ("SELECT 1 AS one", "without tables"),
    ],
)
def test_what_may_mean_something_else_is_refused_with_the_reason(files: dict[str, InputTable], sql: str, words: str) -> None:
    with pytest.raises(StatementError, match="Daft cannot run it") as caught:
        plan_statement(sql, files)
    assert words in str(caught.value)


def test_the_checks_process_says_the_same(files: dict[str, InputTable]) -> None:
    with duckdb.connect() as connection:
        tables = {name: connection.sql(f"FROM '{table.path}'") for name, table in files.items()}
        columns = {name: [Column(name=a, type=str(b)) for a, b in zip(one.columns, one.types, strict=True)] for name, one in tables.items()}
    found = judge_for_daft(
        "WITH c AS (SELECT a, x FROM t WHERE s LIKE 'a%') SELECT a FROM c WHERE EXISTS (SELECT * FROM u WHERE k = a)", columns
    )
    assert (found.refusal, found.read) == (None, {"t": ["A", "s", "x"], "u": ["k"]})
    assert judge_for_daft("SELECT md5(s) AS h FROM t", columns).refusal == "the function md5"
    with pytest.raises(StatementError, match="read_parquet"):
        judge_for_daft("SELECT * FROM read_parquet('/tmp/x.parquet')", columns)


def test_other_files_are_refused_before_daft_sees_the_statement(files: dict[str, InputTable]) -> None:
    for sql in ("SELECT * FROM read_parquet('/etc/x')", "SELECT * FROM '/etc/x.parquet'", "SELECT * FROM read_json('s3://b/x')"):
        with pytest.raises(StatementError):
            plan_statement(sql, files)


def test_nan_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "n.parquet"
    pq.write_table(pa.table({"f": [1.0, float("nan")]}), path)
    plan = plan_statement("SELECT f FROM n WHERE f > 0", {"n": InputTable(path, "parquet")})
    with pytest.raises(StatementError, match="holds NaN"):
        run_plan(plan, {"n": path}, directory=tmp_path, parts=1)
    assert not (tmp_path / "result.parquet").exists()


def test_a_result_of_more_rows_than_may_be_returned_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "n.parquet"
    pq.write_table(pa.table({"n": list(range(100))}), path)
    plan = plan_statement("SELECT n FROM n", {"n": InputTable(path, "parquet")})
    assert run_plan(plan, {"n": path}, directory=tmp_path / "all", parts=2, max_rows=100).total_rows == 100
    with pytest.raises(TooManyRowsError, match="more than 99 rows"):
        run_plan(plan, {"n": path}, directory=tmp_path / "none", parts=2, max_rows=99)
    assert not (tmp_path / "none" / "result.parquet").exists()


def test_an_error_of_another_process_is_told_without_its_trace() -> None:
    trace = (
        '\x1b[36mray::X.next()\x1b[39m (pid=7, ip=10.0.0.1)\n  File "/srv/x.py", line 3, in f\ndaft.exceptions.DaftCoreException: no\n room'
    )
    assert plain_words(RuntimeError(trace)) == "no room"
    assert plain_words(RuntimeError("just\nwords")) == "just words"
    assert len(plain_words(RuntimeError("x" * 5000))) < 500


def rows(path: Path) -> list[tuple[object, ...]]:
    table = pq.read_table(path)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
