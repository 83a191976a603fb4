"""What a job's queue holds, and what it may take back of what it has lent, when several runs, claims and branches count at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.snapshot import Snapshot
from tests.builders import DrawnJob, DrawnQueue, cluster, job, queue, world
from tests.running import DrawnRun, beside, claim, ended, run

LOWER, RECLAIM = PreemptionPolicy.LOWER_PRIORITY, PreemptionPolicy.RECLAIM_QUOTA
HIGH = 100


def lent(*runs: DrawnRun, size: str, nodes: str, more: Sequence[DrawnQueue] = (), others: Sequence[DrawnJob] = ()) -> Snapshot:
    """A job of a team that has lent its quota of 4 cores to guests, and to the rich, who have a quota of 2 themselves."""
    queues = [queue("team", quota="4", preemption=RECLAIM), queue("guest"), queue("rich", quota="2"), *more]
    return beside(world(cluster("sh", nodes), jobs=[job("mine", size, queue="team"), *others], queues=queues), *runs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Two queues give back together what neither would alone.
        (lent(run("a", "2", "sh/n1", queue="guest"), run("b", "2", "sh/n1", queue="rich"), run("c", "1", "sh/n1", queue="rich"),
              nodes="5", size="3"), {"mine": "c by reclaim-quota, a by reclaim-quota: sh n1"}),
        # Once one of the rich has ended they are within their quota: the other of them is passed over for who comes behind it.
        (lent(run("a", "1", "sh/n1", queue="rich"), run("b", "2", "sh/n1", queue="rich"), run("c", "2", "sh/n1", queue="guest", lost_s=99),
              nodes="5", size="3"), {"mine": "a by reclaim-quota, c by reclaim-quota: sh n1"}),
        (lent(run("a", "1", "sh/n1", queue="rich"), run("b", "2", "sh/n1", queue="rich"), nodes="3", size="3"), {}),
        # The cheap one is given back, and so the dear one of the same queue is owed still.
        (lent(run("a", "1", "sh/n1", queue="rich"), run("b", "3", "sh/n1", queue="rich", lost_s=99), nodes="4", size="3"),
         {"mine": "b by reclaim-quota: sh n1"}),
    ],
)  # fmt: skip
def test_victims_of_several_queues_give_back_what_was_lent(given: Snapshot, expected: dict[str, str]) -> None:
    assert ended(given) == expected


def cores_alone(given: Snapshot) -> Snapshot:
    """Where quotas say nothing of memory."""
    return replace(given, queues=replace(given.queues, quota=given.queues.quota * ([1.0, 0.0] + [1.0] * (len(given.resources) - 2))))


def owed(*runs: DrawnRun, quota: str, size: str, nodes: str) -> Snapshot:
    """A job of a team of this quota, whose guests have none."""
    queues = [queue("team", quota=quota, preemption=RECLAIM), queue("guest")]
    return beside(world(cluster("sh", nodes), jobs=[job("mine", size, queue="team")], queues=queues), *runs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # What is guaranteed counts, however little, and nothing else.
        (cores_alone(owed(run("a", ".5", "sh/n1", queue="guest"), quota=".5", size=".5", nodes=".5")),
         {"mine": "a by reclaim-quota: sh n1"}),
        (owed(run("a", "1", "sh/n1", queue="guest"), quota="4:64", size="5", nodes="5"), {}),
        # Who holds nothing of what was lent is left alone, though it would cost less.
        (owed(run("h", "1", "sh/n1", queue="guest"), run("g", "1+1H200", "sh/n1", queue="guest", lost_s=99),
              quota="0+2H200", size="1+1H200", nodes="2+2H200"), {"mine": "g by reclaim-quota: sh n1"}),
        # Of what a job does not ask for its queue may hold more than its quota.
        (owed(run("own", "0+2H200", "sh/n1", queue="team"), run("a", "2", "sh/n1", queue="guest"),
              quota="4+1H200", size="2", nodes="2+2H200"), {"mine": "a by reclaim-quota: sh n1"}),
    ],
)  # fmt: skip
def test_each_resource_is_lent_by_itself(given: Snapshot, expected: dict[str, str]) -> None:
    assert ended(given) == expected


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ("e1", "e2", {"mine": "a by reclaim-quota: sh n1"}),
        # What is above or below one is no sister.
        ("east", "e2", {}),
        ("e1", "east", {}),
        # East has no quota against west.
        ("e1", "west", {}),
    ],
)
def test_sisters_below_one_queue_take_back_what_they_lent_each_other(mine: str, theirs: str, expected: dict[str, str]) -> None:
    queues = [queue("east", preemption=RECLAIM), queue("e1", below="east", quota="4", preemption=RECLAIM), queue("e2", below="east"),
              queue("west")]  # fmt: skip
    drawn = world(cluster("sh", "4"), jobs=[job("mine", "4", queue=mine)], queues=queues)
    assert ended(beside(drawn, run("a", "4", "sh/n1", queue=theirs))) == expected


def test_what_is_tried_in_vain_for_one_job_leaves_all_rights_as_they_were_for_the_next() -> None:
    """The first would be as large as two of the rich, of which it may have one; the second needs that one."""
    runs = [run("a", "1", "sh/n1", queue="rich"), run("b", "2", "sh/n1", queue="rich")]
    given = lent(*runs, nodes="3", size="3", others=[job("small", "1", queue="team"), job("next", "1", queue="team")])
    assert ended(given) == {"small": "a by reclaim-quota: sh n1"}


@pytest.mark.parametrize(("size", "expected"), [("2", {"mine": "a by reclaim-quota: sh n1"}), ("3", {})])
def test_what_a_job_of_the_team_has_claimed_counts_towards_its_quota(size: str, expected: dict[str, str]) -> None:
    jobs = [job("waiting", "2", queue="team", sequence=9), job("mine", size, queue="team")]
    queues = [queue("team", quota="4", preemption=RECLAIM), queue("guest")]
    runs = [run("gone", "2", "sh/n1", queue="guest", ending_for="waiting"), run("a", "3", "sh/n1", queue="guest")]
    claims = [claim("waiting", "2", "sh/n1", queue="team"), claim("elsewhere", "1", "sh/n2", queue="guest")]
    assert ended(beside(world(cluster("sh", "5 1"), jobs=jobs, queues=queues), *runs, claims=claims)) == expected


@pytest.mark.parametrize(("ending", "expected"), [(True, {"mine": "a by reclaim-quota: sh n1"}), (False, {})])
def test_what_is_ending_counts_towards_no_quota_any_more(ending: bool, expected: dict[str, str]) -> None:
    runs = [run("own", "1", "sh/n1", queue="team", ending=ending), run("a", "3", "sh/n1", queue="guest")]
    assert ended(lent(*runs, nodes="4", size="4")) == expected


def test_a_limit_of_the_queue_above_is_a_limit() -> None:
    queues = [queue("above", limit=1), queue("team", below="above", preemption=LOWER)]
    drawn = world(cluster("sh", "8"), jobs=[job("urgent", "1", queue="team", rank=HIGH)], queues=queues)
    assert ended(beside(drawn, run("a", "1", "sh/n1", queue="team"))) == {"urgent": "a by lower-priority: sh n1"}


def test_a_worker_that_leaves_a_gang_makes_no_place_in_a_queue_that_runs_as_many_jobs_as_it_may() -> None:
    drawn = world(cluster("sh", "8"), jobs=[job("urgent", "1", rank=HIGH)], queues=[queue("default", limit=2, preemption=LOWER)])
    given = beside(drawn, run("a", "2", "sh/n1"), run("leaving", "1", "sh/n1", ending=True))
    assert ended(given) == {}
    part = replace(given, evictable=replace(given.evictable, part=np.array([False, True])))
    assert ended(part) == {"urgent": "a by lower-priority: sh n1"}


def test_what_others_keep_back_is_free_for_nobody_and_what_a_victim_leaves_is() -> None:
    queues = [queue("default", preemption=LOWER), queue("keeps", quota="4", kept="4")]
    drawn = world(cluster("sh", "8"), jobs=[job("urgent", "4", rank=HIGH)], queues=queues)
    assert ended(beside(drawn, run("a", "4", "sh/n1"))) == {"urgent": "a by lower-priority: sh n1"}
