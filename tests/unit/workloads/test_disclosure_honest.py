"""Honest statements give what they give without limits; TPC-H's 22 among them."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from controlplane.tpch import TABLES, make_data, queries
from tests.people import permitted, terms, world
from tests.tpch import same_rows
from tests.unit.workloads.disclosure_honest import HIDDEN, PEOPLE
from workloads.catalogue.product import Column
from workloads.disclosure.terms import DisclosureError, TableTerms

SCALE = 0.01
K = 5
UNUSED = {"l_comment", "ps_comment", "p_comment", "n_comment", "r_comment"}
# Which of the 22 give all they gave when one table's owner answers about groups only. The others that read it ask for single rows or for
# small groups, or twice.
WHOLE = {
    "lineitem": {"q1", "q5", "q6", "q7", "q10", "q12", "q14", "q15"},
    "customer": {"q5", "q7"},
    "orders": {"q5", "q7", "q12"},
    "part": {"q11", "q14"},
}


@pytest.fixture(scope="module")
def people() -> Iterator[duckdb.DuckDBPyConnection]:
    with world() as connection:
        yield connection


@pytest.mark.parametrize("sql", PEOPLE)
def test_groups_that_are_large_enough_are_given_as_they_are(sql: str, people: duckdb.DuckDBPyConnection) -> None:
    rewritten = permitted(sql, terms(people, aggregates_only=("people",)))
    expected, found = people.sql(sql), people.sql(rewritten.sql)
    assert found.columns == expected.columns
    assert found.types == expected.types
    rows, wanted = found.fetchall(), expected.fetchall()
    assert wanted
    assert same_rows(rows, wanted), rewritten.sql
    if "ORDER BY" in sql:
        assert all(same_rows([row], [other]) for row, other in zip(rows, wanted, strict=True)), rewritten.sql
    assert bool(rewritten.why) == ("people" in sql.casefold())


@pytest.mark.parametrize("sql", HIDDEN)
def test_what_names_no_hidden_column_is_given_as_it_is(sql: str, people: duckdb.DuckDBPyConnection) -> None:
    hidden = ("salary", "id", "name", "born", "ill", "bonus")
    rewritten = permitted(sql, terms(people, hidden=hidden))
    with duckdb.connect() as without:
        for table in ("people", "cities", "visits"):
            shown = ", ".join(
                found[0] for found in people.execute(f"DESCRIBE {table}").fetchall() if table != "people" or found[0] not in hidden
            )
            without.register(f"{table}_rows", people.sql(f"SELECT {shown} FROM {table}").to_arrow_table())
            without.execute(f"CREATE VIEW {table} AS FROM {table}_rows")
        expected, found = without.sql(sql), people.sql(rewritten.sql)
        assert found.columns == expected.columns
        assert found.fetchall() == expected.fetchall(), rewritten.sql


@pytest.fixture(scope="module")
def tpch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for table, path in make_data(tmp_path_factory.mktemp("tpch"), SCALE).items():
            connection.execute(f"CREATE VIEW {table} AS FROM '{path}'")
        yield connection


def tpch_terms(connection: duckdb.DuckDBPyConnection, aggregates_only: str = "") -> list[TableTerms]:
    found = []
    for table in TABLES:
        columns = tuple(Column(name=name, type=type_) for name, type_, *_ in connection.execute(f"DESCRIBE {table}").fetchall())
        hidden = () if aggregates_only else tuple(column.name for column in columns if column.name in UNUSED)
        masked = (("l_shipinstruct", "hash"),) if table == "supplier" and not aggregates_only else ()
        found.append(TableTerms(table, f"tpc/{table}", "tpc", columns, table == aggregates_only, K, hidden, masked))
    return found


@pytest.mark.parametrize("name", [f"q{number}" for number in range(1, 23)])
def test_tpch_with_hidden_columns_gives_the_same_rows(name: str, tpch: duckdb.DuckDBPyConnection) -> None:
    sql = queries(SCALE)[name]
    rewritten = permitted(sql, tpch_terms(tpch))
    assert rewritten.sql != sql or not any(table in sql for table in ("lineitem", "partsupp", "part", "nation", "region"))
    expected = tpch.sql(sql)
    found = tpch.sql(rewritten.sql)
    assert (found.columns, found.types) == (expected.columns, expected.types)
    assert same_rows(found.fetchall(), expected.fetchall())


@pytest.mark.parametrize("table", sorted(WHOLE))
def test_tpch_over_a_table_that_answers_about_groups_only(table: str, tpch: duckdb.DuckDBPyConnection) -> None:
    whole = set()
    for name, sql in queries(SCALE).items():
        if table not in sql:
            continue
        try:
            rewritten = permitted(sql, tpch_terms(tpch, table))
        except DisclosureError:
            continue
        expected, found = tpch.sql(sql), tpch.sql(rewritten.sql)
        assert (found.columns, found.types) == (expected.columns, expected.types), name
        rows, wanted = found.fetchall(), expected.fetchall()
        assert len(rows) <= len(wanted), name
        if same_rows(rows, wanted):
            whole.add(name)
    assert whole == WHOLE[table]
