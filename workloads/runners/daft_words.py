"""From an expression of DuckDB's syntax tree to Daft's SQL, where both mean the same.

What is known to differ is written so that it does not: a condition that is NULL takes CASE's ELSE, division is one of
doubles, sums of whole numbers do not wrap around, averages are exact sums divided. Everything else that is not in here is
refused, and so is what Daft answers otherwise in silence, like NOT IN over a query that may hold NULL.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Protocol

from workloads.runners.daft_types import (
    Expression,
    Type,
    UntranslatableError,
    alike,
    checked,
    common,
    decimal,
    double,
    joined,
    product,
    total,
)

Node = dict[str, Any]
_COMPARISONS = {
    "COMPARE_EQUAL": "=", "COMPARE_NOTEQUAL": "<>", "COMPARE_LESSTHAN": "<", "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=", "COMPARE_GREATERTHANOREQUALTO": ">=",
}  # fmt: skip
_INTERVALS = frozenset({"to_days", "to_weeks", "to_months", "to_years"})
_FOLDED = frozenset({"+", "-", "trunc", *_INTERVALS})
_PARTS = frozenset({"YEAR", "MONTH", "DAY"})
_BOOLEAN = Type("boolean")


class Scope(Protocol):
    """Where names are looked up and queries inside expressions are translated."""

    def column(self, path: list[str]) -> Expression:
        """The column of that name. Raises UntranslatableError."""

    def exists(self, query: Node) -> str:
        """`EXISTS (…)`."""

    def one_column(self, query: Node, *, scalar: bool) -> Expression:
        """A query of one column, in parentheses."""

    def linked(self) -> bool:
        """Whether a column of a query around was named since this was asked last."""

    def fold(self, node: Node) -> object:
        """The value of an expression without columns."""


def translate(node: Node, scope: Scope) -> Expression:
    """One expression. Raises UntranslatableError."""
    found = _BY_CLASS.get(node["class"])
    if found is None:
        raise UntranslatableError(f"{node['class'].replace('_', ' ').lower()} expressions")
    return found(node, scope)


def condition(node: Node, scope: Scope) -> str:
    """A condition of WHERE or ON whose parts may be queries: IN and EXISTS are only known to mean the same as its AND-ed parts."""
    if node["type"] == "CONJUNCTION_AND":
        return "(" + " AND ".join(condition(child, scope) for child in node["children"]) + ")"
    if node["class"] == "SUBQUERY" and node["subquery_type"] == "EXISTS":
        return scope.exists(node["subquery"]["node"])
    if node["type"] == "OPERATOR_NOT" and node["children"][0]["class"] == "SUBQUERY":
        inner = node["children"][0]
        if inner["subquery_type"] == "EXISTS":
            return f"NOT {scope.exists(inner['subquery']['node'])}"
        raise UntranslatableError("NOT IN over a query: Daft answers otherwise where the query holds NULL")
    if node["class"] == "SUBQUERY" and node["subquery_type"] == "ANY" and node["comparison_type"] == "COMPARE_EQUAL":
        found = scope.one_column(node["subquery"]["node"], scalar=False)
        left = checked(translate(node["child"], scope))
        if left.type.kind != found.type.kind or left.as_decimal != found.as_decimal or (left.type.is_exact and left.as_decimal):
            raise UntranslatableError("IN over a query of another type")
        if found.type.kind == "decimal" and found.type != left.type:
            raise UntranslatableError("IN over a query of another type")
        return f"({left.text} IN {found.text})"
    scope.linked()
    text = _boolean(node, scope).text
    if scope.linked() and node["type"] != "COMPARE_EQUAL":
        raise UntranslatableError("a query inside that depends on the one around but by equality")
    return text


def _boolean(node: Node, scope: Scope) -> Expression:
    found = translate(node, scope)
    if found.type.kind != "boolean":
        raise UntranslatableError(f"a condition of type {found.type.kind}")
    return found


def _constant(node: Node, _scope: Scope) -> Expression:
    kind, text = node["literal"]["kind"], node["literal"]["text"]
    if kind == "INTEGER":
        digits = len(text.lstrip("-"))
        if digits > 18:
            raise UntranslatableError("whole numbers of more than 18 digits")
        return Expression(text, Type("whole", digits))
    if kind == "NUMERIC" and set(text) <= set("-.0123456789"):
        whole, _, fraction = text.lstrip("-").partition(".")
        found = Type("decimal", max(len(whole), 1) + len(fraction), len(fraction))
        return checked(Expression(f"CAST('{text}' AS DECIMAL({found.digits}, {found.scale}))", found))
    if kind == "NUMERIC":
        return Expression(f"CAST('{float(text)!r}' AS DOUBLE)", Type("double"))
    if kind == "STRING":
        if "\\" in text:
            raise UntranslatableError("texts with a backslash")
        return Expression("'" + text.replace("'", "''") + "'", Type("text"), constant=text)
    if kind == "BOOLEAN":
        return Expression(text.upper(), _BOOLEAN)
    if kind == "NULL_LITERAL":
        return Expression("NULL", Type("null"))
    raise UntranslatableError(f"constants of kind {kind.lower()}")


def _column(node: Node, scope: Scope) -> Expression:
    return scope.column(node["column_names"])


def _comparison(node: Node, scope: Scope) -> Expression:
    operator = _COMPARISONS.get(node["type"])
    if operator is None:
        raise UntranslatableError(f"{node['type'].replace('_', ' ').lower()}")
    left, right = alike([translate(node[side], scope) for side in ("left", "right")], "a comparison")
    return joined(operator, checked(left), checked(right), _BOOLEAN)


def _between(node: Node, scope: Scope) -> Expression:
    value, low, high = alike([translate(node[part], scope) for part in ("input", "lower", "upper")], "BETWEEN")
    least, most = joined(">=", checked(value), checked(low), _BOOLEAN), joined("<=", value, checked(high), _BOOLEAN)
    return joined("AND", least, most, _BOOLEAN)


def _conjunction(node: Node, scope: Scope) -> Expression:
    word = "AND" if node["type"] == "CONJUNCTION_AND" else "OR"
    parts = [_boolean(child, scope) for child in node["children"]]
    return Expression("(" + f" {word} ".join(part.text for part in parts) + ")", _BOOLEAN, aggregates=any(p.aggregates for p in parts))


def _operator(node: Node, scope: Scope) -> Expression:
    kind, children = node["type"], node["children"]
    if kind == "OPERATOR_NOT":
        inner = _boolean(children[0], scope)
        return Expression(f"(NOT {inner.text})", _BOOLEAN, aggregates=inner.aggregates)
    if kind in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
        inner = checked(translate(children[0], scope))
        return Expression(f"({inner.text} IS {'NOT ' if 'NOT' in kind else ''}NULL)", _BOOLEAN, aggregates=inner.aggregates)
    if kind in ("COMPARE_IN", "COMPARE_NOT_IN"):
        if any(child["type"] != "VALUE_CONSTANT" for child in children[1:]):
            raise UntranslatableError("IN over what is no list of constants")
        value, *listed = map(checked, alike([translate(child, scope) for child in children], "IN"))
        if any(one.type.kind == "null" for one in listed):
            raise UntranslatableError("IN over a list with NULL")
        # Each by itself, for Daft makes a list of one type, and decimals of several scales are none.
        parts = " OR ".join(f"{value.text} = {one.text}" for one in listed)
        return Expression(f"(NOT ({parts}))" if "NOT" in kind else f"({parts})", _BOOLEAN, aggregates=value.aggregates)
    if kind == "OPERATOR_COALESCE":
        return _one_of("coalesce", [translate(child, scope) for child in children], "coalesce(", ", ", ")")
    raise UntranslatableError(kind.removeprefix("OPERATOR_").replace("_", " ").lower())


def _case(node: Node, scope: Scope) -> Expression:
    conditions = [_boolean(check["when_expr"], scope) for check in node["case_checks"]]
    values = [translate(check["then_expr"], scope) for check in node["case_checks"]] + [translate(node["else_expr"], scope)]
    values = _same(values, "the branches of CASE")
    # Daft gives NULL where a condition is NULL.
    whens = " ".join(f"WHEN coalesce({c.text}, FALSE) THEN {value.text}" for c, value in zip(conditions, values[:-1], strict=True))
    return _made(f"(CASE {whens} ELSE {values[-1].text} END)", values, conditions)


def _one_of(what: str, values: list[Expression], before: str, between: str, after: str) -> Expression:
    values = _same(values, what)
    return _made(before + between.join(value.text for value in values) + after, values, [])


def _same(values: list[Expression], what: str) -> list[Expression]:
    values = alike(values, what)
    found = common([value.type for value in values])
    if found.is_exact and any(value.as_decimal or value.type.kind == "decimal" for value in values):
        cast = f"DECIMAL({found.digits}, {found.scale})"
        return [value if value.type.kind == "null" else Expression(
            f"CAST({decimal(value).text} AS {cast})", found, as_decimal=True, aggregates=value.aggregates) for value in values]  # fmt: skip
    return values


def _made(text: str, values: list[Expression], others: list[Expression]) -> Expression:
    found = common([value.type for value in values])
    aggregates = any(one.aggregates for one in (*values, *others))
    return Expression(text, found, as_decimal=any(value.as_decimal for value in values), aggregates=aggregates)


def _cast(node: Node, scope: Scope) -> Expression:
    name = node["type_expr"]["type_name"].upper()
    child = node["child"]
    if node["try_cast"]:
        raise UntranslatableError("TRY_CAST")
    if name in ("DATE", "TIMESTAMP") and child["type"] == "VALUE_CONSTANT":
        return _moment(scope.fold(node))
    inner = translate(child, scope)
    if name == "DOUBLE" and inner.type.is_number:
        return double(inner)
    if name in ("BIGINT", "HUGEINT") and inner.type.kind == "whole":
        return decimal(checked(inner))
    raise UntranslatableError(f"a cast of {inner.type.kind} to {name}")


def _moment(value: object) -> Expression:
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None and value.time() != datetime.time():
            return Expression(f"CAST('{value:%Y-%m-%d %H:%M:%S.%f}' AS TIMESTAMP)", Type("timestamp"))
        if value.tzinfo is None:
            return Expression(f"DATE '{value:%Y-%m-%d}'", Type("date"))
    elif isinstance(value, datetime.date):
        return Expression(f"DATE '{value:%Y-%m-%d}'", Type("date"))
    raise UntranslatableError("a constant that is no date")


def _function(node: Node, scope: Scope) -> Expression:
    name, arguments = node["function_name"].casefold(), [argument["expression"] for argument in node["arguments"]]
    if node["filter"] is not None or node["order_bys"]["orders"] or len(node["qualified_name"]["path"]) != 1:
        raise UntranslatableError(f"{name} with FILTER or ORDER BY")
    if name in ("+", "-") and any(_is_interval(argument) for argument in arguments):
        if _is_constant(node):
            return _moment(scope.fold(node))
        raise UntranslatableError("a time plus an interval, but for constants")
    if name in _AGGREGATES:
        return _aggregate(name, node["distinct"], arguments, scope)
    if node["distinct"] or name not in _FUNCTIONS:
        raise UntranslatableError(f"the function {name}")
    return _FUNCTIONS[name](arguments, scope)


def _aggregate(name: str, distinct: bool, arguments: list[Node], scope: Scope) -> Expression:
    values = [translate(argument, scope) for argument in arguments]
    if distinct and name != "count":
        raise UntranslatableError(f"{name} of DISTINCT values")
    if any(value.aggregates for value in values):
        raise UntranslatableError("an aggregate of an aggregate")
    return _AGGREGATES[name](distinct, *values)


def _sum(_distinct: bool, value: Expression) -> Expression:
    if value.type.kind == "double":
        return Expression(f"sum({value.text})", value.type, aggregates=True)
    if not value.type.is_exact:
        raise UntranslatableError(f"a sum of {value.type.kind}")
    found = Type(value.type.kind, 38, value.type.scale)
    return Expression(f"sum({decimal(checked(value)).text})", found, as_decimal=True, aggregates=True)


def _average(_distinct: bool, value: Expression) -> Expression:
    summed, count = double(_sum(False, value)), f"CAST(count({checked(value).text}) AS DOUBLE)"
    return Expression(f"({summed.text} / {count})", Type("double"), aggregates=True)


def _count(distinct: bool, *values: Expression) -> Expression:
    counted = f"{'DISTINCT ' if distinct else ''}{checked(values[0]).text}" if values else "*"
    return Expression(f"CAST(count({counted}) AS BIGINT)", Type("whole", 19), aggregates=True, counts=True)


def _extreme(word: str) -> Callable[..., Expression]:
    def made(_distinct: bool, value: Expression, *rest: Expression) -> Expression:
        if rest or value.type.kind in ("boolean", "null"):
            raise UntranslatableError(f"{word} of that")
        return Expression(f"{word}({checked(value).text})", value.type, as_decimal=value.as_decimal, aggregates=True)

    return made


def _numbers(arguments: list[Node], scope: Scope) -> list[Expression]:
    found = [translate(argument, scope) for argument in arguments]
    if not all(one.type.is_number for one in found):
        raise UntranslatableError("arithmetic with what is no number")
    return found


def _plus_or_minus(operator: str) -> Callable[[list[Node], Scope], Expression]:
    def made(arguments: list[Node], scope: Scope) -> Expression:
        found = _numbers(arguments, scope)
        if len(found) == 1:
            found = [Expression("0", Type("whole", 1)), *found]
        return total(operator, *found)

    return made


def _times(arguments: list[Node], scope: Scope) -> Expression:
    left, right = _numbers(arguments, scope)
    return product(left, right)


def _divided(arguments: list[Node], scope: Scope) -> Expression:
    left, right = _numbers(arguments, scope)
    return joined("/", double(left), double(right), Type("double"))


def _like(negated: bool) -> Callable[[list[Node], Scope], Expression]:
    def made(arguments: list[Node], scope: Scope) -> Expression:
        value, pattern = (translate(argument, scope) for argument in arguments)
        if value.type.kind != "text" or pattern.constant is None:
            raise UntranslatableError("LIKE with a pattern that is no constant")
        text = f"({value.text} LIKE {pattern.text})"
        return Expression(f"(NOT {text})" if negated else text, _BOOLEAN, aggregates=value.aggregates)

    return made


def _substring(arguments: list[Node], scope: Scope) -> Expression:
    value, *numbers = (translate(argument, scope) for argument in arguments)
    if value.type.kind != "text" or len(numbers) != 2 or not all(one.text.isdigit() for one in numbers) or numbers[0].text == "0":
        raise UntranslatableError("substring but with a constant beginning and length")
    return Expression(f"substring({value.text}, {numbers[0].text}, {numbers[1].text})", Type("text"), aggregates=value.aggregates)


def _date_part(arguments: list[Node], scope: Scope) -> Expression:
    part, value = (translate(argument, scope) for argument in arguments)
    word = (part.constant or "").upper()
    if word not in _PARTS or value.type.kind not in ("date", "timestamp"):
        raise UntranslatableError("parts of times but year, month and day")
    return Expression(f"CAST(extract({word} FROM {value.text}) AS BIGINT)", Type("whole", 6), aggregates=value.aggregates)


def _subquery(node: Node, scope: Scope) -> Expression:
    if node["subquery_type"] != "SCALAR":
        raise UntranslatableError("IN and EXISTS over a query, but as AND-ed parts of WHERE")
    return scope.one_column(node["subquery"]["node"], scalar=True)


def _is_interval(node: Node) -> bool:
    return node["class"] == "FUNCTION" and node["function_name"].casefold() in _INTERVALS


def _is_constant(node: Node) -> bool:
    if node["class"] == "FUNCTION":
        return node["function_name"].casefold() in _FOLDED and all(_is_constant(argument["expression"]) for argument in node["arguments"])
    return node["class"] == "CONSTANT" or (node["class"] == "CAST" and _is_constant(node["child"]))


_AGGREGATES: dict[str, Callable[..., Expression]] = {
    "sum": _sum, "avg": _average, "mean": _average, "count": _count, "count_star": _count, "min": _extreme("min"), "max": _extreme("max"),
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[list[Node], Scope], Expression]] = {
    "+": _plus_or_minus("+"), "-": _plus_or_minus("-"), "*": _times, "/": _divided, "~~": _like(False), "!~~": _like(True),
    "substring": _substring, "substr": _substring, "date_part": _date_part, "extract": _date_part,
}  # fmt: skip
_BY_CLASS: dict[str, Callable[[Node, Scope], Expression]] = {
    "CONSTANT": _constant, "COLUMN_REF": _column, "COMPARISON": _comparison, "BETWEEN": _between, "CONJUNCTION": _conjunction,
    "OPERATOR": _operator, "CASE": _case, "CAST": _cast, "FUNCTION": _function, "SUBQUERY": _subquery,
}  # fmt: skip
