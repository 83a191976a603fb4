"""Check finds arrays that start more tasks than they may, and tasks that wait for that limit in vain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.plan import Placement, Plan, Unplaced
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from tests import checked
from tests.builders import cluster, job, world


def of_arrays(array: list[int], left: list[int]) -> Snapshot:
    """A cluster with room for all of these jobs, of arrays that may start so many tasks more."""
    drawn = world(cluster("sh", "9"), jobs=[job(f"j{row}") for row in range(len(array))])
    return replace(drawn, jobs=replace(drawn.jobs, array=np.array(array), array_left=np.array(left)))


def refusal(given: Snapshot, placed: list[int]) -> str:
    """Why a plan that starts these jobs, and lets others wait for the limits of their arrays, is not accepted; nothing if it is."""
    waiting = [row for row in range(len(given.jobs.ids)) if row not in placed]
    unplaced = tuple(Unplaced(row, Reason.ARRAY_LIMIT, (Reason.ARRAY_LIMIT,), ()) for row in waiting)
    return checked.refusal(given, Plan(tuple(Placement(row, 0, (0,), 0.0) for row in placed), unplaced))


@pytest.mark.parametrize(
    ("array", "left", "placed", "said"),
    [
        ([0, 0, 0], [2, 2, 2], [0, 1], ""),
        ([0, 0, 0], [2, 2, 2], [0, 1, 2], "an array would start 3 tasks, j0 among them, of at most 2"),
        ([-1, 1, 1], [0, 1, 1], [0, 1, 2], "an array would start 2 tasks, j1 among them, of at most 1"),
        ([0, 0], [0, 0], [1], "an array would start 1 tasks, j0 among them, of at most 0"),
        ([0, 0, 0], [2, 2, 2], [0], "j1 is held back by an array that may start more; j2 is held back by an array that may start more"),
        ([0, 1], [0, 1], [1], ""),
        ([-1, 0], [0, 1], [1], "j0 is held back by an array that may start more"),
        ([-1, -1], [0, 0], [0, 1], ""),
    ],
)
def test_limits_of_arrays_are_kept_and_hold_nobody_back_in_vain(array: list[int], left: list[int], placed: list[int], said: str) -> None:
    assert refusal(of_arrays(array, left), placed) == said
