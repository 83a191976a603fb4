"""Check finds what a corrupted plan does to what runs: whom it ends without right or need, and for whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.place import place
from scheduler.engine.plan import Eviction, Placement
from tests.builders import cluster, job, queue, world
from tests.checked import refusal
from tests.running import beside, claim, ended, run

LOWER = PreemptionPolicy.LOWER_PRIORITY
HIGH = 100
LOWER_QUEUE = queue("default", preemption=LOWER)

WAITING = [job("job", "2", rank=HIGH), job("low", "9")]
GIVEN = beside(
    world(cluster("sh", "4 2"), cluster("gz", "9", cordoned=True), jobs=WAITING, queues=[LOWER_QUEUE]),
    run("a", "2", "sh/n1"), run("b", "2", "sh/n1", rank=50), run("c", "2", "sh/n2", rank=60), run("d", "2", "gz/n1"),
)  # fmt: skip
A, B, C, D = range(4)
GOOD = Eviction(0, 0, (0,), (A,), ("lower-priority",))


@pytest.mark.parametrize(
    ("evictions", "words"),
    [
        ([GOOD], ""),
        ([GOOD, GOOD], "room is made for job row 0, which does not wait, or has a claim already"),
        ([replace(GOOD, runs=(9,))], "names rows or rights that are not there"),
        ([replace(GOOD, nodes=(9,))], "names rows or rights that are not there"),
        ([replace(GOOD, runs=(), rights=())], "names rows or rights that are not there"),
        ([replace(GOOD, rights=())], "names rows or rights that are not there"),
        ([replace(GOOD, rights=("because we can",))], "names rows or rights that are not there"),
        ([replace(GOOD, nodes=())], "does not seat all its workers at one cluster"),
        ([replace(GOOD, nodes=(0, 0))], "does not seat all its workers at one cluster"),
        ([replace(GOOD, cluster=1)], "does not seat all its workers at one cluster"),
        ([replace(GOOD, runs=(A, A), rights=GOOD.rights * 2)], "a-1 is ended 2 times"),
        ([replace(GOOD, runs=(A, B), rights=GOOD.rights * 2)], "b-1 is ended for job without need"),
        ([replace(GOOD, runs=(C,))], "job claims more than is freed on its nodes"),
        ([replace(GOOD, runs=(D,))], "job does not fit though runs are ended for it"),
        ([replace(GOOD, rights=("reclaim-quota",))], "job may not have a-1 ended by reclaim-quota"),
    ],
)  # fmt: skip
def test_evictions_that_were_spoiled_are_refused(evictions: list[Eviction], words: str) -> None:
    plan = place(GIVEN)
    assert plan.evictions == (GOOD,)
    found = refusal(GIVEN, replace(plan, evictions=tuple(evictions)))
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ending": [True, False, False, False]}, "a-1 is ending already, or may not be begun again"),
        ({"fixed": [True, False, False, False]}, "a-1 is ending already, or may not be begun again"),
        ({"restarts": [99, 0, 0, 0]}, "a-1 was begun again 99 times and has to be left alone"),
        ({"rank": [HIGH, 50, 60, 0]}, "job may not have a-1 ended by lower-priority"),
    ],
)
def test_who_may_not_be_ended_is_not(changes: dict[str, list[Any]], words: str) -> None:
    columns = {name: np.array(values) for name, values in changes.items()}
    assert words in refusal(replace(GIVEN, evictable=replace(GIVEN.evictable, **columns)), place(GIVEN))


def test_nobody_is_ended_for_a_job_that_is_placed() -> None:
    given = beside(world(cluster("sh", "4"), jobs=[job("job", "2", rank=HIGH)], queues=[LOWER_QUEUE]), run("a", "2", "sh/n1"))
    plan = place(given)
    assert plan.placements == (Placement(0, 0, (0,), plan.placements[0].score),)
    assert "room is made for job row 0, which does not wait" in refusal(given, replace(plan, evictions=(GOOD,)))


def test_workers_of_one_job_are_not_seated_at_two_clusters() -> None:
    jobs = [job("job", "2", workers=2, rank=HIGH)]
    drawn = world(cluster("gz", "2"), cluster("sh", "4"), jobs=jobs, queues=[LOWER_QUEUE])
    given = beside(drawn, run("a", "4", "sh/n1"), run("b", "2", "gz/n1"))
    plan = place(given)
    assert plan.evictions == (Eviction(0, 1, (1, 1), (A,), ("lower-priority",)),)
    for nodes in ((0, 1), (1, 0)):
        assert "does not seat" in refusal(given, replace(plan, evictions=(replace(plan.evictions[0], nodes=nodes),)))


def test_what_is_freed_for_one_job_is_there_for_the_next() -> None:
    jobs = [job("first", "2", rank=HIGH), job("second", "2", rank=HIGH)]
    given = beside(world(cluster("sh", "8"), jobs=jobs, queues=[LOWER_QUEUE]), run("a", "4", "sh/n1"), run("b", "4", "sh/n1"))
    plan = place(given)
    assert refusal(given, plan) == ""
    assert [item.runs for item in plan.evictions] == [(A,)]
    needless = Eviction(1, 0, (0,), (B,), ("lower-priority",))
    assert "runs are ended for second though it needs none of it" in refusal(given, replace(plan, evictions=(*plan.evictions, needless)))


def test_in_a_strict_queue_others_are_ended_for_the_first_alone() -> None:
    jobs = [job("first", "4", rank=HIGH), job("second", "2", rank=HIGH)]
    strict = queue("default", preemption=LOWER, strict=True)
    given = beside(world(cluster("sh", "4"), jobs=jobs, queues=[strict]), run("a", "2", "sh/n1"), run("b", "2", "sh/n1"))
    assert ended(given) == {"first": "a by lower-priority, b by lower-priority: sh n1"}
    plan = place(given)
    assert "second waits behind first in its strict queue" in refusal(given, replace(plan, evictions=(replace(GOOD, job=1),)))


@pytest.mark.parametrize(("limit", "expected"), [(2, {"job": "a by lower-priority: sh n1"}), (3, {})])
def test_a_claim_counts_towards_the_limit_of_its_queue(limit: int, expected: dict[str, str]) -> None:
    limited = queue("default", preemption=LOWER, limit=limit)
    drawn = world(cluster("sh", "8"), jobs=[job("waiting", "2", rank=HIGH), job("job", "1", rank=HIGH)], queues=[limited])
    going = run("gone", "2", "sh/n1", ending_for="waiting")
    given = beside(drawn, run("a", "2", "sh/n1"), going, claims=[claim("waiting", "2", "sh/n1")])
    assert ended(given) == expected


def test_lent_quota_is_taken_back_for_all_workers_of_a_gang_or_for_none() -> None:
    queues = [queue("team", quota="3", preemption=PreemptionPolicy.RECLAIM_QUOTA), queue("guest")]
    drawn = world(cluster("sh", "4"), jobs=[job("gang", "2", workers=2, queue="team")], queues=queues)
    given = beside(drawn, run("a", "4", "sh/n1", queue="guest"))
    plan = place(given)
    assert plan.evictions == ()
    beyond = Eviction(0, 0, (0, 0), (A,), ("reclaim-quota",))
    assert "gang may not have a-1 ended by reclaim-quota" in refusal(given, replace(plan, evictions=(beyond,)))


@pytest.mark.parametrize("nodes", [(1, 2), (2, 3), (3, 3)], ids=["two zones", "a zone and none", "no zone"])
def test_room_is_made_in_one_zone_for_who_must_be_in_one(nodes: tuple[int, ...]) -> None:
    asking = job("gang", "2", workers=2, same="zone", rank=HIGH)
    drawn = world(cluster("sh", "2#a 2#a 2#b 4"), jobs=[asking], queues=[LOWER_QUEUE])
    given = beside(drawn, run("a", "2", "sh/n1"))
    plan = place(given)
    assert plan.evictions == (Eviction(0, 0, (0, 1), (A,), ("lower-priority",)),)
    spoiled = replace(plan.evictions[0], nodes=nodes)
    assert "gang may not use a node that it claims" in refusal(given, replace(plan, evictions=(spoiled,)))
