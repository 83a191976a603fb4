"""A query that groups protected rows, cut in two: an inner one that lets groups go, an outer one that computes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from sqlglot import exp

from workloads.disclosure.guards import Guards
from workloads.disclosure.relations import Level, Names, column
from workloads.disclosure.terms import DisclosureError, Refusal, Rule


class Judge(Protocol):
    """What judges the pieces of a query."""

    def condition(self, condition: exp.Expr, level: Level, scope: Any) -> exp.Expr:
        """A condition on rows that fails on none."""

    def row_value(self, expression: exp.Expr, level: Level) -> exp.Expr:
        """A value of one row that is computed without failing."""

    def replace_queries(self, expression: exp.Expr, scope: Any) -> None:
        """Rewrite the queries inside an expression."""


def is_aggregating(node: exp.Select) -> bool:
    """Whether a query gives groups: it has GROUP BY, HAVING or DISTINCT, or an aggregate."""
    if any(node.args.get(part) is not None for part in ("group", "having", "distinct")):
        return True
    return any(True for part in _asked(node) for _ in aggregates(part))


def aggregates(node: exp.Expr) -> Iterator[exp.Expr]:
    """The aggregates of a query in one of its expressions, with their FILTER; none of a window's own and none of a query inside."""
    if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
        return
    if isinstance(node, exp.Window):
        inner = node.this
        children = inner.iter_expressions() if isinstance(inner, exp.AggFunc) else [inner]
        for child in [*children, *(part for part in node.iter_expressions() if part is not inner)]:
            yield from aggregates(child)
        return
    if isinstance(node, exp.AggFunc) or (isinstance(node, exp.Filter) and isinstance(node.this, exp.AggFunc)):
        yield node
        return
    for child in node.iter_expressions():
        yield from aggregates(child)


def _asked(node: exp.Select) -> list[exp.Expr]:
    """The expressions of a query in which its aggregates stand."""
    found = list(node.expressions)
    for part in ("having", "qualify", "order"):
        value = node.args.get(part)
        if value is not None:
            found.append(value)
    return found


