"""Hours of a virtual clock: what tariffs and intensities make of the time that a job ran, for many jobs at once.

A trace begins at a moment of the calendar (`Trace.begins_at`), so each second of it is one of a week. Seconds are weighed by the value
of their hour and summed up once for each week that repeats; then a job is what had passed at its end less what had at its start.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scheduler.engine.snapshot import Floats
from workloads.hours import Week


class Passed:
    """Weighed seconds that have passed by a time, on a line in between changes; from `begins_at` (seconds since the epoch) on."""

    def __init__(self, week: Week[Any], begins_at: float, until_s: float) -> None:
        pieces = week.pieces(begins_at, begins_at + max(until_s, 1.0))
        self._times = np.array([pieces[0].begin_s, *(piece.end_s for piece in pieces)]) - begins_at
        lengths = [(piece.end_s - piece.begin_s) * float(piece.value) for piece in pieces]
        self._passed = np.concatenate([[0.0], np.cumsum(lengths)])

    def changes(self, begin_s: float, end_s: float) -> Floats:
        """[T] The times after one and before another at which the value changes."""
        found: Floats = self._times[(self._times > begin_s) & (self._times < end_s)]
        return found

    def between(self, begin_s: Floats, end_s: Floats) -> Floats:
        """[J] Weighed seconds between two times of the trace; both have to be before `until_s`."""
        found: Floats = np.interp(end_s, self._times, self._passed) - np.interp(begin_s, self._times, self._passed)
        return found
