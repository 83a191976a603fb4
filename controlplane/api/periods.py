"""Times and months that a question names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AwareDatetime

from scheduler.errors import InvalidError, Problem
from workloads.months import MONTH_PATTERN, Month, month_of

MonthName = Annotated[str, Path(pattern=MONTH_PATTERN, description="like 2026-12")]
From = Annotated[AwareDatetime | None, Query(alias="from", description="RFC 3339, like 2026-12-01T00:00:00Z; from then on")]
To = Annotated[AwareDatetime | None, Query(description="RFC 3339; until before then")]


def month_named(name: str, zone: str) -> Month:
    """The month. Raises InvalidError."""
    try:
        return month_of(name, zone)
    except ValueError as error:
        raise InvalidError((Problem("month", "unknown", str(error)),)) from error


def seconds_of(moment: datetime | None) -> float | None:
    """Seconds since the epoch."""
    return None if moment is None else moment.timestamp()


def in_order(begin: float | None, end: float | None) -> None:
    """Raises InvalidError when a time ends before it begins."""
    if begin is not None and end is not None and end <= begin:
        began = datetime.fromtimestamp(begin, UTC)
        raise InvalidError((Problem("to", "before", f"is not after from ({began:%Y-%m-%d %H:%M:%S} UTC); give a later time"),))
