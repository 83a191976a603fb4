"""Attacks on a table with a known individual: refused, or run on real data and silent about her."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from tests.people import WORLDS, permitted, terms, world
from tests.unit.workloads.disclosure_attacks import ATTACKS, SILENT
from workloads.disclosure.terms import DisclosureError, TableTerms


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[duckdb.DuckDBPyConnection]]:
    with world("first") as first, world("second") as second:
        yield [first, second]


@pytest.fixture(scope="module")
def tables(worlds: list[duckdb.DuckDBPyConnection]) -> list[TableTerms]:
    return terms(worlds[0], aggregates_only=("people",))


def test_there_are_enough_of_them() -> None:
    assert len({sql for _, _, sql in ATTACKS}) == len(ATTACKS) >= 100
    assert sum(outcome == SILENT for _, outcome, _ in ATTACKS) >= 30


@pytest.mark.parametrize(("what", "outcome", "sql"), ATTACKS, ids=[sql for _, _, sql in ATTACKS])
def test_attack(what: str, outcome: str, sql: str, worlds: list[duckdb.DuckDBPyConnection], tables: list[TableTerms]) -> None:
    assert worlds[0].sql(sql) is not None, f"{what}: without limits it runs"
    if outcome == SILENT:
        rewritten = permitted(sql, tables)
        answers = [connection.execute(rewritten.sql).fetchall() for connection in worlds]
        assert answers[0] == answers[1], rewritten.sql
        assert not {value for row in answers[0] for value in row} & {"Alice", *(salary for salary, _, _ in WORLDS.values())}
        return
    with pytest.raises(DisclosureError) as caught:
        permitted(sql, tables)
    assert caught.value.refusal.rule == outcome, str(caught.value)
    assert caught.value.refusal.message
    assert caught.value.refusal.remedy
