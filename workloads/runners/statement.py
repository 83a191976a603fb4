"""What a SQL statement may say, decided from its syntax tree before anything is bound or run.

A statement is one query over the job's inputs and nothing else: every table it reads is an input or one of
its own common table expressions, every table function is one that makes rows from its arguments, and no
function reaches for the engine's settings or sleeps. The list of table functions is one of what is allowed,
because every release of DuckDB brings new ones that read files.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from workloads.catalogue.tables import plain_message
from workloads.errors import StatementError

if TYPE_CHECKING:
    import duckdb

MOST_KNOWN = 256
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"})
# They show settings or how the inputs are stored, write to the engine's log, or only pass time.
_FUNCTIONS_REFUSED = frozenset({
    "current_setting", "getenv", "getvariable", "nextval", "currval", "setval", "write_log", "pg_sleep", "sleep_ms",
    "json_serialize_plan", "pg_get_viewdef",
})  # fmt: skip
_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})


def read_statement(connection: duckdb.DuckDBPyConnection, sql: str, inputs: Collection[str]) -> str:
    """The one query in `sql`, proved to read nothing but `inputs`. Parses on `connection`, binds and runs nothing.

    Raises StatementError: it does not parse, is several statements or no query, names an unknown table.
    """
    import duckdb

    if "\0" in sql or not _is_unicode(sql):
        raise StatementError("the statement holds a NUL character or characters that are no valid Unicode")
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise StatementError(f"the statement does not parse: {plain_message(error)}") from error
    if len(statements) != 1:
        raise StatementError(f"give exactly one statement, a query; found {len(statements) or 'none'}")
    kind = statements[0].type.name
    if kind != "SELECT":
        raise StatementError(_not_a_query(kind))
    if statements[0].named_parameters:
        raise StatementError("the statement has parameters (? or $name), and a job has no values for them; write the values")
    examine(_syntax_tree(connection, sql), inputs)
    return sql


class KnownStatements:
    """Statements that were read already: what `read_statement` finds depends on the text and the names of the inputs only, and to read a
    small statement takes as long as to run it."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        self._most = most
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def read(self, connection: duckdb.DuckDBPyConnection, sql: str, inputs: Collection[str]) -> None:
        """read_statement, for a statement that is not known. Raises StatementError."""
        key = hashlib.sha256(json.dumps([sql, sorted(inputs)]).encode()).digest()
        if key not in self._known:
            read_statement(connection, sql, inputs)
            self._known[key] = None
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(key)


def examine(tree: Any, inputs: Collection[str]) -> None:
    """Check a syntax tree as DuckDB's json_serialize_sql gives it. Raises StatementError."""
    known = {name.casefold() for name in inputs}
    nodes = list(_nodes(tree))
    expressions = {entry["key"].casefold() for node in nodes if isinstance(node.get("cte_map"), dict) for entry in node["cte_map"]["map"]}
    unknown: set[str] = set()
    for node in nodes:
        if "cte_map" in node and node.get("type") not in _QUERY_NODES:
            raise StatementError("the statement changes data; a job may only query its inputs")
        if node.get("type") == "BASE_TABLE":
            unknown.update(_unknown_table(node, known, expressions))
        elif node.get("type") == "TABLE_FUNCTION":
            _check_table_function(node)
        elif node.get("type") == "SHOW_REF" and node.get("query") is None:
            raise StatementError("SHOW lists what the engine holds, not your inputs; use DESCRIBE or SUMMARIZE with the name of an input")
        elif node.get("class") == "FUNCTION":
            _check_function(node)
    if unknown:
        names = ", ".join(repr(name) for name in sorted(unknown))
        have = ", ".join(sorted(inputs)) or "none, add them under inputs"
        raise StatementError(f"unknown table {names}; a statement reads the job's inputs only (available: {have})")


def _unknown_table(node: dict[str, Any], known: set[str], expressions: set[str]) -> list[str]:
    path = [part for part in node["qualified_name"]["path"] if part]
    name = path[-1].casefold()
    if len(path) == 1 and (name in known or name in expressions):
        return []
    if len(path) == 2 and path[0].casefold() == "recurring" and name in expressions:
        return []
    return [".".join(path)]


def _check_table_function(node: dict[str, Any]) -> None:
    name = node["function"]["function_name"].casefold()
    if name not in TABLE_FUNCTIONS or len(node["function"]["qualified_name"]["path"]) != 1:
        allowed = ", ".join(sorted(TABLE_FUNCTIONS))
        raise StatementError(f"table function {name!r} is not allowed; read data through the job's inputs (allowed: {allowed})")


def _check_function(node: dict[str, Any]) -> None:
    name = node["function_name"].casefold()
    if name in _FUNCTIONS_REFUSED:
        raise StatementError(f"function {name!r} is not allowed in a job: it reaches for the engine, not for data")


def _syntax_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    rows = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    try:
        tree = json.loads(rows[0][0])
    except RecursionError:
        raise StatementError("the statement is nested too deeply") from None
    if tree["error"]:
        raise StatementError(f"the statement is not a plain query: {tree['error_message']}")
    return tree["statements"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree, without recursion: its depth is the user's choice."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_a_query(kind: str) -> str:
    if kind == "MULTI":
        return "PIVOT needs its values in the statement, like PIVOT t ON column IN ('a', 'b') USING sum(x)"
    return f"{kind.lower()} is not a query; give one SELECT, WITH, VALUES or FROM statement"
