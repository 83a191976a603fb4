"""Calendar months in a time zone: what a statement is for, and when it begins and ends."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

MONTH_PATTERN = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


class Month(NamedTuple):
    """A month by the wall clock of a zone; `begin_s` is its first second since the epoch, `end_s` that of the month after it."""

    name: str
    zone: str
    begin_s: float
    end_s: float


def month_of(name: str, zone: str = "UTC") -> Month:
    """The month that is written like 2026-12. Raises ValueError."""
    if not re.fullmatch(MONTH_PATTERN, name) or not _FIRST_YEAR <= int(name[:4]) <= _LAST_YEAR:
        raise ValueError(f"{name!r} is not a month; write it like 2026-12")
    year, number = int(name[:4]), int(name[5:])
    following = (year, number + 1) if number < 12 else (year + 1, 1)
    begin, end = (datetime(*first, 1, tzinfo=ZoneInfo(zone)).timestamp() for first in ((year, number), following))
    return Month(name, zone, begin, end)


def month_at(at: float, zone: str = "UTC") -> str:
    """The month of a moment, in seconds since the epoch, as it is written."""
    return datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(zone)).strftime("%Y-%m")
