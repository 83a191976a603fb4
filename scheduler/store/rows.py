"""Many rows at once, in the driver's own words, and JSON as fast as it can be had.

What SQLAlchemy does for each row of a statement costs more than the database does for it. Here a statement is written once for a table
and a set of columns, and rows go to the driver as they are. JSON is written and read by the machine code that pydantic brings;
what that does not take (half a surrogate pair, which text from anywhere may hold) goes through Python's own module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json
from sqlalchemy import JSON, ColumnElement, Connection, Dialect, Table, Text, cast


class Written(str):
    """JSON text that is to be stored as it is."""

    __slots__ = ()


class Document(dict[str, Any]):
    """A document with the text that it is stored as. All rows with this text may share it: nobody changes what is in it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__(loads(text))
        self.text = text


def dumps(value: Any) -> str:
    """JSON text of plain data."""
    if type(value) is Written:
        return str(value)
    if type(value) is Document:
        return value.text
    try:
        return to_json(value, inf_nan_mode="constants").decode()
    except (PydanticSerializationError, ValueError):
        return json.dumps(value)


def loads(text: str | bytes) -> Any:
    """Plain data from JSON text."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def texts(table: Table, names: Sequence[str]) -> list[ColumnElement[Any]]:
    """All columns of a table, documents of these names as the texts that they are stored as."""
    return [cast(column, Text).label(column.name) if column.name in names else column for column in table.columns]


def insert_rows(conn: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, at least one, in their order; all have the columns of the first."""
    names = tuple(rows[0])
    conn.exec_driver_sql(_insert(table, names, conn.dialect), _values(table, names, rows))


def insert_numbered(conn: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """Insert one row; the number that the database hands out for it, which is the table's primary key."""
    names = tuple(row)
    [number] = table.primary_key.columns
    statement = f"{_insert(table, names, conn.dialect)} RETURNING {conn.dialect.identifier_preparer.quote(number.name)}"
    found: int = conn.exec_driver_sql(statement, _values(table, names, [row])[0]).scalar_one()
    return found


def update_rows(conn: Connection, table: Table, guard: Sequence[str], names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> int:
    """Change rows, at least one: each has the values to be set in the columns `names`, and behind them those of the columns `guard` that
    tell which row it is, and that nobody has changed it. How many rows were changed."""
    statement = _update(table, tuple(names), tuple(guard), conn.dialect)
    documents, absent = _documents(table), _none_as_null(table)
    at = [(place, name in absent) for place, name in enumerate(names) if name in documents]
    return conn.exec_driver_sql(statement, [_written(row, at) for row in rows] if at else list(rows)).rowcount


def _written(row: tuple[Any, ...], documents: list[tuple[int, bool]]) -> tuple[Any, ...]:
    """A row with its documents as text; `documents` are their places, and whether nothing is no document there."""
    values = list(row)
    for place, may_lack in documents:
        if values[place] is not None or not may_lack:
            values[place] = dumps(values[place])
    return tuple(values)


def _values(table: Table, names: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    documents = _documents(table)
    if documents.isdisjoint(names):
        return [tuple([row[name] for name in names]) for row in rows]
    # In some columns nothing is no document, in the others the document null.
    absent = _none_as_null(table)
    written = [(name, name in documents, name in absent) for name in names]
    return [
        tuple([
            dumps(row[name]) if is_document and not (row[name] is None and may_lack) else row[name]
            for name, is_document, may_lack in written
        ])
        for row in rows
    ]  # fmt: skip


@cache
def _documents(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.columns if isinstance(column.type, JSON))


@cache
def _none_as_null(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.columns if isinstance(column.type, JSON) and column.type.none_as_null)


@cache
def _insert(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    quote, mark = dialect.identifier_preparer.quote, _mark(dialect)
    return f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, names))}) VALUES ({', '.join([mark] * len(names))})"


@cache
def _update(table: Table, names: tuple[str, ...], guard: tuple[str, ...], dialect: Dialect) -> str:
    quote, mark = dialect.identifier_preparer.quote, _mark(dialect)
    changes, same = (glue.join(f"{quote(name)} = {mark}" for name in some) for glue, some in ((", ", names), (" AND ", guard)))
    return f"UPDATE {quote(table.name)} SET {changes} WHERE {same}"


def _mark(dialect: Dialect) -> str:
    return "?" if dialect.paramstyle == "qmark" else "%s"
