"""What is booked while victims are chosen: room that a plan gives away, claims, arrays, and what one job leaves for the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.evictable import Budget, PreemptionPolicy
from tests.builders import cluster, job, queue, world
from tests.running import beside, claim, ended, run
from tests.timed import timed

LOWER, RECLAIM = PreemptionPolicy.LOWER_PRIORITY, PreemptionPolicy.RECLAIM_QUOTA
HIGH = 100
LOWER_QUEUE = queue("default", preemption=LOWER)


def test_room_that_the_plan_gives_away_is_nobodys_any_more() -> None:
    jobs = [job("first", "2", rank=HIGH), job("second", "2", rank=HIGH)]
    given = beside(world(cluster("sh", "4"), jobs=jobs, queues=[LOWER_QUEUE]), run("low", "2", "sh/n1"))
    assert ended(given) == {"second": "low by lower-priority: sh n1"}


def test_room_that_another_has_claimed_is_not_waited_for() -> None:
    jobs = [job("claims", "2", rank=HIGH), job("second", "2", rank=HIGH)]
    drawn = world(cluster("sh", "4"), jobs=jobs, queues=[LOWER_QUEUE])
    runs = [run("low", "2", "sh/n1"), run("gone", "2", "sh/n1", ending_for="claims")]
    assert ended(beside(drawn, *runs, claims=[claim("claims", "2", "sh/n1")])) == {"second": "low by lower-priority: sh n1"}
    # Without the claim either of them may have it, and nobody else is ended before that is known.
    assert ended(beside(drawn, *runs)) == {}


@pytest.mark.parametrize(("left", "expected"), [(1, {}), (2, {"large": "low by lower-priority: sh n1"})])
def test_nobody_is_ended_for_a_task_whose_array_has_started_all_that_it_may(left: int, expected: dict[str, str]) -> None:
    jobs = [job("large", "3", rank=HIGH), job("small", "1", rank=HIGH)]
    drawn = world(cluster("sh", "4"), jobs=jobs, queues=[LOWER_QUEUE])
    tasks = replace(drawn.jobs, array=np.zeros(2, dtype=np.int64), array_left=np.full(2, left))
    assert ended(beside(replace(drawn, jobs=tasks), run("low", "3", "sh/n1"))) == expected


@pytest.mark.parametrize(("looks", "expected"), [(1, {}), (2, {"small": "low by lower-priority: sh n1"})])
def test_who_is_like_one_that_found_nobody_is_not_looked_at(looks: int, expected: dict[str, str]) -> None:
    jobs = [job("large", "9", rank=HIGH), job("as large", "9", rank=HIGH), job("small", "2", rank=HIGH)]
    given = beside(world(cluster("sh", "4"), jobs=jobs, queues=[LOWER_QUEUE]), run("low", "4", "sh/n1"), budget=Budget(looks=looks))
    assert ended(given) == expected


def test_what_is_tried_for_one_job_takes_no_right_from_the_next() -> None:
    jobs = [job(name, "2", queue="team") for name in ("a", "b", "c")]
    queues = [queue("team", quota="4", preemption=RECLAIM), queue("guest")]
    runs = [run(f"g{number}", "1", "sh/n1", queue="guest") for number in range(6)]
    found = ended(beside(world(cluster("sh", "6"), jobs=jobs, queues=queues), *runs))
    # The third would take it over its quota.
    assert sorted(found) == ["a", "b"]
    assert [words.count("reclaim-quota") for words in found.values()] == [2, 2]


@pytest.mark.parametrize(("workers", "helped"), [(1, ["gang", "one"]), (2, ["gang", "one"]), (3, ["gang"])])
def test_all_workers_of_a_gang_count_towards_the_quota_that_is_taken_back(workers: int, helped: list[str]) -> None:
    jobs = [job("gang", "1", workers=workers, queue="team"), job("one", "2", queue="team")]
    queues = [queue("team", quota="4", preemption=RECLAIM), queue("guest")]
    runs = [run(f"g{number}", "1", "sh/n1", queue="guest") for number in range(6)]
    assert sorted(ended(beside(world(cluster("sh", "6"), jobs=jobs, queues=queues), *runs))) == helped


@pytest.mark.parametrize(("ceiling", "expected"), [("3", {}), ("4", {"gang": "low by lower-priority: sh n1 n1"})])
def test_nobody_is_ended_for_a_gang_that_its_queue_may_not_hold(ceiling: str, expected: dict[str, str]) -> None:
    drawn = world(
        cluster("sh", "4"), jobs=[job("gang", "2", workers=2, rank=HIGH)], queues=[queue("default", preemption=LOWER, ceiling=ceiling)]
    )
    assert ended(beside(drawn, run("low", "1", "sh/n1"))) == expected


def test_a_job_may_have_others_ended_where_it_is_promised_a_start_and_nobody_else_may() -> None:
    jobs = [job("head", "4", rank=HIGH), job("next", "3", rank=HIGH)]
    given = beside(world(cluster("sh", "4"), jobs=jobs, queues=[LOWER_QUEUE]), run("low", "4", "sh/n1"))
    promising = replace(
        timed(given, {"head": 10.0, "next": 10.0}, running=[("sh n1", "4", 100.0)], heads=1), evictable=given.evictable, claims=given.claims
    )
    assert ended(promising) == {"head": "low by lower-priority: sh n1"}


def test_what_starts_in_this_plan_counts_towards_the_limit_of_its_queue() -> None:
    jobs = [job("first", "1", rank=HIGH), job("second", "1", rank=HIGH)]
    drawn = world(cluster("sh", "8"), jobs=jobs, queues=[queue("default", preemption=LOWER, limit=2)])
    assert ended(beside(drawn, run("low", "1", "sh/n1"))) == {"second": "low by lower-priority: sh n1"}


def test_all_workers_of_what_starts_count_towards_the_ceiling_of_its_queue() -> None:
    jobs = [job("gang", "2", workers=2, rank=HIGH), job("second", "2", rank=HIGH)]
    drawn = world(cluster("sh", "16"), jobs=jobs, queues=[queue("default", preemption=LOWER, ceiling="6")])
    assert ended(beside(drawn, run("low", "1", "sh/n1"))) == {"second": "low by lower-priority: sh n1"}
