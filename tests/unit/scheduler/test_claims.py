"""Claims that come true: in which order, within what queues may hold, and without one that cannot standing in others' way."""

from __future__ import annotations

import pytest

from scheduler.engine.snapshot import Snapshot
from tests.builders import cluster, decided, job, queue, world
from tests.running import DrawnClaim, beside, claim, run


def two_claims(first: DrawnClaim, nodes: str = "4 4") -> Snapshot:
    """`second` has claimed the second node, and `other` has a turn before its."""
    jobs = [job("first", "4"), job("other", "4", rank=100), job("second", "4")]
    drawn = world(cluster("sh", nodes), jobs=jobs)
    return beside(drawn, run("busy", "4", "sh/n1"), claims=[first, claim("second", "4", "sh/n2")])


@pytest.mark.parametrize(
    ("first", "nodes"),
    [
        (claim("absent", "4", "sh/n1"), "4 4"),
        (claim("first", "4", "sh/n1"), "4! 4"),
        (claim("first", "4", "sh/n1"), "4 4"),
    ],
    ids=["a job that is not looked at", "a node that is not ready", "room that is not free yet"],
)
def test_a_claim_that_does_not_come_true_stands_in_no_others_way(first: DrawnClaim, nodes: str) -> None:
    assert decided(two_claims(first, nodes))["second"] == "sh n2"


@pytest.mark.parametrize(("ceiling", "expected"), [("3", "queue_quota"), ("4", "sh n1 n1")])
def test_a_gangs_claim_comes_true_if_its_queue_may_hold_all_workers(ceiling: str, expected: str) -> None:
    drawn = world(cluster("sh", "4"), jobs=[job("gang", "2", workers=2)], queues=[queue("default", ceiling=ceiling)])
    assert decided(beside(drawn, claims=[claim("gang", "2", "sh/n1", "sh/n1")])) == {"gang": expected}


def test_claims_that_come_true_count_for_the_next_one() -> None:
    drawn = world(cluster("sh", "4 4"), jobs=[job("a", "2"), job("b", "2")], queues=[queue("default", ceiling="3")])
    found = decided(beside(drawn, claims=[claim("a", "2", "sh/n1"), claim("b", "2", "sh/n2")]))
    assert found == {"a": "sh n1", "b": "queue_quota"}


def test_in_a_strict_queue_who_is_seated_stands_before_nobody() -> None:
    drawn = world(cluster("sh", "4 4"), jobs=[job("a", "4"), job("b", "4")], queues=[queue("default", strict=True)])
    found = decided(beside(drawn, claims=[claim("a", "4", "sh/n1"), claim("b", "4", "sh/n2")]))
    assert found == {"a": "sh n1", "b": "sh n2"}


def test_who_takes_what_it_claimed_leaves_less_beside_what_others_keep_back() -> None:
    jobs = [job("big", "4"), job("small", "1")]
    drawn = world(cluster("sh", "8"), jobs=jobs, queues=[queue("default"), queue("other", quota="4", kept="4")])
    assert decided(beside(drawn, claims=[claim("big", "4", "sh/n1")])) == {"big": "sh n1", "small": "queue_quota"}
