"""The first rows of a result as values that JSON can carry, for people to look at.

Whole numbers and finite floats stay numbers. Decimal and 128-bit numbers, dates, times and UUIDs become
text, bytes become hexadecimal, NaN and infinities become null, maps become lists of pairs.
"""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

OUT_OF_RANGE = "out of range"


def json_rows(batch: Any, limit: int) -> list[tuple[object, ...]]:
    """Up to `limit` rows of an Arrow record batch."""
    columns = [[_scalar(item) for item in column.slice(0, limit)] for column in batch.columns]
    return list(zip(*columns, strict=True))


def json_value(value: object) -> object:
    """One Python value in JSON-safe form."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return str(value)


def _scalar(item: Any) -> object:
    try:
        return json_value(item.as_py())
    except (OverflowError, ValueError):
        # A date or time of DuckDB that Python cannot hold: infinity, a year before 1 or after 9999, odd nanoseconds.
        return _as_text(item)


def _as_text(item: Any) -> object:
    import pyarrow as pa  # type: ignore[import-untyped]

    try:
        text = item.cast(pa.string()).as_py()
    except (pa.ArrowException, NotImplementedError):
        return OUT_OF_RANGE
    return OUT_OF_RANGE if text is None or text.startswith("<") else text
