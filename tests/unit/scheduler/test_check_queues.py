"""Check finds what a corrupted plan does to queues: ceilings, what is kept back, limits of branches, jobs held back in vain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan, Unplaced
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from tests.builders import DrawnQueue, cluster, job, queue, world
from tests.checked import refusal


def all_placed(given: Snapshot) -> Plan:
    """Everybody on the first node, whatever the rules of queues."""
    return Plan(tuple(Placement(row, 0, (0,), 0.0) for row in range(len(given.jobs.ids))), ())


@pytest.mark.parametrize(
    ("queues", "words"),
    [
        ([queue("a", ceiling="3:99"), queue("b")], "queue a would hold 4 of at most 3 cpu"),
        ([queue("a", held="1", ceiling="4:99"), queue("b")], "queue a would hold 5 of at most 4 cpu"),
        ([queue("x", ceiling="5:99"), queue("a", below="x"), queue("b", below="x")], "queue x would hold 6 of at most 5 cpu"),
        ([queue("a"), queue("b"), queue("c", quota="3", kept="3")], "6 cpu go to queues beyond what others keep back"),
        ([queue("a", quota="2", kept="2"), queue("b", quota="3", kept="3"), queue("c", quota="3", kept="3")], "cpu go to queues beyond"),
        ([queue("x", ceiling="7:99"), queue("a", below="x"), queue("b", below="x"), queue("c", below="x", quota="2", kept="2")],
         "queue x fills its ceiling of cpu with what one below it keeps back"),
        ([queue("x", limit=2), queue("a", below="x"), queue("b", below="x")], "queue x would run 3 of at most 2"),
        ([queue("x", limit=3), queue("a", running=1, below="x"), queue("b", below="x")], "queue x would run 4 of at most 3"),
        ([queue("a", ceiling="4"), queue("b", quota="4", kept="4")], ""),
        ([queue("x", ceiling="6", limit=3), queue("a", below="x"), queue("b", below="x")], ""),
        ([queue("x"), queue("c", below="x", quota="2", kept="2"), queue("a"), queue("b")], ""),
    ],
)  # fmt: skip
def test_plans_over_what_queues_may_hold_are_refused(queues: list[DrawnQueue], words: str) -> None:
    jobs = [job("a1", "2", queue="a"), job("a2", "2", queue="a"), job("b1", "2", queue="b")]
    given = world(cluster("sh", "8"), jobs=jobs, queues=queues)
    found = refusal(given, all_placed(given))
    assert words in found
    assert bool(words) == bool(found)


def test_a_job_is_not_held_back_in_vain() -> None:
    given = world(cluster("sh", "8"), jobs=[job("a", "4"), job("b", "1")], queues=[queue("default", ceiling="4")])
    plan = place(given)
    assert refusal(given, plan) == ""
    lazy = replace(plan, placements=(), unplaced=(Unplaced(0, Reason.QUEUE_QUOTA, (Reason.QUEUE_QUOTA,), ()), *plan.unplaced))
    assert refusal(given, lazy) == "a is held back by a quota that it is within; b is held back by a quota that it is within"


def test_in_a_strict_queue_nobody_overtakes() -> None:
    given = world(cluster("sh", "8"), jobs=[job("a", "9"), job("b")], queues=[queue("default", strict=True)])
    plan = place(given)
    overtaking = replace(plan, placements=(Placement(1, 0, (0,), 0.0),), unplaced=plan.unplaced[:1])
    assert "b overtakes a in the strict queue default" in refusal(given, overtaking)
    idle = replace(plan, unplaced=(replace(plan.unplaced[0], clusters=(Reason.QUEUE_ORDER,), blocker=Reason.QUEUE_ORDER), plan.unplaced[1]))
    assert "a waits for the order of queue default though nothing is ahead of it" in refusal(given, idle)


def test_what_is_kept_back_may_hold_others_back() -> None:
    given = world(cluster("sh", "8"), jobs=[job("a", "4")], queues=[queue("default"), queue("other", quota="6", kept="6")])
    waiting = Plan((), (Unplaced(0, Reason.QUEUE_QUOTA, (Reason.QUEUE_QUOTA,), ()),))
    assert refusal(given, waiting) == ""
    lent = world(cluster("sh", "8"), jobs=[job("a", "4")], queues=[queue("default"), queue("other", quota="6", kept="4")])
    assert "held back by a quota" in refusal(lent, waiting)
