"""TPC-H in tests: its data once for all of a run, and tables compared as SQL compares them, without an order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

Row = tuple[object, ...]


def same_rows(found: Iterable[Row], expected: Iterable[Row]) -> bool:
    """The same rows with the same multiplicity; doubles to ten digits, for their sums depend on the order of adding."""
    return Counter(map(_rounded, found)) == Counter(map(_rounded, expected))


def _rounded(row: Row) -> Row:
    return tuple(_value(value) for value in row)


def _value(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.9e}" if math.isfinite(value) else str(value)
    # 1.50 and 1.5 are equal decimals with equal hashes; their type is compared with the schema.
    return value.normalize() if isinstance(value, Decimal) else value
