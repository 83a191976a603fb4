"""Runs that hold machines, with the times at which they are due, in arrays that grow and shrink."""

from __future__ import annotations

import numpy as np

from scheduler.engine.snapshot import Floats, Ints


class Running:
    """Jobs in no order, each with when it ends if it takes what it asked for, and if it takes as long as expected."""

    def __init__(self) -> None:
        self._jobs, self._ends, self._expected = np.zeros(64, dtype=np.int64), np.zeros(64), np.zeros(64)
        self._row: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row)

    @property
    def jobs(self) -> Ints:
        """[R] Rows of the trace."""
        return self._jobs[: len(self._row)]

    def by_end(self, now: float) -> tuple[Ints, Floats]:
        """[R] Jobs and when they end if they take what they asked for, the first end first; who is late may end at any moment."""
        ends = np.maximum(self._ends[: len(self._row)], now)
        order = np.argsort(ends, kind="stable")
        return self.jobs[order], ends[order]

    def add(self, job: int, end_s: float, expected_s: float) -> None:
        """A run begins."""
        row = len(self._row)
        if row == len(self._jobs):
            self._jobs, self._ends, self._expected = (np.concatenate([old, old]) for old in (self._jobs, self._ends, self._expected))
        self._jobs[row], self._ends[row], self._expected[row] = job, end_s, expected_s
        self._row[job] = row

    def remove(self, job: int) -> None:
        """A run ends; the last one takes its place."""
        row, last = self._row.pop(job), len(self._row)
        if row != last:
            moved = int(self._jobs[last])
            self._jobs[row], self._ends[row], self._expected[row] = moved, self._ends[last], self._expected[last]
            self._row[moved] = row

    def profile(self, now: float, free: int, units: Ints) -> tuple[Floats, Ints]:
        """[R + 1] times, and how many units are free from then on: `free` now, more as runs of `units[R]` end when they are expected to."""
        ends = np.maximum(self._expected[: len(self._row)], now)
        order = np.argsort(ends, kind="stable")
        released = np.cumsum(units[order])
        return np.concatenate([[now], ends[order]]), np.concatenate([[free], free + released]).astype(np.int64)
