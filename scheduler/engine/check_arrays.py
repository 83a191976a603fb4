"""Check of array limits: no array starts more tasks than it may, and none is held back by a limit that it is within."""

from __future__ import annotations

import numpy as np

from scheduler.engine.plan import Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot


def array_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """What a plan breaks of the limits of arrays, and which tasks wait for them without need."""
    jobs = snapshot.jobs
    limited = jobs.array >= 0
    size = int(jobs.array.max(initial=-1)) + 1
    left = np.zeros(size, dtype=np.int64)
    left[jobs.array[limited]] = jobs.array_left[limited]
    rows = np.array([item.job for item in plan.placements], dtype=np.int64)
    started = np.bincount(jobs.array[rows][limited[rows]], minlength=size)
    over = np.flatnonzero((started > 0) & (started > left))
    faults = [f"an array would start {started[array]} tasks, {jobs.ids[_first(jobs.array, array)]} among them, of at most "
              f"{left[array]}" for array in over.tolist()]  # fmt: skip
    for item in plan.unplaced:
        array = int(jobs.array[item.job])
        if Reason.ARRAY_LIMIT in item.clusters and (array < 0 or started[array] < left[array]):
            faults.append(f"{jobs.ids[item.job]} is held back by an array that may start more")
    return faults


def _first(array: np.ndarray[tuple[int], np.dtype[np.int64]], number: int) -> int:
    return int(np.flatnonzero(array == number)[0])
