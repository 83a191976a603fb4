"""Quantities and moments as people read them, and text that is safe to show on a terminal."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from workloads.sizes import size as size

MISSING = "-"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STEPS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def printable(text: str) -> str:
    """The text without control characters, which could move the cursor or hide what stands there; lines and tabs stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def span(seconds: float | None) -> str:
    """Seconds in two units at most: `0.4s`, `12s`, `3m20s`, `2d4h`."""
    if seconds is None:
        return MISSING
    if seconds < 0.0005:
        return "0s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for large, unit, small, smaller_unit in _STEPS:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large}{unit}{rest}{smaller_unit}" if rest else f"{whole // large}{unit}"
    return f"{whole}s"


def since(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago a moment was."""
    if moment is None:
        return MISSING
    return span(max(((now or datetime.now(UTC)) - moment).total_seconds(), 0.0))


def lasted(start: datetime | None, end: datetime | None) -> str:
    """The time between two moments, both known."""
    return MISSING if start is None or end is None else span((end - start).total_seconds())


def clock(moment: datetime | None) -> str:
    """A moment in local time, to the second."""
    return MISSING if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def number(value: float) -> str:
    """A number without needless digits."""
    return f"{value:.6g}"


def joined(items: object) -> str:
    """Names in a row, or `key=value` pairs of a mapping; a dash for none."""
    if isinstance(items, dict):
        return ", ".join(f"{key}={value}" for key, value in sorted(items.items())) or MISSING
    if isinstance(items, list | tuple):
        return ", ".join(str(item) for item in items) or MISSING
    return str(items)
