"""Aftermath: the world that a plan leaves behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scheduler.engine.aftermath import carried_out
from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.place import place
from tests.builders import cluster, job, queue, world
from tests.running import beside, run


def test_tasks_that_a_plan_starts_are_counted_for_their_array_alone() -> None:
    drawn = world(cluster("sh", "2"), jobs=[job(name, "1") for name in ("a0", "b0", "a1", "b1", "none")])
    arrays, left = np.array([0, 1, 0, 1, -1]), np.array([3, 2, 3, 2, 0])
    given = replace(drawn, jobs=replace(drawn.jobs, array=arrays, array_left=left))
    plan = place(given)
    assert [item.job for item in plan.placements] == [0, 1]
    after = carried_out(given, plan).jobs
    assert (after.ids, after.array.tolist(), after.array_left.tolist()) == (("a1", "b1", "none"), [0, 1, -1], [2, 1, 0])


def test_of_free_room_what_a_job_takes_beside_its_victims_is_kept() -> None:
    queues = [queue("default", preemption=PreemptionPolicy.LOWER_PRIORITY)]
    drawn = world(cluster("sh", "6 2"), jobs=[job("job", "3", rank=100)], queues=queues)
    given = beside(drawn, run("victim", "2", "sh/n1"), run("stays", "2", "sh/n1", rank=100))
    plan = place(given)
    assert [(item.runs, item.nodes) for item in plan.evictions] == [((0,), (0,))]
    assert carried_out(given, plan).nodes.free[:, 0].tolist() == [1.0, 2.0]
