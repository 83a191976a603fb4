"""Statements: what is refused before anything runs, and in which words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from workloads.catalogue.product import Column
from workloads.errors import StatementError
from workloads.runners.proving import StatementProver, prove_statement

FLIGHTS = [Column(name="carrier", type="VARCHAR"), Column(name="dep_delay", type="DOUBLE"), Column(name="Año y 数", type="DECIMAL(10,2)"),
           Column(name='a "quoted" name', type="STRUCT(x INTEGER, y VARCHAR[])")]  # fmt: skip
INPUTS = {"flights": FLIGHTS, "select": [Column(name="n", type="BIGINT")]}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT carrier, avg(dep_delay) AS delay FROM flights GROUP BY carrier ORDER BY delay DESC",
        "select * from FLIGHTS;",
        "SELECT 1 -- no data at all",
        "FROM flights",
        "VALUES (1, 'a')",
        "TABLE flights",
        "WITH a AS (FROM flights), b AS (SELECT * FROM a) SELECT count(*) FROM b JOIN a USING (carrier)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT * FROM r",
        "WITH flights AS (SELECT 1 AS only_here) SELECT only_here FROM flights",
        'SELECT "Año y 数", "a ""quoted"" name".y[1] FROM flights',
        'SELECT n FROM "select"',
        "SELECT f.carrier, s.n FROM flights f, LATERAL (SELECT length(f.carrier) AS n) s",
        "SELECT unnest(range(3)), x FROM generate_series(1, 3) t(x)",
        "SELECT * FROM range(DATE '2026-01-01', DATE '2026-02-01', INTERVAL 1 DAY)",
        "PIVOT flights ON carrier IN ('AA', 'UA') USING avg(dep_delay)",
        "UNPIVOT flights ON dep_delay INTO NAME what VALUE number",
        "DESCRIBE flights",
        "SUMMARIZE flights",
        "SELECT '日本 é \u2028 /etc/passwd' AS text",
        '(SELECT 1) UNION ALL (SELECT n FROM "select")',
    ],
)
def test_queries_over_the_inputs_are_accepted(sql: str) -> None:
    prove_statement(sql, INPUTS)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "exactly one statement"),
        ("-- nothing", "exactly one statement"),
        ("SELECT 1; SELECT 2", "found 2"),
        ("SELECT 1; DROP TABLE flights", "exactly one statement"),
        ("SELEKT 1", "does not parse"),
        ("SELECT * FROM", "does not parse"),
        ("COPY flights TO '/tmp/x.csv'", "not a query"),
        ("COPY (SELECT 1) TO '/tmp/x.parquet'", "not a query"),
        ("INSERT INTO flights VALUES ('a', 1)", "not a query"),
        ("DELETE FROM flights", "not a query"),
        ("CREATE TABLE t AS SELECT 1", "not a query"),
        ("DROP VIEW flights", "not a query"),
        ("ATTACH '/tmp/x.db'", "not a query"),
        ("DETACH memory", "not a query"),
        ("USE memory", "not a query"),
        ("EXPORT DATABASE '/tmp/x'", "not a query"),
        ("IMPORT DATABASE '/tmp/x'", "not a query"),
        ("SET enable_external_access = true", "not a query"),
        ("RESET lock_configuration", "not a query"),
        ("PRAGMA enable_profiling", "not a query"),
        ("PRAGMA database_list", "not a query"),
        ("INSTALL httpfs", "not a query"),
        ("LOAD httpfs", "not a query"),
        ("CALL pragma_version()", "not a query"),
        ("EXPLAIN SELECT 1", "not a query"),
        ("EXPLAIN ANALYZE SELECT 1", "not a query"),
        ("CHECKPOINT", "not a query"),
        ("BEGIN", "not a query"),
        ("PREPARE p AS SELECT 1", "not a query"),
        ("CREATE SECRET s (TYPE s3)", "not a query"),
        ("PIVOT flights ON carrier USING avg(dep_delay)", "PIVOT needs its values"),
        ("WITH x AS (INSERT INTO flights VALUES ('a') RETURNING *) SELECT * FROM x", "changes data"),
        ("WITH x AS (DELETE FROM flights RETURNING *) SELECT * FROM x", "changes data"),
        ("SELECT * FROM (WITH x AS (UPDATE flights SET carrier = 'a' RETURNING *) FROM x)", "changes data"),
        ("SELECT ?", "parameters"),
        ("SELECT $name", "parameters"),
        ("SELECT '\0'", "NUL"),
        ("SELECT '\ud800'", "Unicode"),
        ("SHOW TABLES", "SHOW"),
        ("SELECT * FROM (SHOW ALL TABLES)", "SHOW"),
    ],
)
def test_what_is_no_single_query_is_refused(sql: str, words: str) -> None:
    with pytest.raises(StatementError, match=words):
        prove_statement(sql, INPUTS)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv_auto('/etc/passwd')",
        "SELECT * FROM flights WHERE carrier IN (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT (SELECT count(*) FROM read_blob('/etc/passwd'))",
        "WITH a AS (FROM read_parquet('x.parquet')) SELECT * FROM a",
        "SELECT * FROM flights ORDER BY (SELECT 1 FROM parquet_metadata('x'))",
        "SELECT count(*) FILTER (WHERE EXISTS (FROM glob('/*'))) FROM flights",
        "FROM postgres_scan('a', 'b', 'c')",
        "FROM sniff_csv('/etc/passwd')",
        "FROM query('SELECT 1')",
        "FROM query_table('flights')",
        "FROM json_execute_serialized_sql('{}')",
        "FROM duckdb_settings()",
        "FROM pragma_table_info('flights')",
        "FROM main.range(3)",
        "FROM which_secret('x', 's3')",
        "FROM test_all_types()",
    ],
)
def test_table_functions_that_read_something_else_are_refused(sql: str) -> None:
    with pytest.raises(StatementError, match="is not allowed"):
        prove_statement(sql, INPUTS)


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT * FROM 's3://bucket/x.parquet'", "s3://bucket/x.parquet"),
        ('SELECT * FROM "data.csv"', "data.csv"),
        ("SELECT * FROM flight", "flight"),
        ("SELECT * FROM memory.main.flights", "memory.main.flights"),
        ("SELECT * FROM information_schema.tables", "information_schema.tables"),
        ("SELECT * FROM pg_catalog.pg_class", "pg_catalog.pg_class"),
        ("SELECT * FROM duckdb_tables", "duckdb_tables"),
        ("SELECT * FROM sqlite_master", "sqlite_master"),
        ("SELECT * FROM INPUTS", "INPUTS"),
    ],
)
def test_unknown_tables_are_named_with_what_there_is(sql: str, name: str) -> None:
    with pytest.raises(StatementError) as caught:
        prove_statement(sql, INPUTS)
    assert str(caught.value) == f"unknown table {name!r}; a statement reads the job's inputs only (available: flights, select)"


@pytest.mark.parametrize("function", ["getenv('HOME')", "current_setting('temp_directory')", "pg_sleep(1)", "sleep_ms(1)", "'x'.getenv()"])
def test_functions_that_reach_for_the_engine_are_refused(function: str) -> None:
    with pytest.raises(StatementError, match="is not allowed in a job"):
        prove_statement(f"SELECT {function}", INPUTS)


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(StatementError) as caught:
        prove_statement("SELECT altitude FROM flights", INPUTS)
    assert str(caught.value).startswith('Referenced column "altitude" not found')
    assert "LINE" not in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "words"),
    [("SELECT sum(carrier) FROM flights", "sum"), ("SELECT nosuchfunction(1)", "nosuchfunction"),
     ("SELECT carrier, count(*) FROM flights", "GROUP BY"),
     ("SELECT rowid FROM flights", "rowid"), ("SELECT filename FROM flights", "filename")],
)  # fmt: skip
def test_a_statement_that_does_not_bind_is_refused(sql: str, words: str) -> None:
    with pytest.raises(StatementError, match=words):
        prove_statement(sql, INPUTS)


def test_inputs_of_one_check_are_unknown_to_the_next() -> None:
    prove_statement("FROM flights", INPUTS)
    with pytest.raises(StatementError, match="none, add them under inputs"):
        prove_statement("FROM flights", {})


def test_python_variables_are_out_of_reach() -> None:
    secret = [1, 2, 3]
    with pytest.raises(StatementError, match="unknown table 'secret'"):
        prove_statement("SELECT * FROM secret", INPUTS)
    assert secret == [1, 2, 3]


def test_deep_nesting_is_refused_not_survived_by_luck() -> None:
    with pytest.raises(StatementError):
        prove_statement("SELECT " + "(" * 20_000 + "1" + ")" * 20_000, INPUTS)


@pytest.fixture
def prover() -> Iterator[StatementProver]:
    made = StatementProver(cpu_s=0.3)
    yield made
    made.close()


def test_the_child_answers_like_this_process(prover: StatementProver) -> None:
    prover.prove('SELECT "Año y 数" FROM flights', INPUTS)
    with pytest.raises(StatementError, match='column "altitude" not found'):
        prover.prove("SELECT altitude FROM flights", INPUTS)
    with pytest.raises(StatementError, match="Unicode"):
        prover.prove("SELECT '\ud800'", INPUTS)


def test_a_statement_that_computes_while_it_binds_is_ended(prover: StatementProver) -> None:
    hours = "list_sum(list_transform(range(10000000), lambda x: list_sum(range(x))))"
    with pytest.raises(StatementError, match="too long to check"):
        prover.prove(f"SELECT * FROM flights LIMIT {hours}", INPUTS)
    prover.prove("FROM flights", INPUTS)


def test_a_prover_may_be_used_after_it_was_closed(prover: StatementProver) -> None:
    prover.prove("SELECT 1", {})
    prover.close()
    prover.prove("SELECT 1", {})


def stop_answering(prover: StatementProver) -> None:
    """From now on whatever has to be asked is an error."""

    def refuse(_request: str) -> dict[str, object]:
        return {"error": "asked", "daft": None}

    prover._ask = refuse  # type: ignore[method-assign]


def test_what_was_proved_is_not_proved_again(prover: StatementProver) -> None:
    verdict = prover.prove("FROM flights", INPUTS, for_daft=True)
    prover.prove("FROM flights", INPUTS)
    stop_answering(prover)
    assert prover.prove("FROM flights", INPUTS) is None
    assert prover.prove("FROM flights", INPUTS, for_daft=True) == verdict
    name, columns = next(iter(INPUTS.items()))
    for sql, inputs in (("FROM flights ", INPUTS), ("FROM flights", {**INPUTS, "other": columns}), ("FROM flights", {name: columns[:1]})):
        with pytest.raises(StatementError, match="asked"):
            prover.prove(sql, inputs)


def test_a_refusal_is_not_remembered(prover: StatementProver) -> None:
    with pytest.raises(StatementError, match="altitude"):
        prover.prove("SELECT altitude FROM flights", INPUTS)
    stop_answering(prover)
    with pytest.raises(StatementError, match="asked"):
        prover.prove("SELECT altitude FROM flights", INPUTS)


def test_only_the_last_statements_are_remembered() -> None:
    prover = StatementProver(most_known=2)
    for sql in ("SELECT 1", "SELECT 2", "SELECT 1", "SELECT 3"):
        prover.prove(sql, {})
    stop_answering(prover)
    prover.prove("SELECT 1", {})
    prover.prove("SELECT 3", {})
    with pytest.raises(StatementError, match="asked"):
        prover.prove("SELECT 2", {})
    prover.close()
