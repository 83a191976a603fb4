"""Limits of arrays: no plan starts more tasks than an array may, none is held back in vain, and the check finds what breaks this."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scheduler.engine.board import classes_of
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Plan, Unplaced
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from tests.property.worlds import fits, left_over, snapshots

HELD_BACK = {Reason.QUEUE_LIMIT, Reason.QUEUE_QUOTA, Reason.QUEUE_ORDER, Reason.RESERVED_FOR_ANOTHER}


@st.composite
def with_arrays(draw: st.DrawFn) -> Snapshot:
    """A world in which some jobs are tasks of two arrays."""
    snapshot = draw(snapshots())
    count = len(snapshot.jobs.ids)
    array = np.array(draw(st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=count, max_size=count)), dtype=np.int64)
    left = np.array([draw(st.integers(1, 3)), draw(st.integers(0, 1)), 0], dtype=np.int64)[array]
    return replace(snapshot, jobs=replace(snapshot.jobs, array=array, array_left=left))


def started(snapshot: Snapshot, plan: Plan) -> Counter[int]:
    """How many tasks of each array a plan starts."""
    return Counter(number for item in plan.placements if (number := int(snapshot.jobs.array[item.job])) >= 0)


@given(with_arrays())
def test_no_array_starts_more_than_it_may_and_none_waits_for_it_in_vain(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    count, room = started(snapshot, plan), left_over(snapshot, plan)
    for row, array in enumerate(snapshot.jobs.array.tolist()):
        assert array < 0 or count[array] <= snapshot.jobs.array_left[row]
    for item in plan.unplaced:
        array = int(snapshot.jobs.array[item.job])
        if Reason.ARRAY_LIMIT in item.clusters:
            assert count[array] == snapshot.jobs.array_left[item.job]
        elif not HELD_BACK & set(item.clusters):
            assert not any(fits(snapshot, item.job, cluster, room) for cluster in range(len(snapshot.clusters.names)))


@settings(max_examples=40)
@given(with_arrays())
def test_the_check_rejects_one_task_too_many(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    count = started(snapshot, plan)
    assume(count)
    array = min(count)
    fewer = np.where(snapshot.jobs.array == array, count[array] - 1, snapshot.jobs.array_left)
    spoiled = replace(snapshot, jobs=replace(snapshot.jobs, array_left=fewer))
    with pytest.raises(PlanRejectedError, match=rf"would start {count[array]} tasks, j\d+ among them, of at most {count[array] - 1}"):
        check(spoiled, plan)


@settings(max_examples=40)
@given(with_arrays(), st.integers(0, 1))
def test_the_check_rejects_a_limit_that_is_no_reason(snapshot: Snapshot, chosen: int) -> None:
    plan = place(snapshot)
    assume(len(plan.unplaced) > chosen)
    item = plan.unplaced[chosen]
    array = int(snapshot.jobs.array[item.job])
    assume(array < 0 or started(snapshot, plan)[array] < snapshot.jobs.array_left[item.job])
    false = Unplaced(item.job, Reason.ARRAY_LIMIT, tuple(Reason.ARRAY_LIMIT for _ in item.clusters), ())
    spoiled = Plan(plan.placements, tuple(false if one is item else one for one in plan.unplaced))
    with pytest.raises(PlanRejectedError, match="held back by an array that may start more"):
        check(snapshot, spoiled)


def test_the_board_refuses_what_it_does_not_know() -> None:
    from tests.builders import cluster, job, world

    plain = world(cluster("sh"), jobs=[job("a")])
    limited = replace(plain.jobs, array=np.array([0]), array_left=np.array([1]))
    assert len(classes_of(plain.jobs)[1]) == 1
    with pytest.raises(ValueError, match="knows no array"):
        classes_of(limited)
