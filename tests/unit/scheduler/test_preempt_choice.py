"""Which victims are chosen where there are several places and ways: the least loss, no more than needed, and never in a circle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.evictable import Budget, PreemptionPolicy
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from tests.builders import DrawnJob, cluster, job, or_else, queue, world
from tests.running import DrawnRun, beside, ended, run
from tests.timed import timed

LOWER = PreemptionPolicy.LOWER_PRIORITY
HIGH, HIGHER, LOW = 100, 200, -100


def inside(
    *runs: DrawnRun, nodes: str, size: str = "4", jobs: Sequence[DrawnJob] = (), limit: int | None = None, budget: Budget | None = None
) -> Snapshot:
    """An urgent job, or several, in a queue in which others run."""
    urgent = jobs or [job("urgent", size, rank=HIGH)]
    drawn = world(cluster("sh", nodes), jobs=urgent, queues=[queue("default", preemption=LOWER, limit=limit)])
    return beside(drawn, *runs, budget=budget or Budget())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # The place where the cheapest run is need not be the cheapest place.
        (inside(run("a", "2", "sh/n1"), run("b", "2", "sh/n1", lost_s=1000), run("c", "4", "sh/n2", lost_s=100), nodes="4 4"),
         {"urgent": "c by lower-priority: sh n2"}),
        # Who began again once costs twice what is lost, and the half minute that beginning takes.
        (inside(run("a", "4", "sh/n1", lost_s=22), run("b", "4", "sh/n2", restarts=1), nodes="4 4"),
         {"urgent": "a by lower-priority: sh n1"}),
        # Where as much is lost, fewer runs.
        (inside(run("a", "2", "sh/n1"), run("b", "2", "sh/n1"), run("c", "4", "sh/n2"), nodes="4 4"),
         {"urgent": "c by lower-priority: sh n2"}),
        # The highest priority among those that end decides, before what is lost.
        (inside(run("a", "2", "sh/n1", rank=LOW), run("b", "2", "sh/n1", rank=50), run("c", "4", "sh/n2", lost_s=1000), nodes="4 4"),
         {"urgent": "c by lower-priority: sh n2"}),
        # Places are compared without those that turned out not to be needed.
        (inside(run("a", "1", "sh/n1"), run("b", "4", "sh/n1", lost_s=99), run("c", "4", "sh/n2", lost_s=105), nodes="5 4"),
         {"urgent": "b by lower-priority: sh n1"}),
        # A place that would need more ends than the plan has left takes nothing from one that does not.
        (inside(run("a", "4", "sh/n1"), run("b", "2", "sh/n2", lost_s=30), run("c", "2", "sh/n2", lost_s=40), nodes="4 4",
                budget=Budget(runs=1)), {"urgent": "a by lower-priority: sh n1"}),
    ],
)  # fmt: skip
def test_the_cheapest_place_is_chosen(given: Snapshot, expected: dict[str, str]) -> None:
    assert ended(given) == expected


@pytest.mark.parametrize(("first", "second"), [("2", "4"), ("4", "2")])
def test_of_all_ways_to_run_a_job_the_one_that_costs_least_is_taken(first: str, second: str) -> None:
    runs = [run("a", "2", "sh/n1"), run("b", "2", "sh/n1", lost_s=99)]
    choosy = or_else(job("urgent", first, rank=HIGH), second)
    assert ended(inside(*runs, nodes="4", jobs=[choosy])) == {"urgent": "a by lower-priority: sh n1"}


def test_of_ways_that_cost_the_same_the_first_is_taken_wherever_that_is() -> None:
    first = job("urgent", "4", rank=HIGH, refused={"gz": Reason.LICENCE_MISSING})
    choosy = or_else(first, "4", refused={"sh": Reason.LICENCE_MISSING})
    drawn = world(cluster("gz", "4"), cluster("sh", "4"), jobs=[choosy], queues=[queue("default", preemption=LOWER)])
    given = beside(drawn, run("a", "4", "gz/n1"), run("b", "4", "sh/n1"))
    assert ended(given) == {"urgent": "b by lower-priority: sh n1"}


def test_one_end_that_makes_a_place_in_a_full_queue_suffices_where_the_cluster_has_room() -> None:
    """On the first node both would have to end, beside it none: the queue is full, and the dearer one is given back."""
    runs = [run("a", "2", "sh/n1"), run("b", "2", "sh/n1", lost_s=99)]
    assert ended(inside(*runs, nodes="4 4", limit=2)) == {"urgent": "a by lower-priority: sh n2"}


def test_what_was_tried_for_a_full_queue_is_undone_before_the_next_job_is_looked_at() -> None:
    jobs = [job(name, "4", rank=HIGH) for name in ("x", "y", "z")]
    runs = [run("a", "2", "sh/n1"), run("b", "2", "sh/n1", lost_s=99)]
    # The third would be one more than the queue may run.
    assert ended(inside(*runs, nodes="4 4", limit=2, jobs=jobs)) == {
        "x": "a by lower-priority: sh n2",
        "y": "b by lower-priority: sh n1",
    }


def test_a_victim_on_a_node_that_is_too_small_makes_a_place_in_a_full_queue() -> None:
    assert ended(inside(run("a", "1", "sh/n1"), nodes="1 8", limit=1)) == {"urgent": "a by lower-priority: sh n2"}


@pytest.mark.parametrize(("size", "expected"), [("6", {"urgent": "b by lower-priority: sh n1"}), ("7", {})])
def test_what_one_waits_for_is_left_to_it_beside_what_victims_leave(size: str, expected: dict[str, str]) -> None:
    """The first has 2 cores that are ending anyway; of 8 that leaves 6."""
    jobs = [job("first", "2", rank=HIGHER), job("urgent", size, rank=HIGH)]
    given = inside(run("e", "2", "sh/n1", ending=True), run("b", "6", "sh/n1"), nodes="8+1H200", jobs=jobs)
    assert ended(given) == expected


def test_nobody_is_ended_for_a_place_in_a_queue_when_the_room_is_waited_for() -> None:
    queues = [queue("default", preemption=LOWER, limit=2), queue("other", preemption=LOWER)]
    jobs = [job("first", "8", queue="other"), job("urgent", "4", rank=HIGH, sequence=1)]
    drawn = world(cluster("sh", "4 8"), jobs=jobs, queues=queues)
    runs = [run("a", "2", "sh/n1"), run("b", "2", "sh/n1", lost_s=99), run("e", "4", "sh/n2", queue="other", ending=True)]
    assert ended(beside(drawn, *runs)) == {}


def test_a_job_is_seated_beside_what_another_waits_for() -> None:
    queues = [queue("default", preemption=LOWER, limit=1), queue("other", preemption=LOWER)]
    jobs = [job("first", "4", queue="other", labels="gold"), job("urgent", "4", rank=HIGH)]
    drawn = world(cluster("sh", "4@gold 9 1"), jobs=jobs, queues=queues)
    runs = [run("e", "4", "sh/n1", queue="other", ending=True), run("a", "1", "sh/n3")]
    assert ended(beside(drawn, *runs)) == {"urgent": "a by lower-priority: sh n2"}


def test_each_of_those_before_has_room_of_its_own_to_wait_for() -> None:
    """The first two wait for a node each, of which the second leaves 5 cores: not enough for the third, though its queue had a place."""
    queues = [queue("default", preemption=LOWER, limit=1), queue("other", preemption=LOWER)]
    jobs = [job("first", "4", queue="other"), job("second", "4", queue="other"), job("urgent", "6", rank=HIGH)]
    drawn = world(cluster("sh", "4 9 1"), jobs=jobs, queues=queues)
    ending = [run("d", "4", "sh/n1", queue="other", ending=True), run("e", "9", "sh/n2", queue="other", ending=True)]
    assert ended(beside(drawn, *ending, run("a", "1", "sh/n3"))) == {}


def test_a_gang_gets_no_room_that_is_half_at_one_cluster_and_half_at_another() -> None:
    where = [cluster("gz", "4 4"), cluster("sh", "4 4")]
    drawn = world(*where, jobs=[job("gang", "4", workers=2, rank=HIGH)], queues=[queue("default", preemption=LOWER)])
    kept = [run("f", "4", "gz/n1", fixed=True), run("g", "4", "sh/n2", fixed=True)]
    assert ended(beside(drawn, *kept, run("a", "4", "gz/n2"), run("b", "4", "sh/n1"))) == {}


def test_nobody_is_ended_on_a_node_that_another_is_promised() -> None:
    queues = [queue("default", preemption=LOWER), queue("other")]
    jobs = [job("head", "4", queue="other"), job("urgent", "4", rank=HIGH)]
    drawn = world(cluster("sh", "4 4"), jobs=jobs, queues=queues)
    given = beside(drawn, run("a", "4", "sh/n1"), run("b", "4", "sh/n2", lost_s=99))
    promising = timed(given, {"head": 10.0, "urgent": 10.0}, running=[("sh n1", "4", 100.0), ("sh n2", "4", 900.0)], heads=1)
    assert ended(replace(promising, evictable=given.evictable)) == {"urgent": "b by lower-priority: sh n2"}


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([], {"x": "v by lower-priority: sh n1", "y": "w by lower-priority: sh n2"}),
        # W ended x, x ends v, and v ended y: y may not have w ended.
        ([("w", "x"), ("v", "y")], {"x": "v by lower-priority: sh n1"}),
    ],
)
def test_evictions_of_one_plan_close_no_circle(past: list[tuple[str, str]], expected: dict[str, str]) -> None:
    drawn = world(
        cluster("sh", "4 4"), jobs=[job("x", "4", rank=HIGH), job("y", "4", rank=HIGH)], queues=[queue("default", preemption=LOWER)]
    )
    assert ended(beside(drawn, run("v", "4", "sh/n1"), run("w", "4", "sh/n2"), past=past)) == expected


@pytest.mark.parametrize(("left", "helped"), [(0, []), (1, ["x"]), (2, ["x", "y"])])
def test_as_many_tasks_of_an_array_are_helped_as_it_may_start(left: int, helped: list[str]) -> None:
    drawn = inside(run("a", "4", "sh/n1"), run("b", "4", "sh/n2"), nodes="4 4", jobs=[job(name, "4", rank=HIGH) for name in ("x", "y")])
    tasks = replace(drawn.jobs, array=np.zeros(2, dtype=np.int64), array_left=np.full(2, left))
    assert list(ended(replace(drawn, jobs=tasks))) == helped


def test_a_device_that_is_freed_for_one_job_is_in_use_for_the_next() -> None:
    """Of the first device the first job leaves .3; beside .4 that are free on the second one that is no room for another .7."""
    jobs = [job("x", "1+.7H200", rank=HIGH), job("y", "1+.7H200", rank=HIGH)]
    runs = [run("a", "1+1H200", "sh/n1"), run("b", "1+.6H200", "sh/n1", lost_s=99)]
    assert ended(inside(*runs, nodes="8+1,1H200", jobs=jobs)) == {"x": "a by lower-priority: sh n1", "y": "b by lower-priority: sh n1"}
