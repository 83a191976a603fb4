"""Array limits: at most so many tasks of one array at once, whatever room there is."""

from __future__ import annotations

from scheduler.engine.snapshot import Jobs


class ArrayLimits:
    """How many more tasks of each array may start while a plan is made."""

    def __init__(self, jobs: Jobs) -> None:
        self._array = jobs.array.tolist()
        self._left = {array: left for array, left in zip(self._array, jobs.array_left.tolist(), strict=True) if array >= 0}
        self._held_back: set[int] = set()

    def may_start(self, job: int) -> bool:
        """Whether the array of this job lets one more start; noted when not. Always true for a job of none."""
        if self._left.get(self._array[job], 1) > 0:
            return True
        self._held_back.add(job)
        return False

    def grant(self, job: int) -> None:
        """Note that a job was placed."""
        if self._array[job] in self._left:
            self._left[self._array[job]] -= 1

    def held_back(self) -> frozenset[int]:
        """Jobs that got no place because their array runs as many as it may."""
        return frozenset(self._held_back)
