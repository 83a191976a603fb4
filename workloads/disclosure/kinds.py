"""Kinds of values, as far as it must be known whether two of them compare without a cast that may fail on a value."""

from __future__ import annotations

import re
from typing import Literal

from sqlglot import exp

Kind = Literal["number", "text", "time", "truth", "any"]

INTEGERS = frozenset({
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "INT", "INT1", "INT2", "INT4", "INT8",
})  # fmt: skip
_NUMBERS = INTEGERS | {"HUGEINT", "FLOAT", "DOUBLE", "REAL"}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*\d+\)")
_WIDEST = 30  # Two decimals near DuckDB's 38 digits do not always compare.
_CASTS: dict[object, Kind] = {
    exp.DataType.Type.INT: "number", exp.DataType.Type.BIGINT: "number", exp.DataType.Type.SMALLINT: "number",
    exp.DataType.Type.TINYINT: "number", exp.DataType.Type.INT128: "number", exp.DataType.Type.DOUBLE: "number",
    exp.DataType.Type.FLOAT: "number", exp.DataType.Type.DECIMAL: "number", exp.DataType.Type.TEXT: "text",
    exp.DataType.Type.VARCHAR: "text", exp.DataType.Type.DATE: "time", exp.DataType.Type.TIMESTAMP: "time",
    exp.DataType.Type.BOOLEAN: "truth",
}  # fmt: skip


def kind_of(type_: str | None) -> Kind | None:
    """The kind of a column of DuckDB's type; None for one that takes part in no comparison without being watched."""
    if type_ is None:
        return None
    upper = type_.upper()
    if upper in _NUMBERS:
        return "number"
    if match := _DECIMAL.fullmatch(upper):
        return "number" if int(match[1]) <= _WIDEST else None
    if upper in ("VARCHAR", "TEXT"):
        return "text"
    if upper in ("DATE", "TIMESTAMP"):
        return "time"
    return "truth" if upper == "BOOLEAN" else None


def cast_kind(to: exp.DataType) -> Kind | None:
    """The kind that a cast gives; None for a type to which rows are not cast."""
    return _CASTS.get(to.this)


def compare(first: Kind | None, second: Kind | None) -> bool:
    """Whether values of two kinds compare without a cast that may fail; a text that is written in the statement takes any kind."""
    return first is not None and second is not None and (first == second or "any" in (first, second))
