"""Ids for statements: in order, and no more at once than one takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MOST_AT_ONCE = 10_000


def parts(ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids in order, no more at once than a statement takes."""
    ordered = sorted(ids)
    return (ordered[begin : begin + MOST_AT_ONCE] for begin in range(0, len(ordered), MOST_AT_ONCE))
