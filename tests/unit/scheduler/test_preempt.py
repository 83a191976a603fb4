"""Preemption: who is ended for whom, as pictures of nodes, runs and jobs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.aftermath import carried_out
from scheduler.engine.check import check
from scheduler.engine.evictable import Budget, PreemptionPolicy
from scheduler.engine.place import place
from scheduler.engine.plan import Eviction
from scheduler.engine.position import turn_order
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import cluster, decided, job, queue, world
from tests.running import DrawnRun, beside, claim, ended, run

NEVER, LOWER, RECLAIM = PreemptionPolicy
HIGH, LOW = 100, -100


def inside(*runs: DrawnRun, nodes: str = "4", policy: PreemptionPolicy = LOWER, size: str = "4", workers: int = 1) -> Snapshot:
    """An urgent job in a queue in which others run."""
    urgent = job("urgent", size, rank=HIGH, workers=workers)
    return beside(world(cluster("sh", nodes), jobs=[urgent], queues=[queue("default", preemption=policy)]), *runs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Priority, in one queue.
        (inside(run("a", "4", "sh/n1")), {"urgent": "a by lower-priority: sh n1"}),
        (inside(run("a", "4", "sh/n1"), policy=NEVER), {}),
        (inside(run("a", "4", "sh/n1", rank=HIGH)), {}),
        (inside(run("a", "4", "sh/n1"), policy=RECLAIM), {"urgent": "a by lower-priority: sh n1"}),
        # The lowest priority first, then the least work lost.
        (inside(run("a", "4", "sh/n1"), run("b", "4", "sh/n2", rank=LOW, lost_s=9e9), nodes="4 4"),
         {"urgent": "b by lower-priority: sh n2"}),
        (inside(run("a", "4", "sh/n1", lost_s=50), run("b", "4", "sh/n2", lost_s=40), nodes="4 4"),
         {"urgent": "b by lower-priority: sh n2"}),
        (inside(run("a", "4", "sh/n1", lost_s=50), run("b", "4", "sh/n2", lost_s=40, restarts=1), nodes="4 4"),
         {"urgent": "a by lower-priority: sh n1"}),
        # A gang is ended as a whole, and costs what all of it has done.
        (inside(run("a", "4", "sh/n1", "sh/n2"), nodes="4 4"), {"urgent": "a by lower-priority: sh n1"}),
        (inside(run("a", "4", "sh/n1", "sh/n2", lost_s=10), run("b", "4", "sh/n3", lost_s=30), nodes="4 4 4"),
         {"urgent": "b by lower-priority: sh n3"}),
        # Never more than needed: the cheap one is given back once the dear one is in.
        (inside(run("a", "1", "sh/n1"), run("b", "4", "sh/n1", lost_s=99), nodes="5", size="4"), {"urgent": "b by lower-priority: sh n1"}),
        (inside(run("a", "1", "sh/n1"), run("b", "1", "sh/n1"), run("c", "2", "sh/n1"), size="3"),
         {"urgent": "a by lower-priority, c by lower-priority: sh n1"}),
        # A gang as the one that gains.
        (inside(run("a", "4", "sh/n1"), run("b", "4", "sh/n2"), nodes="4 4", workers=2),
         {"urgent": "a by lower-priority, b by lower-priority: sh n1 n2"}),
        (inside(run("a", "4", "sh/n1"), run("b", "4", "sh/n2", rank=HIGH), nodes="4 4", workers=2), {}),
        # Left alone: what may not be begun again, what was begun again often enough, what is ending.
        (inside(run("a", "4", "sh/n1", fixed=True)), {}),
        (inside(run("a", "4", "sh/n1", restarts=3)), {}),
        (inside(run("a", "4", "sh/n1", ending=True)), {}),
        # What ends anyway suffices, so nobody else is ended.
        (inside(run("a", "4", "sh/n1", ending=True), run("b", "4", "sh/n2"), nodes="4 4"), {}),
        # Nothing to gain: it would not fit on an empty node.
        (inside(run("a", "4", "sh/n1"), size="8"), {}),
    ],
)  # fmt: skip
def test_inside_a_queue(given: Snapshot, expected: dict[str, str]) -> None:
    assert ended(given) == expected


def lent(*runs: DrawnRun, size: str = "4", nodes: str = "8", policy: PreemptionPolicy = RECLAIM, rank: int = LOW) -> Snapshot:
    """A job of a team that has lent its quota of 4 cores."""
    queues = [queue("team", quota="4", preemption=policy), queue("guest"), queue("rich", quota="4")]
    return beside(world(cluster("sh", nodes), jobs=[job("mine", size, queue="team", rank=rank)], queues=queues), *runs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lent(run("a", "4", "sh/n1", queue="guest"), run("b", "4", "sh/n1", queue="guest", rank=HIGH)),
         {"mine": "a by reclaim-quota: sh n1"}),
        (lent(run("a", "8", "sh/n1", queue="guest"), policy=LOWER), {}),
        (lent(run("a", "8", "sh/n1", queue="guest"), policy=NEVER), {}),
        # More than its quota is nothing that it could take back.
        (lent(run("a", "8", "sh/n1", queue="guest"), size="5"), {}),
        (lent(run("a", "4", "sh/n1", queue="guest"), run("own", "4", "sh/n1", queue="team")), {}),
        # Who is within its quota keeps it; who is above it gives back no more than that.
        (lent(run("a", "4", "sh/n1", queue="rich"), nodes="4"), {}),
        (lent(run("a", "4", "sh/n1", queue="rich"), run("b", "4", "sh/n1", queue="rich", lost_s=9)), {"mine": "a by reclaim-quota: sh n1"}),
        (lent(run("a", "2", "sh/n1", queue="rich"), run("b", "3", "sh/n1", queue="rich", lost_s=9), nodes="5"), {}),
        # What is lent first, though the own queue has something of a lower priority.
        (lent(run("own", "1", "sh/n1", queue="team", rank=-500), run("a", "3", "sh/n1", queue="guest"), nodes="4", size="3", rank=0),
         {"mine": "a by reclaim-quota: sh n1"}),
        # Where that does not suffice, both.
        (lent(run("own", "1", "sh/n1", queue="team", rank=-500), run("a", "2", "sh/n1", queue="guest"),
              run("b", "1", "sh/n1", queue="guest", fixed=True), nodes="4", size="3", rank=0),
         {"mine": "own by lower-priority, a by reclaim-quota: sh n1"}),
    ],
)  # fmt: skip
def test_what_was_lent_is_taken_back(given: Snapshot, expected: dict[str, str]) -> None:
    assert ended(given) == expected


def test_quotas_are_compared_between_the_branches_that_part() -> None:
    queues = [
        queue("east", quota="4"), queue("e1", below="east", preemption=RECLAIM), queue("e2", below="east"),
        queue("west"), queue("w1", below="west", quota="4"),
    ]  # fmt: skip
    theirs = run("a", "4", "sh/n1", queue="w1")
    # West has no quota against east, whatever it has promised to those below it.
    assert ended(beside(world(cluster("sh", "4"), jobs=[job("j", "4", queue="e1")], queues=queues), theirs)) == {
        "j": "a by reclaim-quota: sh n1"
    }
    # Inside east nothing is guaranteed, so a sister keeps what it has.
    assert (
        ended(beside(world(cluster("sh", "4"), jobs=[job("j", "4", queue="e1")], queues=queues), run("a", "4", "sh/n1", queue="e2"))) == {}
    )


def test_victims_are_where_the_job_may_go() -> None:
    where = [cluster("bj", "4"), cluster("gz", "4", cordoned=True), cluster("sh", "4@gold 4")]
    picky = job("urgent", "4", rank=HIGH, labels="gold", refused={"bj": Reason.LICENCE_MISSING})
    runs = [run("a", "4", "bj/n1"), run("b", "4", "gz/n1"), run("c", "4", "sh/n1", lost_s=99), run("d", "4", "sh/n2")]
    drawn = beside(world(*where, jobs=[picky], queues=[queue("default", preemption=LOWER)]), *runs)
    assert ended(drawn) == {"urgent": "c by lower-priority: sh n1"}


def test_a_gang_that_must_be_together_gets_room_in_one_group() -> None:
    where = cluster("sh", "4#z.a 4#z.b 4#z.b 4")
    gang = job("urgent", "4", workers=2, rank=HIGH, same="rack")
    runs = [run("a", "4", "sh/n1"), run("b", "4", "sh/n2", lost_s=99), run("c", "4", "sh/n3", lost_s=99), run("d", "4", "sh/n4")]
    drawn = beside(world(where, jobs=[gang], queues=[queue("default", preemption=LOWER)]), *runs)
    assert ended(drawn) == {"urgent": "b by lower-priority, c by lower-priority: sh n2 n3"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # Runs take devices in the order in which they are drawn: a share of the first one, then all of the second.
        (inside(run("a", "1+0.5H200", "sh/n1"), run("b", "1+1H200", "sh/n1", lost_s=99), nodes="8+1,1H200", size="1+1H200"),
         {"urgent": "a by lower-priority: sh n1"}),
        # Half of one and half of another are no whole one, however cheap: all on one device have to end.
        (inside(run("a", "1+0.6H200", "sh/n1"), run("b", "1+0.6H200", "sh/n1", lost_s=5), run("c", "1+0.4H200", "sh/n1", rank=HIGH),
                nodes="8+1,1H200", size="1+1H200"), {"urgent": "b by lower-priority: sh n1"}),
        (inside(run("a", "1+0.5H200", "sh/n1", rank=HIGH), run("b", "1+0.5H200", "sh/n1"), run("c", "1+1H200", "sh/n1", rank=HIGH),
                nodes="8+1,1H200", size="1+1H200"), {}),
    ],
)  # fmt: skip
def test_devices_are_told_apart(given: Snapshot, expected: dict[str, str]) -> None:
    assert ended(given) == expected


def test_a_full_queue_is_helped_as_well() -> None:
    drawn = world(cluster("sh", "8"), jobs=[job("urgent", "1", rank=HIGH)], queues=[queue("default", limit=1, preemption=LOWER)])
    assert ended(beside(drawn, run("a", "1", "sh/n1"))) == {"urgent": "a by lower-priority: sh n1"}
    top = world(cluster("sh", "8"), jobs=[job("urgent", "1", rank=HIGH)], queues=[queue("default", ceiling="1", preemption=LOWER)])
    assert ended(beside(top, run("a", "1", "sh/n1"))) == {"urgent": "a by lower-priority: sh n1"}


def test_the_budget_holds_for_all_jobs_together() -> None:
    jobs = [job(name, "4", rank=HIGH) for name in ("x", "y", "z")]
    drawn = world(cluster("sh", "4 4 4"), jobs=jobs, queues=[queue("default", preemption=LOWER)])
    runs = [run(name, "4", f"sh/n{place}") for place, name in enumerate("abc", start=1)]
    assert list(ended(beside(drawn, *runs, budget=Budget(runs=2)))) == ["x", "y"]
    assert ended(beside(drawn, *runs, budget=Budget(runs=0))) == {}
    assert list(ended(beside(drawn, *runs, budget=Budget(looks=1)))) == ["x"]


def test_whom_a_job_was_ended_for_is_never_ended_for_it() -> None:
    queues = [queue("team", quota="4", preemption=RECLAIM), queue("guest")]
    drawn = world(cluster("sh", "4"), jobs=[job("b", "4", queue="team")], queues=queues)
    held = run("a", "4", "sh/n1", queue="guest")
    assert ended(beside(drawn, held)) == {"b": "a by reclaim-quota: sh n1"}
    assert ended(beside(drawn, held, past=[("a", "b")])) == {}
    assert ended(beside(drawn, held, past=[("a", "c"), ("c", "b")])) == {}
    assert ended(beside(drawn, held, past=[("b", "a")])) == {"b": "a by reclaim-quota: sh n1"}


def claimed(*runs: DrawnRun, nodes: str = "4", others: str = "1") -> Snapshot:
    """`big` has claimed a node of 4 cores, and a small job waits beside it."""
    jobs = [job("big", "4", sequence=9), job("small", others, sequence=1)]
    return beside(world(cluster("sh", nodes), jobs=jobs), *runs, claims=[claim("big", "4", "sh/n1")])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # The victim is ending still: what is free beside it is kept, and what it leaves.
        (claimed(run("a", "3", "sh/n1", ending_for="big")), {"big": "node_busy", "small": "node_busy"}),
        (claimed(run("a", "3", "sh/n1", ending_for="big"), nodes="5"), {"big": "node_busy", "small": "sh n1"}),
        (claimed(run("a", "4", "sh/n1", ending_for="big"), nodes="5", others="1"), {"big": "node_busy", "small": "sh n1"}),
        # It has ended: whose claim it is goes first, though its turn comes later.
        (claimed(), {"big": "sh n1", "small": "node_busy"}),
        (claimed(nodes="5"), {"big": "sh n1", "small": "sh n1"}),
        # There is other room: the claim is not waited for.
        (claimed(run("a", "4", "sh/n1", ending_for="big"), nodes="4 4"), {"big": "node_busy", "small": "sh n2"}),
        (claimed(run("a", "4", "sh/n1", ending_for="big"), nodes="4 4 4"), {"big": "sh n3", "small": "sh n2"}),
    ],
)  # fmt: skip
def test_what_is_claimed_is_kept(given: Snapshot, expected: dict[str, str]) -> None:
    assert decided(given) == expected


def test_in_a_strict_queue_a_claim_is_no_way_past_those_ahead() -> None:
    jobs = [job("big", "4", sequence=9), job("first", "8", sequence=1)]
    drawn = world(cluster("sh", "4"), cluster("gz", "8!"), jobs=jobs, queues=[queue("default", strict=True)])
    assert decided(beside(drawn, claims=[claim("big", "4", "sh/n1")]))["big"] == "queue_order"


def test_a_claim_of_a_job_that_is_not_looked_at_is_kept_too() -> None:
    drawn = world(cluster("sh", "4"), jobs=[job("small", "1")])
    assert decided(beside(drawn, claims=[claim("elsewhere", "4", "sh/n1")])) == {"small": "node_busy"}


def test_who_has_a_claim_gets_no_second_one() -> None:
    drawn = world(cluster("sh", "4 4"), jobs=[job("urgent", "4", rank=HIGH)], queues=[queue("default", preemption=LOWER)])
    runs = [run("a", "4", "sh/n1", ending_for="urgent"), run("b", "4", "sh/n2")]
    assert ended(beside(drawn, *runs, claims=[claim("urgent", "4", "sh/n1")])) == {}


def test_whoever_is_helped_first_counts_for_the_quota() -> None:
    queues = [queue("team", quota="4", preemption=RECLAIM), queue("guest")]
    drawn = world(cluster("sh", "8"), jobs=[job(f"j{number}", "2", queue="team") for number in range(4)], queues=queues)
    runs = [run(f"a{number}", "1", "sh/n1", queue="guest") for number in range(8)]
    assert list(ended(beside(drawn, *runs))) == ["j0", "j1"]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        # Of the node's 4 cores the victim holds 2, and 1 of the 2 that are free is for whom it is ended.
        (inside(run("a", "2", "sh/n1"), size="3"), {"sh": 1.0}),
        (beside(world(cluster("sh", "4"), jobs=[job("other", "4")]), run("v", "1", "sh/n1", ending_for="x"),
                claims=[claim("x", "3", "sh/n1")]), {"sh": 1.0}),
        # Who has taken what was claimed holds it, and it is counted once.
        (beside(world(cluster("sh", "4"), jobs=[job("x", "3")]), claims=[claim("x", "3", "sh/n1")]), {"sh": 1.0}),
    ],
)  # fmt: skip
def test_questions_after_a_decision_find_nothing_of_what_is_kept_and_end_nobody(given: Snapshot, left: dict[str, float]) -> None:
    after = carried_out(given, place(given))
    assert {"sh": float(after.nodes.free[0, 0])} == left
    again = place(after)
    assert (again.placements, again.evictions) == ((), ())
    assert turn_order(after, 9).tolist() == list(range(len(after.jobs.ids)))


def test_without_a_policy_nothing_is_looked_for() -> None:
    drawn = beside(world(cluster("sh", "4"), jobs=[job("urgent", "4", rank=HIGH)]), run("a", "4", "sh/n1"))
    assert place(drawn).evictions == ()


def test_a_node_that_shrank_under_a_run_is_not_waited_for() -> None:
    given = inside(run("e", "8", "sh/n1", ending=True), run("v", "8", "sh/n2"), nodes="6 8", size="7")
    given = replace(given, nodes=replace(given.nodes, free=np.maximum(given.nodes.free, 0.0)))
    assert ended(given) == {"urgent": "v by lower-priority: sh n2"}


def test_nobody_is_ended_for_a_job_that_waits_behind_another_in_a_strict_queue() -> None:
    full = queue("default", strict=True, limit=1, preemption=LOWER)
    jobs = [job("large", "9", rank=HIGH), job("small", "1", rank=50)]
    given = beside(world(cluster("sh", "4"), jobs=jobs, queues=[full]), run("a", "1", "sh/n1"))
    assert ended(given) == {}
    plan = place(given)
    eager = replace(plan, evictions=(Eviction(1, 0, (0,), (0,), ("lower-priority",)),))
    with pytest.raises(PlanRejectedError, match="small waits behind large in its strict queue, and others are ended for it"):
        check(given, eager)
