"""Whose turn it is to be helped: nobody takes what an earlier one waits for, and queues at their limits take turns by their shares."""

from __future__ import annotations

import pytest

from scheduler.engine.evictable import Budget, PreemptionPolicy
from scheduler.engine.snapshot import Snapshot
from tests.builders import cluster, job, queue, world
from tests.running import DrawnRun, beside, ended, run

LOWER = PreemptionPolicy.LOWER_PRIORITY


def ending(nodes: str, *runs: DrawnRun, first: str = "4", workers: int = 1) -> Snapshot:
    """On the first node a run of 4 cores ends; `first` waits for that, and behind it `big` needs 8 cores."""
    waiting = [job("first", first, rank=200, workers=workers), job("big", "8", rank=100)]
    drawn = world(cluster("sh", nodes), jobs=waiting, queues=[queue("default", preemption=LOWER)])
    return beside(drawn, run("gone", "4", "sh/n1", ending=True), *runs)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(ending("8", run("b", "4", "sh/n1")), {}, id="it would take the room that the first waits for"),
        pytest.param(ending("8 8", run("b", "4", "sh/n1"), run("c", "8", "sh/n2", lost_s=99)), {"big": "c by lower-priority: sh n2"},
                     id="elsewhere it is helped, at a higher cost"),
        pytest.param(ending("12", run("b", "4", "sh/n1"), run("c", "4", "sh/n1", lost_s=99)), {},
                     id="nor are more ended than it would need if the first were not there"),
        pytest.param(ending("8", run("b", "4", "sh/n1"), first="2", workers=2), {}, id="a gang waits too"),
        pytest.param(ending("8", run("b", "4", "sh/n1"), first="9"), {"big": "b by lower-priority: sh n1"}, id="who never fits"),
    ],
)  # fmt: skip
def test_nobody_takes_what_an_earlier_one_waits_for(given: Snapshot, expected: dict[str, str]) -> None:
    assert ended(given) == expected


def full_queues(held: str, other: str, weight: float = 1.0) -> Snapshot:
    """Two queues run all that they may, and one run may be ended. The job of queue `a` has the higher priority."""
    queues = [queue("a", limit=1, preemption=LOWER), queue("b", weight, limit=1, preemption=LOWER)]
    waiting = [job("of-a", "1", queue="a", rank=100), job("of-b", "1", queue="b", rank=50)]
    runs = [run("in-a", held, "sh/n1", queue="a"), run("in-b", other, "sh/n2", queue="b")]
    return beside(world(cluster("sh", "16 16"), jobs=waiting, queues=queues), *runs, budget=Budget(runs=1))


@pytest.mark.parametrize(
    ("given", "helped"),
    [
        pytest.param(full_queues("8", "2"), "of-b", id="the smaller share first, whatever the priorities"),
        pytest.param(full_queues("2", "8"), "of-a", id="the other way round"),
        pytest.param(full_queues("4", "8", weight=4.0), "of-b", id="shares are by weight"),
        pytest.param(full_queues("4", "4"), "of-a", id="equal ones by name"),
    ],
)
def test_jobs_of_full_queues_are_helped_by_the_shares_of_their_queues(given: Snapshot, helped: str) -> None:
    assert list(ended(given)) == [helped]


def test_inside_a_full_queue_priority_decides_and_then_age() -> None:
    jobs = [job("old", "1", rank=50), job("high", "1", rank=100, sequence=9), job("young", "1", rank=50, sequence=5)]
    drawn = world(cluster("sh", "16"), jobs=jobs, queues=[queue("default", limit=2, preemption=LOWER)])
    given = beside(drawn, run("x", "1", "sh/n1"), run("y", "1", "sh/n1"))
    assert list(ended(given)) == ["high", "old"]
