"""A statement of DuckDB's dialect in Daft's, as far as both are known to give the same rows.

Daft's own reading of a statement is no ground to stand on: many run and give other rows in silence (0.06 + 0.01 is a double to it,
CASE gives NULL where a condition is NULL, whole numbers wrap around). So DuckDB parses, and this module writes anew what it knows,
with types; the rest is refused with the reason, and such a statement stays with DuckDB (docs/decisions/0025-daft.md).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workloads.catalogue.product import Column
from workloads.runners.daft_types import Expression, UntranslatableError, checked, column_type
from workloads.runners.daft_words import Node, condition, translate

if TYPE_CHECKING:
    import duckdb

_MOST_DEPTH = 40


@dataclass(frozen=True)
class DaftTable:
    """An input as the statement names it: `columns` are pairs of the input's own name and the statement's, without other types."""

    name: str
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DaftStatement:
    """The statement, and the inputs that it reads by their alias. Its columns are in the order of the original's.

    `read`: the columns that it names, by alias.
    """

    sql: str
    tables: Mapping[str, DaftTable]
    read: Mapping[str, tuple[str, ...]]


def to_daft(connection: duckdb.DuckDBPyConnection, sql: str, inputs: Mapping[str, Sequence[Column]]) -> DaftStatement:
    """The statement, which binds over `inputs` on DuckDB, in Daft's SQL. Raises UntranslatableError with the reason.

    `connection` parses, and computes constant dates. No name of the user's is left in it: every column of every relation has a
    number of its own, for Daft takes `"a"."x"` for any x that it finds first.
    """
    rows = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    try:
        tree = json.loads(rows[0][0])
    except RecursionError:
        raise UntranslatableError("a statement that is nested this deeply") from None
    named, tables = {}, {}
    for number, (alias, columns) in enumerate(sorted(inputs.items())):
        # A dot in a name is a way into a nested column to those who read the file.
        known = {column.name: column_type(column.type) if "." not in column.name else None for column in columns}
        places = {name: f"t{number}_{place}" for place, name in enumerate(known)}
        named[alias] = DaftTable(f"t{number}", tuple((name, places[name]) for name, found in known.items() if found))
        expressions = {name.casefold(): Expression(places[name], found) if found else None for name, found in known.items()}
        tables[alias.casefold()] = _Table(f"t{number}", expressions)
    query = _Query(connection, tables, None, 0, _Names())
    text = query.translate(tree["statements"][0]["node"])[0]
    used = query.numbers.used
    read = {alias: tuple(name for name, place in table.columns if place in used) for alias, table in named.items()}
    return DaftStatement(text, named, read)


class _Names:
    """Numbers that are given out once, and which columns of inputs were named."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._origins: dict[str, str] = {}
        self.used: set[str] = set()

    def next(self) -> int:
        """A number for a column or a relation."""
        return next(self._numbers)

    def comes_from(self, name: str, column: str) -> None:
        """A column of a relation is this one of an input."""
        self._origins[name] = column

    def uses(self, name: str) -> None:
        """A column was named."""
        self.used.update([self._origins[name]] if name in self._origins else [])


@dataclass(frozen=True)
class _Table:
    """A relation: how it is called in Daft, and its columns by folded name; None for one whose type is not translated."""

    text: str
    columns: Mapping[str, Expression | None]


