"""Statements in the child that proves them: refusals with their column and remedy, hidden and masked columns on real data."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from tests.people import permitted, terms, world
from workloads.disclosure.proof import prove_sources
from workloads.disclosure.terms import DisclosureError, Rewritten, Rule
from workloads.errors import StatementError
from workloads.runners.sql import permitted_statement

HIDDEN = ("Salary", "id")
NAMES_HIDDEN = [
    "SELECT salary FROM people",
    'SELECT "SALARY" FROM people',
    "SELECT city FROM people WHERE salary > 3",
    "SELECT city FROM people ORDER BY salary",
    "SELECT city, count(*) FROM people GROUP BY city HAVING max(salary) > 3",
    "SELECT x FROM (SELECT salary AS x FROM people)",
    "WITH t AS (SELECT id FROM people) SELECT count(*) FROM t",
    "SELECT count(*) FROM people a JOIN people b USING (id)",
    "SELECT count(*) FROM people a JOIN people b ON a.id = b.boss",
    "SELECT * EXCLUDE (salary) FROM people",
    "SELECT * REPLACE (1 AS salary) FROM people",
    "SELECT COLUMNS('sal.*') FROM people",
    "SELECT COLUMNS(lambda c: c = 'salary') FROM people",
    "SELECT people.salary FROM people",
    "SELECT (people).salary FROM people",
    "SELECT row_number() OVER (ORDER BY salary) FROM people",
    "SELECT sum(age) OVER w FROM people WINDOW w AS (PARTITION BY id)",
    "SELECT CASE WHEN salary > 1 THEN 1 END FROM people",
    "SELECT (SELECT max(salary) FROM people)",
    "SELECT city FROM cities WHERE EXISTS (FROM people WHERE people.city = cities.city AND salary > 3)",
    "SELECT c.city FROM cities c, LATERAL (SELECT max(salary) AS m FROM people p WHERE p.city = c.city)",
    "SELECT list_transform([1], lambda x: x + p.id) FROM people p",
    "SELECT city FROM people QUALIFY row_number() OVER (ORDER BY id) = 1",
    "SELECT DISTINCT ON (id) city FROM people",
    "SELECT city FROM people GROUP BY city, salary",
    "SELECT arg_max(city, salary) FROM people",
    "SELECT struct_pack(a := salary) FROM people",
    "SELECT city FROM people UNION SELECT CAST(salary AS VARCHAR) FROM people",
    "FROM people SELECT salary",
    "FROM (FROM people) PIVOT (sum(salary) FOR city IN ('Bern'))",
    "SELECT * FROM people UNPIVOT (v FOR n IN (salary, age))",
]
SEES_NONE = [
    "SELECT * FROM people",
    "FROM people",
    "SELECT * RENAME (salary AS s) FROM people",
    "SELECT people FROM people",
    "SELECT p.* FROM people AS p",
    "SELECT COLUMNS(*) FROM people",
    "SELECT unnest(people) FROM people",
    "SELECT list(people) FROM people",
    "SELECT to_json(people) FROM people",
    "SELECT * FROM cities NATURAL JOIN people",
    "SELECT * FROM people POSITIONAL JOIN cities",
    "WITH t AS (FROM people) SELECT * FROM t",
    "SELECT * FROM (SELECT * FROM people) AS x",
    "SELECT #1, #2, #3 FROM people",
    "SELECT * FROM people AS p(a, b, c)",
    "SELECT * FROM people TABLESAMPLE 100%",
    "SELECT COLUMNS('.*') FROM people UNION ALL BY NAME SELECT 'x' AS city",
    "SELECT hash(people) FROM people",
    "SELECT (SELECT count(*) FROM people AS q WHERE q = p) AS n FROM people AS p",
]


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[duckdb.DuckDBPyConnection]]:
    with world("first") as first, world("second") as second:
        yield [first, second]


@pytest.mark.parametrize("sql", NAMES_HIDDEN)
def test_a_hidden_column_is_refused_wherever_it_is_named(sql: str, worlds: list[duckdb.DuckDBPyConnection]) -> None:
    assert worlds[0].sql(sql) is not None
    with pytest.raises(DisclosureError) as caught:
        permitted(sql, terms(worlds[0], hidden=HIDDEN))
    refusal = caught.value.refusal
    assert (refusal.rule, refusal.product) == (Rule.HIDDEN_COLUMN, "clinic/people")
    if "COLUMNS" not in sql:
        assert refusal.column in HIDDEN
        assert "ask owner clinic" in refusal.remedy


@pytest.mark.parametrize("sql", SEES_NONE)
def test_what_names_no_column_sees_the_permitted_ones(sql: str, worlds: list[duckdb.DuckDBPyConnection]) -> None:
    secret = ("salary", "ill", "bonus")
    rewritten = permitted(sql, terms(worlds[0], hidden=secret))
    answers = [connection.sql(rewritten.sql) for connection in worlds]
    assert not {name.casefold() for name in answers[0].columns} & {*secret}
    assert answers[0].fetchall() == answers[1].fetchall()
    assert rewritten.why == ("clinic/people has hidden columns: salary, ill, bonus",)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SUMMARIZE people", "it is no plain SELECT"),
        ("DESCRIBE people", "it is no plain SELECT"),
        ("TABLE people", "syntax error"),
        ("SELECT (SELECT max(age) FROM people)", "give that column a name with AS"),
        ("WITH people AS (FROM people) FROM people", "has the name of an input"),
    ],
)
def test_what_cannot_be_rewritten_is_refused_with_a_remedy(sql: str, words: str, worlds: list[duckdb.DuckDBPyConnection]) -> None:
    with pytest.raises(DisclosureError, match=words) as caught:
        permitted(sql, terms(worlds[0], hidden=HIDDEN))
    assert caught.value.refusal.rule is Rule.FORM


def test_masked_columns_are_masked_before_anything_sees_them(worlds: list[duckdb.DuckDBPyConnection]) -> None:
    masked = terms(worlds[0], masked=(("salary", "null"), ("name", "hash"), ("Born", "year"), ("ill", "null"), ("bonus", "year")))
    sql = "SELECT salary, name, born, ill, bonus, typeof(salary), typeof(born) FROM people WHERE id = 7001"
    rows = worlds[0].sql(permitted(sql, masked).sql).fetchall()
    digest = worlds[0].sql("SELECT sha256('clinic/people/name/Alice')").fetchall()[0][0]
    assert [tuple(map(str, row)) for row in rows] == [("None", digest, "1980-01-01", "None", "None", "DECIMAL(12,2)", "DATE")]
    for asked in ("WHERE salary > 0", "WHERE name = 'Alice'", "WHERE born = DATE '1980-05-05'", "WHERE ill IS NOT NULL", "WHERE bonus > 0"):
        assert worlds[0].sql(permitted(f"SELECT count(*) FROM people {asked}", masked).sql).fetchall() == [(0,)]


def test_groups_are_made_of_masked_values(worlds: list[duckdb.DuckDBPyConnection]) -> None:
    both = terms(worlds[0], aggregates_only=("people",), hidden=("salary",), masked=(("born", "year"), ("ill", "null")))
    found = worlds[0].sql(permitted("SELECT born, count(*) AS n FROM people GROUP BY born ORDER BY born", both).sql).fetchall()
    assert all(str(born).endswith("-01-01") and n >= 10 for born, n in found)
    assert len(found) > 5
    with pytest.raises(DisclosureError, match="column salary of clinic/people is hidden"):
        permitted("SELECT avg(salary) FROM people", both)


def test_all_columns_hidden_leaves_nothing_to_ask(worlds: list[duckdb.DuckDBPyConnection]) -> None:
    every = tuple(column.name for column in terms(worlds[0])[0].columns)
    with pytest.raises(DisclosureError, match="all columns of clinic/people are hidden"):
        permitted("SELECT count(*) FROM people", terms(worlds[0], hidden=every))


def test_statements_over_other_inputs_stay_as_they_are(worlds: list[duckdb.DuckDBPyConnection]) -> None:
    sql = "select   *  from cities -- all of them"
    assert permitted(sql, terms(worlds[0], hidden=HIDDEN, aggregates_only=("people",))) == Rewritten(sql, ())
    assert permitted(sql, terms(worlds[0])) == Rewritten(sql, ())


def test_the_rest_of_the_text_stays_as_it_is(worlds: list[duckdb.DuckDBPyConnection]) -> None:
    sql = "SELECT 'people', p.city /* people */ FROM people p WHERE city <> 'people' -- people\n AND EXISTS (FROM People)"
    rewritten = permitted(
        sql, terms(worlds[0], hidden=tuple(f for f in ("name", "age", "salary", "ill", "bonus", "born", "boss", "code", "flag", "rare")))
    )
    source = '(SELECT "id", "city" FROM "people")'
    assert rewritten.sql == (
        f"SELECT 'people', p.city /* people */ FROM {source} p WHERE city <> 'people' -- people\n AND EXISTS (FROM {source} AS \"people\")"
    )


def test_the_child_answers_like_this_process(worlds: list[duckdb.DuckDBPyConnection]) -> None:
    tables = terms(worlds[0], aggregates_only=("people",), hidden=("name",), masked=(("born", "year"),))
    sql = "SELECT city, count(*) FROM people GROUP BY city"
    assert permitted_statement(sql, tables) == permitted(sql, tables)
    assert permitted_statement(sql, tables) is permitted_statement(sql, tables)
    with pytest.raises(DisclosureError) as caught:
        permitted_statement("SELECT * FROM people", tables)
    assert caught.value.refusal.rule is Rule.ROWS
    with pytest.raises(StatementError, match="Referenced column"):
        permitted_statement("SELECT height FROM people", tables)
    with pytest.raises(StatementError, match="table function 'read_csv'"):
        permitted_statement("FROM read_csv('/etc/passwd')", tables)


def test_the_proof_finds_a_table_that_was_left_standing(worlds: list[duckdb.DuckDBPyConnection]) -> None:
    tables = terms(worlds[0], hidden=("name",))
    good = permitted("SELECT count(*) FROM people", tables)
    prove_sources(worlds[0], good, ["people"])
    for bad in (
        "SELECT count(*) FROM people", f"{good.sql} UNION ALL SELECT count(*) FROM People", f"{good.sql} UNION ALL {good.sources[0]}",
        f"SELECT (FROM main.people LIMIT 1), * FROM ({good.sql})", f"{good.sql}, (SELECT name FROM \"people\")",
    ):  # fmt: skip
        with pytest.raises(DisclosureError):
            prove_sources(worlds[0], Rewritten(bad, good.why, good.sources), ["people"])
