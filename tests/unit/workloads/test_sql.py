"""Running SQL: results, confinement to the inputs, limits, and words without places of this machine."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from workloads.errors import StatementError, StatementInterruptedError, TooManyRowsError
from workloads.runners.sql import InputTable, SqlOutcome, check_statement, run_statement, unique_names

Run = Callable[..., SqlOutcome]
MIB = 1024**2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data [1]*")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT range AS n, 'x' || range AS text FROM range(1000)) TO '{folder}/numbers.parquet'")
        connection.execute(
            f"COPY (SELECT range AS n, random() AS r, repeat('y', 100) AS wide FROM range(600000)) TO '{folder}/large.parquet'"
        )
        connection.execute(f"COPY (SELECT 42 AS secret) TO '{folder}/other.parquet'")
    (folder / "it's.csv").write_text("carrier;día;delay\nUA;2013-01-01;1.5\nAA;2013-01-02;\n日本;2013-01-03;-2\n")
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Run:
    files = {"numbers": InputTable(data / "numbers.parquet", "parquet"), "large": InputTable(data / "large.parquet", "parquet"),
             "flights": InputTable(data / "it's.csv", "csv")}  # fmt: skip

    def call(sql: str, memory_bytes: int = 200 * MIB, **options: object) -> SqlOutcome:
        return run_statement(sql, files, directory=tmp_path / "run", memory_bytes=memory_bytes, threads=1, **options)  # type: ignore[arg-type]

    return call


def test_parquet_and_csv_inputs_join(run: Run) -> None:
    outcome = run("SELECT carrier, delay, text FROM flights JOIN numbers ON n = day(día) ORDER BY carrier")
    assert outcome.columns == ("carrier", "delay", "text")
    assert outcome.types == ("VARCHAR", "DOUBLE", "VARCHAR")
    assert outcome.rows == (("AA", None, "x2"), ("UA", 1.5, "x1"), ("日本", -2.0, "x3"))
    assert pq.read_table(outcome.path).to_pylist()[2] == {"carrier": "日本", "delay": -2.0, "text": "x3"}


def test_the_preview_is_the_beginning_and_the_file_is_whole(run: Run) -> None:
    outcome = run("SELECT n FROM large ORDER BY n DESC", preview_rows=3)
    assert outcome.rows == ((599_999,), (599_998,), (599_997,))
    assert outcome.total_rows == 600_000
    read = pq.read_table(outcome.path)["n"].to_pylist()
    assert read == list(range(599_999, -1, -1))


def test_a_small_result_is_returned_and_not_written(run: Run, tmp_path: Path) -> None:
    outcome = run("SELECT n, text FROM numbers WHERE n < 3 ORDER BY n", small_bytes=4096)
    assert outcome.content is not None
    assert (outcome.total_rows, outcome.size_bytes) == (3, len(outcome.content))
    assert pq.read_table(io.BytesIO(outcome.content)).to_pylist() == [{"n": n, "text": f"x{n}"} for n in range(3)]
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.mark.parametrize(
    ("sql", "rows"),
    [("SELECT n FROM large ORDER BY n", 600_000), ("SELECT " + ", ".join(f"{number} AS c{number}" for number in range(400)), 1)],
    ids=["many rows", "little data in a large file"],
)
def test_what_is_not_small_is_written_whole(run: Run, sql: str, rows: int) -> None:
    outcome = run(sql, small_bytes=4096)
    assert outcome.content is None
    assert outcome.size_bytes == outcome.path.stat().st_size > 4096
    assert pq.read_table(outcome.path).num_rows == outcome.total_rows == rows


def test_an_empty_result_has_its_columns(run: Run) -> None:
    outcome = run("SELECT n, text FROM numbers WHERE n < 0")
    assert (outcome.columns, outcome.rows, outcome.total_rows) == (("n", "text"), (), 0)
    assert pq.read_table(outcome.path).column_names == ["n", "text"]


def test_repeated_names_get_numbers(run: Run) -> None:
    outcome = run('SELECT 1 AS a, 2 AS a, 3 AS "A", 4 AS a_1')
    assert outcome.columns == ("a", "a_2", "A_3", "a_1")
    assert pq.read_table(outcome.path).to_pylist() == [{"a": 1, "a_2": 2, "A_3": 3, "a_1": 4}]
    assert unique_names(["x", "x", "x"]) == ("x", "x_1", "x_2")


def test_a_very_wide_result(run: Run) -> None:
    outcome = run("SELECT " + ", ".join(f"n + {place} AS c{place}" for place in range(2000)) + " FROM numbers LIMIT 5")
    assert len(outcome.columns) == 2000
    assert outcome.rows[4][1999] == 2003
    assert pq.read_metadata(outcome.path).num_columns == 2000


def test_every_type_has_a_json_safe_preview_and_a_parquet_form(run: Run) -> None:
    outcome = run("""
        SELECT 1::HUGEINT AS huge, 1.50::DECIMAL(10, 2) AS dec, 'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf, '\\xAA'::BLOB AS blob,
            DATE '2013-01-01' AS day, TIMESTAMP '2013-01-01 10:00:00.5' AS ts, TIMESTAMPTZ '2013-01-01 10:00:00+02' AS tstz,
            TIME '10:00:00' AS time, '10:00:00+02'::TIMETZ AS timetz, INTERVAL 36 HOUR AS span, DATE 'infinity' AS never,
            {'a': 1, 'b': [DATE '2013-01-01', NULL]} AS struct, MAP {'k': 1.5} AS map, [1, 2]::INTEGER[2] AS pair,
            'a'::ENUM('a', 'b') AS enum,
            union_value(k := 1) AS either, NULL AS nothing, '101'::BIT AS bits, [INTERVAL 1 DAY] AS spans, true AS yes,
            '00000000-0000-0000-0000-000000000001'::UUID AS uuid, '2013-01-01 00:00:00.000000001'::TIMESTAMP_NS AS nanos
    """)
    row = dict(zip(outcome.columns, outcome.rows[0], strict=True))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    expected = {
        "huge": "1", "dec": "1.50", "nan": None, "inf": None, "blob": "aa", "day": "2013-01-01", "ts": "2013-01-01T10:00:00.500000",
        "tstz": "2013-01-01T08:00:00+00:00", "time": "10:00:00", "timetz": "10:00:00+02", "span": "36:00:00", "never": "out of range",
        "struct": {"a": 1, "b": ["2013-01-01", None]}, "map": [["k", "1.5"]], "pair": [1, 2], "enum": "a", "either": "1", "nothing": None,
        "bits": "101", "spans": "[1 day]", "yes": True, "uuid": "00000000-0000-0000-0000-000000000001",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert "000000001" in str(row["nanos"])
    assert dict(zip(outcome.columns, outcome.types, strict=True))["span"] == "INTERVAL"
    assert pq.read_metadata(outcome.path).num_rows == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "FROM '/etc/passwd'",
        "FROM glob('/etc/*')",
        "COPY numbers TO '{run}/stolen.csv'",
        "COPY (SELECT 1) TO '{data}/numbers.parquet'",
        "ATTACH '{run}/x.db'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT 1; SELECT 2",
        "SELECT getenv('HOME')",
        "SELECT current_setting('allowed_paths')",
        "SELECT * FROM read_parquet('{data}/other.parquet')",
        "SELECT * FROM '{data}/other.parquet'",
        "SELECT * FROM read_parquet('{data}/numbers.parquet')",
        "SELECT * FROM duckdb_views()",
        "SELECT * FROM hostage",
        "WITH x AS (DELETE FROM numbers RETURNING *) FROM x",
    ],
)
def test_hostile_statements_are_refused(run: Run, data: Path, tmp_path: Path, sql: str) -> None:
    hostage = pq.read_table(data / "other.parquet")
    before = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    with pytest.raises(StatementError):
        run(sql.format(data=data, run=tmp_path / "run"))
    assert {path: path.stat().st_mtime_ns for path in data.iterdir()} == before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["spill"]
    assert hostage.num_rows == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_parquet('{data}/other.parquet')",
        "SELECT * FROM '{data}/other.parquet'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_text('{data}/numbers.parquet/../other.parquet')",
        "COPY (SELECT 1) TO '{data}/stolen.csv'",
        "ATTACH '{data}/x.db'",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
        "SET python_enable_replacements = true",
        "RESET lock_configuration",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM hostage",
    ],
)
def test_the_connection_is_confined_even_without_the_statement_check(run: Run, data: Path, sql: str) -> None:
    hostage = pq.read_table(data / "other.parquet")
    refused = []

    def attack(connection: object) -> None:
        with pytest.raises(duckdb.Error) as caught:
            connection.execute(sql.format(data=data))  # type: ignore[attr-defined]
        refused.append(caught.value)

    assert run("SELECT count(*) FROM numbers", on_connection=attack).rows == ((1000,),)
    assert len(refused) == 1
    assert hostage.num_rows == 1


def test_large_sorts_spill_into_the_runs_own_folder_and_leave_nothing(run: Run, tmp_path: Path) -> None:
    outcome = run("SELECT * FROM large ORDER BY r", memory_bytes=48 * MIB)
    assert outcome.total_rows == 600_000
    assert list((tmp_path / "run" / "spill").iterdir()) == []


def test_too_little_memory_ends_in_words_that_help(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StatementError, match=r"more than its 16MiB of memory; ask for more in resources.memory"):
        run("SELECT list(wide || n) FROM large GROUP BY n % 2", memory_bytes=16 * MIB)
    assert not (tmp_path / "run" / "result.parquet").exists()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT ('x' || n)::INTEGER FROM numbers", "Could not convert string 'x0'"),
        ("SELECT CASE WHEN n > 500000 THEN error('far down') ELSE 'a' END FROM large", "far down"),
    ],
)
def test_errors_while_running_say_what_and_leave_no_result(run: Run, tmp_path: Path, sql: str, words: str) -> None:
    run("SELECT 'an older result'")
    with pytest.raises(StatementError, match=words):
        run(sql)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["spill"]


def test_a_broken_input_is_named_by_its_alias_not_by_its_path(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(StatementError) as caught:
        run_statement("FROM t", {"t": InputTable(broken, "parquet")}, directory=tmp_path / "run", memory_bytes=64 * MIB, threads=1)
    assert "input t" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("sql", ["SELECT count(*) FROM range(1000000000) a, range(1000000000) b", "SELECT * FROM range(1000000000000)"])
def test_a_running_statement_can_be_interrupted(run: Run, tmp_path: Path, sql: str) -> None:
    over = threading.Event()

    def interrupt_until_over(connection: object) -> None:
        # The statement may be over, and its connection closed, between the look and the interrupt.
        with contextlib.suppress(duckdb.Error):
            while not over.wait(0.02):
                connection.interrupt()  # type: ignore[attr-defined]

    threads: list[threading.Thread] = []

    def start(connection: object) -> None:
        threads.append(threading.Thread(target=interrupt_until_over, args=(connection,)))
        threads[0].start()

    try:
        with pytest.raises(StatementInterruptedError):
            run(sql, on_connection=start)
    finally:
        over.set()
        threads[0].join()
    assert not (tmp_path / "run" / "result.parquet").exists()


def test_check_statement_proves_in_its_child() -> None:
    check_statement("SELECT 1", {})
    with pytest.raises(StatementError, match="unknown table 'flights'"):
        check_statement("FROM flights", {})


@pytest.mark.parametrize("small_bytes", [0, 4096])
def test_a_result_of_more_rows_than_may_be_returned_ends_the_run_and_is_not_there(run: Run, tmp_path: Path, small_bytes: int) -> None:
    assert run("SELECT n FROM numbers", max_rows=1000, small_bytes=small_bytes).total_rows == 1000
    with pytest.raises(TooManyRowsError, match=r"more than 999 rows.*raise max_rows"):
        run("SELECT n FROM numbers", max_rows=999, small_bytes=small_bytes)
    assert not (tmp_path / "run" / "result.parquet").exists()


def test_rows_are_not_made_that_are_not_taken(run: Run) -> None:
    # All of it would be a million million rows.
    with pytest.raises(TooManyRowsError):
        run("SELECT a.n, b.n FROM large a, large b", max_rows=10)
