"""Types of expressions for the translation to Daft's SQL: few, and each with one meaning in both engines.

Daft takes 0.05 for a double, wraps integers around and computes whole numbers otherwise than DuckDB, so whole numbers are
reckoned with as decimals without a fraction, and every decimal is written with its precision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["whole", "decimal", "double", "text", "date", "timestamp", "boolean", "null"]
MOST_DIGITS = 38
# Those that 64 bits with a sign hold, for so they are read.
_WHOLE = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19, "UTINYINT": 3, "USMALLINT": 5, "UINTEGER": 10}
_PLAIN: dict[str, Kind] = {"DOUBLE": "double", "VARCHAR": "text", "DATE": "date", "TIMESTAMP": "timestamp", "BOOLEAN": "boolean"}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


class UntranslatableError(Exception):
    """The statement says something that has no equal in Daft's SQL, or none that is known to mean the same."""


@dataclass(frozen=True)
class Type:
    """`digits` and `scale` of numbers but doubles."""

    kind: Kind
    digits: int = 0
    scale: int = 0

    @property
    def is_exact(self) -> bool:
        return self.kind in ("whole", "decimal")

    @property
    def is_number(self) -> bool:
        return self.is_exact or self.kind == "double"


@dataclass(frozen=True)
class Expression:
    """A piece of Daft's SQL. `as_decimal`: a whole number that is held as a decimal already. `constant`: its text, for texts alone.
    `factors` of a product of decimals.
    `counts`: a count that may be seen in its value."""

    text: str
    type: Type
    as_decimal: bool = False
    constant: str | None = None
    factors: tuple[Expression, ...] = ()
    aggregates: bool = False
    counts: bool = False


def column_type(duckdb_type: str) -> Type | None:
    """The type of a column, None for one that is not translated."""
    name = duckdb_type.upper()
    if name in _WHOLE:
        return Type("whole", _WHOLE[name])
    if name in _PLAIN:
        return Type(_PLAIN[name])
    match = _DECIMAL.fullmatch(name)
    return Type("decimal", int(match[1]), int(match[2])) if match else None


def decimal(expression: Expression) -> Expression:
    """An exact number as a decimal in Daft."""
    if expression.type.kind == "decimal" or expression.as_decimal:
        return expression
    return replace(expression, text=f"CAST({expression.text} AS DECIMAL({expression.type.digits}, 0))", as_decimal=True, factors=())


def double(expression: Expression) -> Expression:
    """A number as a double. A product is one of doubles then, for its decimals may not fit; DuckDB rounds once, this twice."""
    if expression.type.kind == "double":
        return expression
    if expression.factors:
        text = " * ".join(double(factor).text for factor in expression.factors)
        return replace(expression, text=f"({text})", type=Type("double"), as_decimal=False, factors=())
    return replace(expression, text=f"CAST({expression.text} AS DOUBLE)", type=Type("double"), as_decimal=False)


def fitting(found: Type) -> Type:
    """The type, when its digits fit. Raises UntranslatableError."""
    if found.digits > MOST_DIGITS:
        raise UntranslatableError(f"a number of more than {MOST_DIGITS} digits may come of it, which Daft cannot hold")
    return found


def product(left: Expression, right: Expression) -> Expression:
    """left * right. One that does not fit has no text of its own: it may still be used as a double."""
    if "double" in (left.type.kind, right.type.kind):
        return joined("*", double(left), double(right), Type("double"))
    left, right = decimal(left), decimal(right)
    kind: Kind = "whole" if left.type.scale == right.type.scale == 0 and left.type.kind == right.type.kind == "whole" else "decimal"
    found = Type(kind, left.type.digits + right.type.digits, left.type.scale + right.type.scale)
    made = joined("*", left, right, found)
    return replace(made, as_decimal=True, factors=(left, right))


def total(operator: str, left: Expression, right: Expression) -> Expression:
    """left + right or left - right."""
    if "double" in (left.type.kind, right.type.kind):
        return joined(operator, double(left), double(right), Type("double"))
    left, right = decimal(checked(left)), decimal(checked(right))
    scale = max(left.type.scale, right.type.scale)
    before = max(left.type.digits - left.type.scale, right.type.digits - right.type.scale)
    kind: Kind = "whole" if left.type.kind == right.type.kind == "whole" else "decimal"
    return replace(joined(operator, left, right, fitting(Type(kind, before + scale + 1, scale))), as_decimal=True)


def joined(operator: str, left: Expression, right: Expression, found: Type) -> Expression:
    """An infix expression."""
    return Expression(
        f"({left.text} {operator} {right.text})", found, aggregates=left.aggregates or right.aggregates, counts=left.counts or right.counts
    )


def checked(expression: Expression) -> Expression:
    """The expression, when it fits as it is."""
    fitting(expression.type)
    return expression


def alike(expressions: list[Expression], what: str) -> list[Expression]:
    """All as one type, for comparisons, branches and lists. Raises UntranslatableError."""
    types = {expression.type.kind for expression in expressions} - {"null"}
    if types <= {"whole", "decimal", "double"}:
        if "double" in types:
            return [double(one) for one in expressions]
        if "decimal" in types or any(one.as_decimal for one in expressions):
            return [one if one.type.kind == "null" else decimal(checked(one)) for one in expressions]
        return expressions
    if "date" in types or "timestamp" in types:
        return [_moment(one, what) for one in expressions]
    if len(types) != 1:
        raise UntranslatableError(f"{what} of {' and '.join(sorted(types))}, which the engines may take differently")
    return expressions


def common(types: list[Type]) -> Type:
    """The type that holds all of `alike` expressions."""
    kinds = {found.kind for found in types} - {"null"}
    if kinds <= {"whole", "decimal"} and kinds:
        scale = max(found.scale for found in types)
        before = max(found.digits - found.scale for found in types)
        return fitting(Type("decimal" if "decimal" in kinds else "whole", before + scale, scale))
    if kinds == {"date", "timestamp"}:
        raise UntranslatableError("dates and timestamps as one value")
    return Type(kinds.pop()) if kinds else Type("null")


def _moment(expression: Expression, what: str) -> Expression:
    if expression.type.kind in ("date", "timestamp", "null"):
        return expression
    if expression.constant is not None and re.fullmatch(r"\d{4}-\d{2}-\d{2}", expression.constant):
        return Expression(f"DATE '{expression.constant}'", Type("date"))
    raise UntranslatableError(f"{what} of a time with something else")