class Grouping:
    """One such query over `level`."""

    def __init__(self, judge: Judge, node: exp.Select, level: Level, scope: Any, names: Names) -> None:
        self._judge, self._node, self._level, self._scope, self._names = judge, node, level, scope, names
        self._alias = names.name("groups")
        self._keys = {key.sql("duckdb"): key for key in self._read_keys()}
        self._units = {unit.sql("duckdb"): unit for part in _asked(node) for unit in aggregates(part)}
        self._columns = {text: names.name("key") for text in self._keys} | {text: names.name("value") for text in self._units}
        self._guards = Guards(level, lambda test: judge.condition(test, level, scope), list(self._units.values()), names)

    def rewritten(self) -> exp.Select:
        """The outer query."""
        node = self._node
        outer = exp.Select(expressions=[self._lifted(projection) for projection in node.expressions])
        having, distinct = node.args.get("having"), node.args.get("distinct")
        if having is not None:
            outer.set("where", exp.Where(this=self._lifted(having.this)))
        for part in ("qualify", "order"):
            if node.args.get(part) is not None:
                outer.set(part, self._lifted(node.args[part]))
        for part in ("limit", "offset"):
            if node.args.get(part) is not None:
                outer.set(part, _constant(node.args[part]))
        if distinct is not None:
            outer.set("distinct", exp.Distinct())
        if node.args.get("with_") is not None:
            outer.set("with_", node.args["with_"])
        inner = exp.Subquery(this=self._inner(), alias=exp.TableAlias(this=exp.to_identifier(self._alias, quoted=True)))
        outer.set("from_", exp.From(this=inner))
        return outer

    def types(self) -> dict[str, str | None]:
        """The types of the answer's columns, where they are known."""
        found: dict[str, str | None] = {}
        for projection in self._node.expressions:
            value = projection.unalias()
            item = self._level.item(value) if isinstance(value, exp.Column) else None
            found[projection.alias_or_name] = item.symbol.type if item is not None and item.symbol is not None else None
        return found

    def _read_keys(self) -> list[exp.Expr]:
        node, group = self._node, self._node.args.get("group")
        sets = (exp.Rollup, exp.Cube, exp.GroupingSets)
        if group is not None and (
            any(group.args.get(part) for part in ("grouping_sets", "cube", "rollup", "totals"))
            or any(isinstance(key, sets) for key in group.expressions)
        ):
            raise DisclosureError(Refusal(
                Rule.ONE_QUESTION, "ROLLUP, CUBE and GROUPING SETS give totals beside groups, which tell the groups that are left out",
                "group once, and compute totals of what is shown with window functions",
            ))  # fmt: skip
        if node.args.get("distinct") is not None and node.args["distinct"].args.get("on") is not None:
            raise DisclosureError(Refusal(Rule.ROWS, "DISTINCT ON picks single rows", "use GROUP BY and aggregates"))
        has_aggregates = any(True for part in _asked(node) for _ in aggregates(part))
        if group is not None and not group.args.get("all"):
            keys = list(group.expressions)
        elif group is not None or (node.args.get("distinct") is not None and not has_aggregates):
            shown = [projection.unalias() for projection in node.expressions]
            keys = [value for value in shown if not any(True for _ in aggregates(value))]
        else:
            keys = []
        # A constant groups nothing, and a number would be taken for a position.
        return [key for key in keys if any(True for _ in key.find_all(exp.Column))]

    def _inner(self) -> exp.Select:
        """The query that lets groups go, over the one that makes them."""
        alias = self._names.name("made")
        shown = [
            *(
                exp.alias_(self._guards.value(self._safe_key(key), alias), self._columns[text], quoted=True)
                for text, key in self._keys.items()
            ),
            *(exp.alias_(self._guards.aggregate(unit, alias), self._columns[text], quoted=True) for text, unit in self._units.items()),
        ]
        if not shown:
            shown = [exp.alias_(self._guards.value(exp.Literal.number(1), alias), self._alias, quoted=True)]
        enough = self._guards.group(alias)
        made = exp.Select(expressions=self._guards.computed())
        made.set("from_", self._node.args["from_"])
        for part in ("joins", "where"):
            if self._node.args.get(part) is not None:
                made.set(part, self._node.args[part])
        if self._keys:
            made.set("group", exp.Group(expressions=[self._safe_key(key) for key in self._keys.values()]))
        inner = exp.Select(expressions=shown)
        inner.set("from_", exp.From(this=exp.Subquery(this=made, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))))
        inner.set("where", exp.Where(this=enough))
        return inner

    def _safe_key(self, key: exp.Expr) -> exp.Expr:
        return self._judge.row_value(key, self._level)

    def _lifted(self, expression: exp.Expr) -> exp.Expr:
        """An expression of the buyer's over what the inner query lets go. Raises DisclosureError where a row's value remains in it."""
        aliases = {projection.alias for projection in self._node.expressions}

        def lift(node: exp.Expr) -> exp.Expr:
            is_windows_own = isinstance(node.parent, exp.Window) and node.arg_key == "this"
            name = None if is_windows_own or isinstance(node, exp.Identifier) else self._columns.get(node.sql("duckdb"))
            if name is not None:
                return column(self._alias, name)
            if isinstance(node, exp.Column) and (node.table or node.name not in aliases):
                raise DisclosureError(Refusal(
                    Rule.ROWS, f"{node.sql('duckdb')} is neither an aggregate nor a key of the groups",
                    "put it into an aggregate, or into GROUP BY", column=node.name,
                ))  # fmt: skip
            return node

        copied = expression.copy()
        self._judge.replace_queries(copied, self._scope)
        return _transformed(copied, lift)


def _transformed(node: exp.Expr, lift: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """Each node of an expression replaced, from above; queries inside were judged by themselves."""
    if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
        return node
    found = lift(node)
    if found is not node:
        return found
    for child in list(node.iter_expressions()):
        new = _transformed(child, lift)
        if new is not child:
            child.replace(new)
    return node


def _constant(node: exp.Expr) -> exp.Expr:
    if not isinstance(node.expression, exp.Literal):
        raise DisclosureError(Refusal(Rule.FORM, f"{node.sql('duckdb').strip()} is not a plain number", "write the number"))
    return node.copy()