@dataclass
class _Query:
    """One SELECT (Scope). `outer` is the query around it, whose columns a correlated one may name."""

    connection: duckdb.DuckDBPyConnection
    tables: Mapping[str, _Table]
    outer: _Query | None
    depth: int
    numbers: _Names
    relations: dict[str, Mapping[str, Expression | None]] = field(default_factory=dict)
    aliases: dict[str, Expression] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    aliases_open: bool = False
    is_linked: bool = False

    def translate(self, node: Node, *, inner: bool = False) -> tuple[str, dict[str, Expression]]:
        """The text, and its columns by folded name. `inner`: its columns do not matter, as in EXISTS."""
        self._refuse_what_is_unknown(node)
        head = self._expressions(node)
        source = self._source(node["from_table"])
        where = f" WHERE {condition(node['where_clause'], self)}" if node["where_clause"] else ""
        columns = {} if inner else self._columns(node["select_list"])
        self.places = {name: f"c{self.numbers.next()}" for name in columns}
        listed = "*" if inner else ", ".join(f"{found.text} AS {self.places[name]}" for name, found in columns.items())
        self.aliases, self.aliases_open = columns, True
        grouped = [checked(self._output(group, columns)).text for group in node["group_expressions"]]
        group = f" GROUP BY {', '.join(grouped)}" if grouped else ""
        having = f" HAVING {condition(node['having'], self)}" if node["having"] else ""
        distinct, order, limit = self._modifiers(node["modifiers"], columns)
        if self.linked():
            raise UntranslatableError("a query inside that depends on the one around elsewhere than in WHERE")
        return f"{head}SELECT {distinct}{listed} FROM {source}{where}{group}{having}{order}{limit}", columns

    def outputs(self, columns: dict[str, Expression]) -> dict[str, Expression | None]:
        """The columns as another query sees them."""
        return {name: Expression(self.places[name], found.type, as_decimal=found.as_decimal) for name, found in columns.items()}

    def column(self, path: list[str]) -> Expression:
        """The column in this query, else its alias where those are known, else a column of a query around."""
        name = path[-1].casefold()
        found = [
            columns[name]
            for relation, columns in self.relations.items()
            if name in columns and (len(path) == 1 or path[-2].casefold() == relation)
        ]
        if len(path) > 2 or len(found) > 1:
            raise UntranslatableError(f"the name {'.'.join(path)}")
        if found:
            if found[0] is None:
                raise UntranslatableError(f"column {path[-1]}, for its type")
            self.numbers.uses(found[0].text)
            return found[0]
        if self.aliases_open and len(path) == 1 and name in self.aliases:
            return self.aliases[name]
        if self.outer is None:
            raise UntranslatableError(f"the name {'.'.join(path)} at that place")
        self.is_linked = True
        return self.outer.column(path)

    def linked(self) -> bool:
        """Whether a column of a query around was named since this was asked last."""
        found, self.is_linked = self.is_linked, False
        return found

    def exists(self, query: Node) -> str:
        """`EXISTS (…)`."""
        return f"EXISTS ({self._within().translate(query, inner=True)[0]})"

    def one_column(self, query: Node, *, scalar: bool) -> Expression:
        """A query of one column. A scalar one has to have one row for certain: aggregates without groups, and no count, which Daft
        takes for NULL where a correlated query has no rows."""
        text, columns = self._within().translate(query)
        if len(columns) != 1:
            raise UntranslatableError("a query of several columns as one value")
        (found,) = columns.values()
        if scalar and (not found.aggregates or query["group_expressions"] or found.counts or "coalesce(" in found.text):
            raise UntranslatableError("a query as a value that is no plain aggregate")
        return Expression(f"({text})", found.type, as_decimal=found.as_decimal)

    def fold(self, node: Node) -> object:
        """The value of an expression of constants, by DuckDB."""
        holder = json.loads(self.connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()[0][0])
        holder["statements"][0]["node"]["select_list"] = [node]
        text = self.connection.execute("SELECT json_deserialize_sql(?)", [json.dumps(holder)]).fetchall()[0][0]
        value: object = self.connection.execute(text).fetchall()[0][0]
        return value

    def _within(self) -> _Query:
        if self.depth > _MOST_DEPTH:
            raise UntranslatableError("a statement that is nested this deeply")
        return _Query(self.connection, self.tables, self, self.depth + 1, self.numbers)

    def _apart(self) -> _Query:
        """A query that sees nothing of this one: a table expression, or a query in FROM."""
        apart = self._within()
        apart.outer = None
        return apart

    def _refuse_what_is_unknown(self, node: Node) -> None:
        if node["type"] != "SELECT_NODE":
            raise UntranslatableError("UNION, INTERSECT, EXCEPT and recursive queries")
        if node["qualify"] or node["sample"] or node["aggregate_handling"] != "STANDARD_HANDLING":
            raise UntranslatableError("QUALIFY, SAMPLE and GROUP BY ALL")
        if node["group_sets"] not in ([], [list(range(len(node["group_expressions"])))]):
            raise UntranslatableError("grouping sets")

    def _expressions(self, node: Node) -> str:
        """WITH, and its table expressions among the tables."""
        texts = []
        for entry in node["cte_map"]["map"]:
            name, value = entry["key"], entry["value"]
            if value["aliases"] or value["key_targets"]:
                raise UntranslatableError("table expressions with names of columns")
            query, called = self._apart(), f"w{self.numbers.next()}"
            text, columns = query.translate(value["query_node"])
            texts.append(f"{called} AS ({text})")
            self.tables = {**self.tables, name.casefold(): _Table(called, query.outputs(columns))}
        return f"WITH {', '.join(texts)} " if texts else ""

    def _source(self, node: Node) -> str:
        if node["type"] == "BASE_TABLE":
            table = self.tables.get(node["table_name"].casefold())
            if table is None or node["sample"] or node["at_clause"] or node["column_name_alias"]:
                raise UntranslatableError(f"table {node['table_name']} in that way")
            columns = {name: self._renamed(found) for name, found in table.columns.items()}
            self._relation(node["alias"] or node["table_name"], columns)
            for old, new in zip(table.columns.values(), columns.values(), strict=True):
                if old and new:
                    self.numbers.comes_from(new.text, old.text)
            listed = ", ".join(
                f"{found.text} AS {new.text}" for found, new in zip(table.columns.values(), columns.values(), strict=True) if found and new
            )
            return f"(SELECT {listed} FROM {table.text}) AS r{self.numbers.next()}"
        if node["type"] == "SUBQUERY":
            if not node["alias"] or node["sample"] or node["column_name_alias"]:
                raise UntranslatableError("a query in FROM without a name")
            query = self._apart()
            text, found = query.translate(node["subquery"]["node"])
            self._relation(node["alias"], query.outputs(found))
            return f"({text}) AS r{self.numbers.next()}"
        if node["type"] == "JOIN":
            return self._join(node)
        raise UntranslatableError(
            "a query without tables" if node["type"] == "EMPTY" else f"{node['type'].replace('_', ' ').lower()} in FROM"
        )

    def _renamed(self, column: Expression | None) -> Expression | None:
        return replace(column, text=f"c{self.numbers.next()}") if column else None

    def _relation(self, name: str, columns: Mapping[str, Expression | None]) -> None:
        if name.casefold() in self.relations:
            raise UntranslatableError(f"two relations named {name}")
        self.relations[name.casefold()] = columns

    def _join(self, node: Node) -> str:
        left, right = self._source(node["left"]), self._source(node["right"])
        if node["ref_type"] == "CROSS" and _binds_loosely(node["right"]) is False:
            return f"{left}, {right}"
        if node["ref_type"] != "REGULAR" or node["join_type"] not in ("INNER", "LEFT") or node["using_columns"] or not node["condition"]:
            raise UntranslatableError(f"joins of kind {node['join_type']} {node['ref_type']}, or with USING".lower())
        if _binds_loosely(node["left"]) or node["right"]["type"] == "JOIN":
            raise UntranslatableError("joins in brackets")
        word = "INNER JOIN" if node["join_type"] == "INNER" else "LEFT JOIN"
        return f"{left} {word} {right} ON {condition(node['condition'], self)}"

    def _columns(self, listed: list[Node]) -> dict[str, Expression]:
        columns: dict[str, Expression] = {}
        for place, node in enumerate(listed):
            for name, found in self._star(node) if node["class"] == "STAR" else [self._one(node, place)]:
                if name in columns:
                    raise UntranslatableError(f"two columns named {name}")
                columns[name] = checked(found)
        return columns

    def _one(self, node: Node, place: int) -> tuple[str, Expression]:
        named = node["alias"] or (node["column_names"][-1] if node["class"] == "COLUMN_REF" else f"column {place + 1}")
        return named.casefold(), translate(node, self)

    def _star(self, node: Node) -> list[tuple[str, Expression]]:
        plain = not any(node[part] for part in ("exclude_list", "replace_list", "columns", "expr", "qualified_exclude_list", "rename_list"))
        if not plain or node["relation_name"] or len(self.relations) != 1:
            raise UntranslatableError("* but of all columns of one relation")
        ((_, columns),) = self.relations.items()
        return [(name, self.column([name])) for name in columns]

    def _output(self, node: Node, columns: dict[str, Expression]) -> Expression:
        """An expression of GROUP BY, which may be a column's place."""
        if node["class"] == "CONSTANT":
            return list(columns.values())[_place(node, columns)]
        return translate(node, self)

    def _modifiers(self, modifiers: list[Node], columns: dict[str, Expression]) -> tuple[str, str, str]:
        distinct = order = limit = ""
        for modifier in modifiers:
            if modifier["type"] == "DISTINCT_MODIFIER" and not modifier["distinct_on_targets"]:
                distinct = "DISTINCT "
            elif modifier["type"] == "ORDER_MODIFIER":
                order = " ORDER BY " + ", ".join(self._order(one, columns) for one in modifier["orders"])
            elif modifier["type"] == "LIMIT_MODIFIER" and _is_count(modifier):
                limit = f" LIMIT {modifier['limit']['literal']['text']}"
            else:
                raise UntranslatableError("DISTINCT ON, OFFSET and limits that are no plain number")
        if limit and not order:
            raise UntranslatableError("LIMIT without ORDER BY, which takes any rows")
        return distinct, order, limit

    def _order(self, order: Node, columns: dict[str, Expression]) -> str:
        node = order["expression"]
        if node["class"] == "CONSTANT":
            text = list(self.places.values())[_place(node, columns)]
        elif node["class"] == "COLUMN_REF" and len(node["column_names"]) == 1 and node["column_names"][0].casefold() in columns:
            text = self.places[node["column_names"][0].casefold()]
        elif node["class"] == "STAR":
            raise UntranslatableError("ORDER BY ALL")
        else:
            text = checked(translate(node, self)).text
        way = "DESC" if order["type"] == "DESCENDING" else "ASC"
        nulls = "FIRST" if order["null_order"] == "NULLS_FIRST" else "LAST"
        return f"{text} {way} NULLS {nulls}"


def _binds_loosely(node: Node) -> bool:
    """A list of tables with commas, around which no brackets are written."""
    return bool(node["type"] == "JOIN" and node["ref_type"] == "CROSS")


def _is_count(modifier: Node) -> bool:
    limit: Any = modifier["limit"]
    return bool(
        modifier["offset"] is None and limit and limit["class"] == "CONSTANT" and limit["literal"]["kind"] == "INTEGER"
        and modifier["limit_type"] == "ROW_COUNT"
    )  # fmt: skip


def _place(node: Node, columns: dict[str, Expression]) -> int:
    text = node["literal"]["text"]
    if node["literal"]["kind"] != "INTEGER" or not 0 < int(text) <= len(columns):
        raise UntranslatableError("a constant to group or order by")
    return int(text) - 1
