"""DuckDBs that serve statements in a row: who may have the same one, and what of a statement reaches the next (nothing)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import duckdb
import pytest

from workloads.errors import StatementError
from workloads.runners import statement as reading
from workloads.runners import warm_duckdb
from workloads.runners.sql import InputTable, SqlOutcome, run_statement
from workloads.runners.statement import KnownStatements, read_statement
from workloads.runners.warm_duckdb import Engines, Terms

MIB = 1024**2
Run = Callable[..., SqlOutcome]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT range AS n FROM range(1000)) TO '{folder}/numbers.parquet'")
        connection.execute(f"COPY (SELECT 42 AS secret) TO '{folder}/other.parquet'")
    return folder


@pytest.fixture
def engines(tmp_path: Path) -> Engines:
    return Engines(tmp_path / "spill")


@pytest.fixture
def run(data: Path, tmp_path: Path, engines: Engines) -> Run:
    def call(sql: str, *names: str, memory_bytes: int = 200 * MIB, threads: int = 1, **options: object) -> SqlOutcome:
        files = {name: InputTable(data / f"{name}.parquet", "parquet") for name in names}
        return run_statement(
            sql, files, directory=tmp_path / "run", memory_bytes=memory_bytes, threads=threads, engines=engines, **options  # type: ignore[arg-type]
        )  # fmt: skip

    return call


def engine_of(run: Run, *names: str, **terms: int) -> object:
    """Which DuckDB serves a statement, by a table that is left in it."""
    found: list[object] = []

    def look(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS mark AS SELECT uuid() AS id")
        found.extend(connection.execute("SELECT id FROM mark").fetchall())

    run("SELECT 1", *names, on_connection=look, **terms)
    return found[0]


def test_a_statement_that_asks_for_the_same_gets_the_same_and_any_other_does_not(run: Run) -> None:
    first = engine_of(run, "numbers", "other")
    assert engine_of(run, "other", "numbers") == first
    others = [
        engine_of(run), engine_of(run, "numbers"), engine_of(run, "numbers", "other", memory_bytes=100 * MIB),
        engine_of(run, "numbers", "other", threads=2),
    ]  # fmt: skip
    assert len({str(found) for found in (first, *others)}) == 5


def test_what_belongs_to_a_connection_ends_with_its_statement(run: Run) -> None:
    kept: list[duckdb.DuckDBPyConnection] = []

    def leave(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TEMP TABLE left_behind AS SELECT 'secret' AS text")
        connection.execute("SELECT setseed(0.5)").fetchall()
        kept.append(connection)

    drawn = run("SELECT random() AS r", "numbers", on_connection=leave)
    with pytest.raises(duckdb.Error):
        kept[0].execute("SELECT 1")
    views: list[object] = []

    def look(connection: duckdb.DuckDBPyConnection) -> None:
        views.extend(connection.execute("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall())

    again = run("SELECT random() AS r", "numbers", on_connection=look)
    assert views == [("numbers",)], "the view of its own input, and nothing that the other left"
    with duckdb.connect() as plain:
        plain.execute("SELECT setseed(0.5)").fetchall()
        first, second = (plain.execute("SELECT random()").fetchall()[0] for _ in range(2))
    assert drawn.rows == (first,)
    assert again.rows != (second,), "the numbers of the seed do not go on"


def test_the_same_alias_may_name_another_file_with_the_next_statement(data: Path, tmp_path: Path, engines: Engines) -> None:
    def told(sql: str, **files: str) -> object:
        tables = {alias: InputTable(data / f"{name}.parquet", "parquet") for alias, name in files.items()}
        return run_statement(sql, tables, directory=tmp_path / "run", memory_bytes=64 * MIB, threads=1, engines=engines).rows

    assert told("SELECT secret FROM t JOIN u ON n = secret", t="numbers", u="other") == ((42,),)
    assert told("SELECT secret FROM u JOIN t ON n = secret", t="other", u="numbers") == ((42,),)
    with pytest.raises(StatementError, match="unknown table 'u'"):
        told("SELECT * FROM u", t="numbers")


def test_one_is_confined_as_long_as_it_lives(run: Run, data: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def try_out(connection: duckdb.DuckDBPyConnection) -> None:
        for statement in (
            f"FROM '{data}/other.parquet'", f"COPY (SELECT 1) TO '{tmp_path}/x.csv'", "SET threads = 2", "SET TimeZone = 'Asia/Tokyo'",
            f"SET allowed_paths = ['{data}/other.parquet']", f"ATTACH '{tmp_path}/x.db'",
        ):  # fmt: skip
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
            refused.append(statement)
        assert connection.sql("SELECT current_setting('threads'), current_setting('TimeZone')").fetchall() == [(1, "UTC")]

    for _ in range(2):
        run("SELECT 1", "numbers", on_connection=try_out)
    assert len(refused) == 12


@pytest.mark.parametrize("sql", ["SELECT error('no')", "SELECT nothing FROM numbers", "SELECT * FROM other"])
def test_one_whose_statement_failed_serves_no_further_one(run: Run, engines: Engines, sql: str) -> None:
    before = engine_of(run, "numbers")
    with pytest.raises(StatementError):
        run(sql, "numbers")
    assert engines.used == 1
    assert engine_of(run, "numbers") != before


def test_one_that_spilled_serves_no_further_one_and_leaves_nothing_on_the_disk(run: Run, engines: Engines) -> None:
    sql = "SELECT i, hash(i) AS h, repeat('x', 100) AS s FROM range(400000) t(i) ORDER BY h"
    assert run(sql, memory_bytes=48 * MIB).total_rows == 400_000
    assert engines.used == 1
    assert list(engines.folder.rglob("*.tmp")) == []
    engines.renew()
    assert list(engines.folder.iterdir()) == []


def test_only_so_many_wait_and_each_serves_only_so_many(run: Run, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_duckdb, "MOST_KEPT", 2)
    monkeypatch.setattr(warm_duckdb, "MOST_STATEMENTS", 3)
    first, second = (engine_of(run, threads=threads) for threads in (1, 2))
    assert engine_of(run, threads=1) == first
    engine_of(run, threads=3)
    assert engines.used == 1, "of the second, which was not asked for the longest"
    assert engine_of(run, threads=1) == first, "its third and last statement"
    assert engines.used == 2
    assert engine_of(run, threads=1) != first
    assert engine_of(run, threads=2) != second


def test_a_spare_one_is_made_when_nobody_waits(run: Run, engines: Engines) -> None:
    assert engines.due
    engines.renew()
    assert not engines.due
    run("SELECT 1")
    assert engines.due, "it was taken"
    engines.renew()
    run("SELECT 2")
    assert not engines.due, "the one that served the first was taken again"


def test_one_that_cannot_be_confined_serves_nobody(run: Run, engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise duckdb.PermissionException("no")

    monkeypatch.setattr(warm_duckdb, "confine", broken)
    with pytest.raises(StatementError):
        run("SELECT 1")
    assert engines.used == 1
    monkeypatch.undo()
    assert run("SELECT 1").rows == ((1,),)


def test_the_order_of_files_does_not_matter_and_one_thread_is_the_fewest() -> None:
    assert Terms.of([Path("/b"), Path("/a")], 1, 0) == Terms(("/a", "/b"), 1, 1)


def test_a_statement_that_was_found_good_is_not_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def note(connection: duckdb.DuckDBPyConnection, sql: str, inputs: Collection[str]) -> str:
        read.append(sql)
        return read_statement(connection, sql, inputs)

    monkeypatch.setattr(reading, "read_statement", note)
    for _ in range(2):
        assert run("SELECT count(*) AS n FROM numbers", "numbers").rows == ((1000,),)
        with pytest.raises(StatementError, match="unknown table 'other'"):
            run("FROM other", "numbers")
    assert run("FROM other", "other").rows == ((42,),)
    assert read == ["SELECT count(*) AS n FROM numbers", *["FROM other"] * 3], "what was refused, and with other inputs, is read"


def test_only_the_latest_statements_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(reading, "read_statement", lambda _connection, sql, _inputs: read.append(sql))
    known = KnownStatements(most=2)
    with duckdb.connect() as connection:
        for sql in ("a", "b", "a", "c", "a", "b"):
            known.read(connection, sql, ())
    assert read == ["a", "b", "c", "b"], "b was the oldest when c came"
