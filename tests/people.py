"""A table with a known individual in it, for tests of what statements disclose: what is asked about her must not be answered.

`people` holds 400 rows in four cities and one more, Alice, alone in Zug. In a second world she has other secrets (salary, illness, a
bonus): a statement that gives the same in both worlds tells nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import duckdb

from workloads.catalogue.product import Column
from workloads.catalogue.tables import confined_connection
from workloads.disclosure.statements import permitted_statement
from workloads.disclosure.terms import Mask, Rewritten, TableTerms

K = 10
ALICE = 7001
WORLDS = {"first": (123456.78, True, 777.5), "second": (54321.12, False, None)}
PEOPLE = (
    "CREATE TABLE people (id INTEGER, name VARCHAR, city VARCHAR, age INTEGER, salary DECIMAL(12,2), ill BOOLEAN, bonus DOUBLE, "
    "born DATE, boss INTEGER, code VARCHAR, flag INTEGER, rare DOUBLE)"
)
FILL = (
    "INSERT INTO people SELECT i, 'name' || i, ['Aarau', 'Bern', 'Chur', 'Davos'][1 + i % 4], 20 + i % 50, 3000 + (i * 37) % 5000, "
    "i % 3 = 0, CASE WHEN i % 2 = 0 THEN 100 + i % 70 END, DATE '1950-01-01' + CAST(i * 61 % 20000 AS INTEGER), i // 20, "
    "CAST(i AS VARCHAR), i % 2, 5 + i % 3 FROM range(400) AS t(i)"
)
CITIES = "CREATE TABLE cities AS SELECT * FROM (VALUES ('Aarau', 'AG', 22000), ('Bern', 'BE', 134000), ('Chur', 'GR', 38000), "
CITIES += "('Davos', 'GR', 11000), ('Zug', 'ZG', 31000)) AS t(city, canton, inhabitants)"
VISITS = (
    "CREATE TABLE visits AS SELECT i AS visit, i % 401 AS person, DATE '2025-01-01' + CAST(i % 365 AS INTEGER) "
    "AS day, 10 + i % 90 AS cost, "
    "['eye', 'ear', 'heart'][1 + i % 3] AS ward FROM range(4000) AS t(i)"
)


@contextmanager
def world(name: str = "first") -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with all three tables in one of the worlds."""
    with duckdb.connect() as connection:
        salary, ill, bonus = WORLDS[name]
        for statement in (PEOPLE, FILL, CITIES, VISITS):
            connection.execute(statement)
        row = [ALICE, "Alice", "Zug", 44, salary, ill, bonus, "1980-05-05", 3, "A-1", 1, None]
        connection.execute(f"INSERT INTO people VALUES ({', '.join('?' * len(row))})", row)
        yield connection


def terms(
    connection: duckdb.DuckDBPyConnection, *, aggregates_only: tuple[str, ...] = (), hidden: tuple[str, ...] = (),
    masked: tuple[tuple[str, Mask], ...] = (), k: int = K,
) -> list[TableTerms]:  # fmt: skip
    """The terms of the three tables; what is hidden or masked is so in `people`."""
    found = []
    for table in ("people", "cities", "visits"):
        columns = tuple(Column(name=name, type=type_) for name, type_, *_ in connection.execute(f"DESCRIBE {table}").fetchall())
        mine = table == "people"
        found.append(TableTerms(
            table, f"clinic/{table}", "clinic", columns, table in aggregates_only, k, hidden if mine else (), masked if mine else (),
        ))  # fmt: skip
    return found


def permitted(sql: str, tables: list[TableTerms]) -> Rewritten:
    """What runs in place of a statement. Raises DisclosureError."""
    return permitted_statement(_base(), sql, tables)


@cache
def _base() -> duckdb.DuckDBPyConnection:
    return confined_connection([], {"threads": "1"})
