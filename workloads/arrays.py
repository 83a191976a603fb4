"""Arrays: one manifest, many tasks. `0-99`, `1,3,7-9`, `0-999%10` (at most ten at once).

Ranges are kept as ranges, so that the size of what somebody asks for is known before anything is made of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator

LARGEST_INDEX = 9_999_999
REMEDY = "write indices and ranges of them, like 0-99 or 1,3,7-9, and after % how many may run at once, like 0-99%10"
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_LIMIT = re.compile(r"[1-9][0-9]{0,8}")
_MOST_TEXT = 10_000


@dataclass(frozen=True)
class ArrayTasks:
    """Which tasks an array has: `ranges` (first, last) in order, and how many may run at once (None: any number)."""

    ranges: tuple[tuple[int, int], ...]
    at_most: int | None

    @property
    def size(self) -> int:
        """How many tasks there are."""
        return sum(last - first + 1 for first, last in self.ranges)

    def indices(self) -> tuple[int, ...]:
        """The index of each task, in order. As long as `size`, which should have been looked at."""
        return tuple(index for first, last in self.ranges for index in range(first, last + 1))


@lru_cache(256)
def read_array(text: str) -> ArrayTasks:
    """The tasks of `1,3,7-9%2`. Raises ValueError with what is wrong and a remedy."""
    named, percent, limit = text.partition("%")
    if percent and not _LIMIT.fullmatch(limit):
        raise ValueError(f"{limit!r} is not how many tasks may run at once; {REMEDY}")
    ranges = sorted(_range(part.strip()) for part in named.split(","))
    for (_, last), (first, _) in pairwise(ranges):
        if first <= last:
            raise ValueError(f"index {first} is named twice; {REMEDY}")
    return ArrayTasks(tuple(ranges), int(limit) if percent else None)


def _range(part: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(part)
    if not found:
        raise ValueError(f"{part!r} is no index and no range; {REMEDY}")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"{part!r} ends before it begins; write it as {last}-{first}")
    if last > LARGEST_INDEX:
        raise ValueError(f"index {last} is too large; use indices up to {LARGEST_INDEX:,}")
    return first, last


def _read(value: object) -> object:
    if isinstance(value, str):
        if len(value) > _MOST_TEXT:
            raise ValueError(f"more than {_MOST_TEXT:,} characters; write ranges, or submit several arrays")
        read_array(value)
        return value
    raise ValueError(f"{value!r} is no text; {REMEDY}")


ArrayText = Annotated[str, BeforeValidator(_read)]
