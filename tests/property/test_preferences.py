"""What jobs prefer decides between clusters with room, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.engine.board import classes_of
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.scores import SECOND, completion, price
from scheduler.engine.snapshot import Prefer, Snapshot
from tests.property.worlds import fits, is_legal, snapshots

preferences = st.sampled_from([Prefer.SOONEST, Prefer.CHEAPEST])


def preferring(snapshot: Snapshot, *preferences: int) -> Snapshot:
    """The same world, in which the jobs prefer something."""
    return replace(snapshot, jobs=replace(snapshot.jobs, prefer=np.resize(np.array(preferences, dtype=np.int64), len(snapshot.jobs.ids))))


@given(snapshots(), st.lists(st.sampled_from(list(Prefer)), min_size=1, max_size=7))
def test_plans_of_jobs_with_preferences_are_legal(snapshot: Snapshot, drawn: list[Prefer]) -> None:
    given_world = preferring(snapshot, *drawn)
    plan = place(given_world)
    check(given_world, plan)
    assert is_legal(given_world, plan)


@given(snapshots(), preferences)
def test_the_first_job_goes_where_it_prefers_to(snapshot: Snapshot, preference: Prefer) -> None:
    given_world = preferring(snapshot, preference)
    plan = place(given_world)
    if not plan.placements:
        return
    first = plan.placements[0]
    values = (completion if preference is Prefer.SOONEST else price)(given_world, first.job)
    free = given_world.nodes.free.tolist()
    open_values = [values[row] for row in range(len(values)) if fits(given_world, first.job, row, free)]
    spread = max(open_values) - min(open_values)
    assert values[first.cluster] <= min(open_values) + 2 * SECOND * spread


@given(snapshots(most_jobs=3), preferences)
def test_the_board_refuses_jobs_with_preferences(snapshot: Snapshot, preference: Prefer) -> None:
    if snapshot.jobs.ids:
        with pytest.raises(ValueError, match="balanced jobs only"):
            classes_of(preferring(snapshot, preference).jobs)
