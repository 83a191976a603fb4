"""Estimates: how long a job will run, from what it asked for and how its owner's last jobs kept to what they asked for.

People ask for far more time than they need, but one person does so in the same way from job to job, so the mean of the last
two of a group's jobs is hard to beat (Tsafrir, Etsion, Feitelson, IEEE TPDS 2007). What counts is the part of the asked time
that was used, so that one history serves short and long jobs.
"""

from __future__ import annotations

from scheduler.engine.snapshot import Floats, Ints

LAST = 2
LEAST_PART = 0.01


class History:
    """The parts of their limits that the last jobs of each group used. A group below 0 is nobody, and has no history."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[float, ...]] = {}

    def note(self, group: int, part: float) -> None:
        """A job of a group ended after this part of the time that it asked for."""
        if group >= 0:
            self._parts[group] = (*self._parts.get(group, ())[-LAST + 1 :], part)

    def part(self, group: int) -> float:
        """The part of its limit that the group's next job will use: 1 where nothing is known, never more."""
        parts = self._parts.get(group)
        return min(max(sum(parts) / len(parts), LEAST_PART), 1.0) if parts else 1.0

    def expected(self, groups: Ints, limit_s: Floats) -> Floats:
        """[J] Seconds that jobs will run."""
        lengths: Floats = limit_s * [self.part(group) for group in groups.tolist()]
        return lengths
