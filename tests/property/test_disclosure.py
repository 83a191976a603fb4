"""Random statements over a table with an individual: whatever is let go rests on rows enough, and so does what two values differ by."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.people import K, permitted, terms, world
from workloads.disclosure.terms import DisclosureError

KEYS = [
    "city",
    "flag",
    "ill",
    "boss",
    "age // 10",
    "name = 'Alice'",
    "CASE WHEN ill AND id > 390 THEN 'x' ELSE city END",
    "year(born)",
    "id",
]
CONDITIONS = [
    "ill", "NOT ill", "age > 30", "age > 60", "age <= 60", "flag = 1", "city = 'Bern'", "city <> 'Bern'", "city IN ('Bern', 'Chur')",
    "name <> 'Alice'", "name = 'Alice'", "id <> 7001", "id < 20", "id >= 395", "bonus > 120", "salary > 7900", "name LIKE 'name1%'",
    "rare IS NULL",
    "flag = 1 AND name <> 'Alice'", "age > 30 OR id = 7001", "bonus IS NULL", "NOT (name = 'Alice' AND ill)", "age BETWEEN 30 AND 60",
]  # fmt: skip
AMOUNTS = [
    "salary",
    "bonus",
    "flag",
    "age",
    "salary * flag",
    "salary * age",
    "bonus - age",
    "salary * (1 - flag)",
    "salary + 0 * rare",
    "salary * rare",
]

conditions = st.recursive(
    st.sampled_from(CONDITIONS), lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner), max_leaves=3
)


@st.composite
def aggregates(draw: st.DrawFn) -> tuple[str, str, str]:
    """An aggregate, the rows that it reads, and what they add."""
    kind = draw(st.sampled_from(["count", "sum", "case", "filter", "count_filter"]))
    condition, amount = draw(conditions), draw(st.sampled_from(AMOUNTS))
    if kind == "count":
        return "count(*)", "true", "1"
    if kind == "sum":
        return f"sum({amount})", "true", amount
    if kind == "case":
        return f"sum(CASE WHEN {condition} THEN {amount} ELSE 0 END)", condition, amount
    if kind == "filter":
        return f"sum({amount}) FILTER (WHERE {condition})", condition, amount
    return f"count(*) FILTER (WHERE {condition})", condition, "1"


@pytest.fixture(scope="module")
def people() -> Iterator[duckdb.DuckDBPyConnection]:
    with world() as connection:
        yield connection


@settings(max_examples=100, deadline=None)
@given(
    key=st.sampled_from(KEYS),
    asked=st.lists(aggregates(), min_size=1, max_size=3),
    where=conditions,
    having=st.sampled_from(["", "count(*) < 15"]),
)
def test_what_is_let_go_rests_on_rows_enough(
    people: duckdb.DuckDBPyConnection, key: str, asked: list[tuple[str, str, str]], where: str, having: str
) -> None:
    values = ", ".join(f"{text} AS v{place}" for place, (text, _, _) in enumerate(asked))
    tail = f" HAVING {having}" if having else ""
    sql = f"SELECT {key} AS k, {values} FROM people WHERE {where} GROUP BY k{tail}"
    try:
        rewritten = permitted(sql, terms(people, aggregates_only=("people",)))
    except DisclosureError:
        return
    for group, *found in people.execute(rewritten.sql).fetchall():
        assert len(_rows(people, key, group, where, "true", "1")) >= K, sql
        rows = [
            _rows(people, key, group, where, condition, amount)
            for value, (_, condition, amount) in zip(found, asked, strict=True) if value is not None
        ]  # fmt: skip
        shown = [asked[place] for place, value in enumerate(found) if value is not None]
        # Where all of a large group have the flag, those without it add nothing, and that is told.
        assert all(len(read) >= K or (not read and "(1 - flag)" in one[2]) for read, one in zip(rows, shown, strict=True)), (sql, group)
        for (first, one), (second, other) in combinations(zip(rows, shown, strict=True), 2):
            # Sums of one amount under two conditions, or counts, may be taken from each other.
            if _added(one) == _added(other):
                assert len(first ^ second) == 0 or len(first ^ second) >= K, (sql, group)


def _added(asked: tuple[str, str, str]) -> str:
    """What is added up, without what adds nothing but leaves rows out."""
    return asked[2].removesuffix(" + 0 * rare")


def _rows(connection: duckdb.DuckDBPyConnection, key: str, group: Any, where: str, condition: str, amount: str) -> set[int]:
    """The rows of a group that add something under a condition."""
    sql = f"SELECT id FROM people WHERE ({where}) AND ({key}) IS NOT DISTINCT FROM ? AND ({condition}) AND ({amount}) <> 0"
    return {row[0] for row in connection.execute(sql, [group]).fetchall()}


@settings(max_examples=40, deadline=None)
@given(key=st.sampled_from(KEYS), asked=st.lists(aggregates(), min_size=1, max_size=2), where=conditions)
def test_large_groups_lose_nothing_but_what_small_parts_hold(
    people: duckdb.DuckDBPyConnection, key: str, asked: list[tuple[str, str, str]], where: str
) -> None:
    values = ", ".join(f"{text} AS v{place}" for place, (text, _, _) in enumerate(asked))
    sql = f"SELECT {key} AS k, {values} FROM people WHERE {where} GROUP BY k"
    try:
        rewritten = permitted(sql, terms(people, aggregates_only=("people",)))
    except DisclosureError:
        return
    expected = {row[0]: row[1:] for row in people.execute(sql).fetchall()}
    for group, *found in people.execute(rewritten.sql).fetchall():
        for value, wanted in zip(found, expected[group], strict=True):
            assert value is None or value == pytest.approx(wanted), sql
