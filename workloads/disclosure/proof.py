"""The proof of a rewritten statement by DuckDB's own reading of it.

The policy reads statements with one parser, and another one runs them. Where the two disagree a name of a limited table might be left
standing. So what runs is parsed by DuckDB, and every place where a limited table is read must be one of the sources that the policy wrote.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from workloads.disclosure.terms import DisclosureError, Refusal, Rewritten, Rule

if TYPE_CHECKING:
    import duckdb

_PLACES = ("query_location", "query_location_length")


def prove_sources(connection: duckdb.DuckDBPyConnection, rewritten: Rewritten, limited: Collection[str]) -> None:
    """See that the statement reads the tables of these aliases through the policy's sources only. Raises DisclosureError."""
    names = {alias.casefold() for alias in limited}
    written = [_normal(_parsed(connection, source)[0]["node"]) for source in rewritten.sources]
    for node in _nodes(_parsed(connection, rewritten.sql), written):
        if node.get("type") == "BASE_TABLE" and {part.casefold() for part in node["qualified_name"]["path"]} & names:
            raise DisclosureError(Refusal(
                Rule.FORM, "the statement reads a product whose owner limits what it discloses in a form that is not judged",
                "name each input once behind FROM or JOIN, in plain SELECTs",
            ))  # fmt: skip


def _parsed(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])
    if tree["error"]:
        raise DisclosureError(Refusal(
            Rule.FORM, f"the statement cannot be rewritten as its products' owners want: {tree['error_message']}", "write plain SELECTs",
        ))  # fmt: skip
    return tree["statements"]


def _nodes(tree: Any, written: list[Any]) -> Iterator[dict[str, Any]]:
    """Every object of the tree outside the queries that were written, each of which is taken out once."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if item.get("type") == "SELECT_NODE" and written and (found := _normal(item)) in written:
                written.remove(found)
                continue
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _normal(tree: Any) -> Any:
    """A syntax tree without the places of its words."""
    if isinstance(tree, dict):
        return {name: _normal(value) for name, value in tree.items() if name not in _PLACES}
    return [_normal(item) for item in tree] if isinstance(tree, list) else tree
