"""Position: the order of turns, and why one job goes before another."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.position import Before, precedent, turn_order
from scheduler.engine.snapshot import Snapshot, Weights
from tests.builders import cluster, job, queue, world

SMALL = cluster("sh", "8 8")
A_AND_B = [job("a1", queue="a"), job("b1", queue="b")]


def order(given: Snapshot, most: int = 100) -> str:
    """Ids in the order of their turns."""
    return " ".join(given.jobs.ids[row] for row in turn_order(given, most).tolist())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (world(SMALL, jobs=[job("a"), job("b"), job("c", rank=100)]), "c a b"),
        (world(SMALL, jobs=[job("a", "9"), job("b", "1")]), "a b"),
        (world(SMALL, jobs=[job("a1", "4", queue="a"), job("a2", "4", queue="a"), job("b1", "1", queue="b")]), "a1 b1 a2"),
        (world(SMALL, jobs=A_AND_B, queues=[queue("a", held="4"), queue("b")]), "b1 a1"),
        (world(SMALL, jobs=A_AND_B, queues=[queue("a", 1.5, held="4"), queue("b", held="2")]), "b1 a1"),
        (world(SMALL, jobs=A_AND_B, queues=[queue("a", 4, held="4"), queue("b", held="2")]), "a1 b1"),
        (world(SMALL, jobs=[job("a1"), job("a2"), job("a3")], queues=[queue("default", running=1, limit=1)]), "a1 a2 a3"),
        (world(SMALL, jobs=[job("a1", "2"), job("a2", "2")], queues=[queue("default", held="4", ceiling="4")]), "a1 a2"),
        (world(jobs=[job("a"), job("b")]), "a b"),
        (world(SMALL), ""),
    ],
    ids=[
        "priority, then age", "room is no matter", "shares grow with each turn", "who holds less", "weight counts", "weight counts more",
        "limits are no matter", "ceilings are no matter", "no cluster", "nobody",
    ],
)  # fmt: skip
def test_the_order_of_turns(given: Snapshot, expected: str) -> None:
    assert order(given) == expected


def test_no_more_turns_than_asked_for() -> None:
    jobs = [job(f"a{place}", queue="a") for place in range(4)] + [job(f"b{place}", queue="b") for place in range(4)]
    given = world(SMALL, jobs=jobs)
    assert order(given, 3) == "a0 b0 a1"
    assert order(given, 3) == " ".join(order(given).split()[:3])


def why(given: Snapshot, name: str, other: str) -> tuple[Before, str, str]:
    """Why `other` goes before, with the queues that compete."""
    ids, names = given.jobs.ids, (*given.queues.names, "")
    found = precedent(given, ids.index(name), ids.index(other))
    assert found.job == ids.index(other)
    return found.why, names[found.queue], names[found.own]


def test_why_a_job_goes_before_another() -> None:
    jobs = [
        job("old"),
        job("young"),
        job("urgent", rank=100),
        job("kept", queue="lab"),
        job("poor", queue="team"),
        job("heir", queue="org"),
    ]
    queues = [
        queue("default", held="4"), queue("lab", held="6", quota="8"), queue("org"), queue("team", below="org"),
    ]  # fmt: skip
    given = world(SMALL, jobs=jobs, queues=queues)
    assert why(given, "young", "old") == (Before.AGE, "", "")
    assert why(given, "old", "urgent") == (Before.PRIORITY, "", "")
    assert why(given, "old", "kept") == (Before.QUOTA, "lab", "default")
    assert why(given, "old", "poor") == (Before.SHARE, "org", "default")
    assert why(given, "poor", "heir") == (Before.HEIR, "", "")


def test_shares_are_weighted_and_past_use_counts() -> None:
    queues = [queue("a", 2.0, held="8"), queue("b", held="2", used="4")]
    given = world(SMALL, jobs=A_AND_B, queues=queues, weights=Weights(history=0.5))
    found = precedent(given, 1, 0)
    assert (found.why, found.queue_share, found.own_share) == (Before.SHARE, 0.25, 0.25)


def test_shares_are_told_of_theirs_and_ours() -> None:
    queues = [queue("a", held="2"), queue("b", 0.5, held="2")]
    found = precedent(world(SMALL, jobs=A_AND_B, queues=queues), 1, 0)
    assert (found.queue_share, found.own_share) == (0.125, 0.25)
    without_weight = precedent(world(SMALL, jobs=A_AND_B, queues=[queue("a"), queue("b", 0.0)]), 1, 0)
    assert (without_weight.queue_share, without_weight.own_share) == (0.0, np.inf)


def test_equal_shares_of_different_resources_are_equal() -> None:
    queues = [queue("a", held="4"), queue("b", held="0+1H200")]
    assert order(world(cluster("sh", "8 8+4H200"), jobs=A_AND_B, queues=queues)) == "a1 b1"
