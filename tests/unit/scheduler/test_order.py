"""Order: rows by name, and whose turn it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.order import Turns, by_name, without_limits
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Running, Snapshot
from tests.builders import DrawnCluster, DrawnJob, DrawnQueue, cluster, job, queue, world
from tests.reordering import reordered


def turns(snapshot: Snapshot, *, refuse: str = "") -> str:
    """The jobs in the order of their turns, each granted but the ones named in `refuse`."""
    named, found = by_name(snapshot).snapshot, []
    order = Turns(named)
    while (row := order.next()) is not None:
        found.append(named.jobs.ids[row])
        if named.jobs.ids[row] not in refuse.split():
            order.grant(row)
    return " ".join(found)


def test_rows_are_sorted_by_name_and_lead_back() -> None:
    given = world(
        cluster("sh", "1 2"), cluster("gz", "3 4"),
        queues=[queue("z", 2.0), queue("a", 3.0)],
        jobs=[job("j", queue="z", refused={"sh": Reason.JOB_CLUSTER}, cost={"gz": 7.0}, transfer_s={"gz": 9.0})],
    )  # fmt: skip
    named = by_name(reordered(given, clusters=[0, 1], nodes=[2, 1, 3, 0], queues=[0, 1], jobs=[0]))
    found = named.snapshot
    assert found.clusters.names == ("gz", "sh")
    assert found.nodes.names == ("n1", "n2", "n1", "n2")
    assert found.nodes.cluster.tolist() == [0, 0, 1, 1]
    assert found.nodes.total[:, 0].tolist() == [3, 4, 1, 2]
    assert (found.queues.names, found.queues.weight.tolist(), found.jobs.queue.tolist()) == (("a", "z"), [3.0, 2.0], [1])
    assert found.jobs.policy.tolist() == [[Reason.FITS, Reason.JOB_CLUSTER]]
    assert (found.jobs.cost.tolist(), found.jobs.transfer_s.tolist()) == ([[7.0, 1.0]], [[9.0, 0.0]])
    assert (named.clusters.tolist(), named.nodes.tolist()) == ([1, 0], [0, 2, 3, 1])


def test_the_given_snapshot_stays_as_it_is() -> None:
    given = world(cluster("sh", "1 2"), cluster("gz", "3"), jobs=[job("j")])
    by_name(given).snapshot.nodes.free[:] = 0.0
    assert given.clusters.names == ("sh", "gz")
    assert given.nodes.free[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([job("a"), job("b"), job("c")], "a b c"),
        ([job("a", rank=-100), job("b", rank=100), job("c")], "b c a"),
        ([job("a", sequence=9), job("b", sequence=3), job("c", sequence=5, rank=1)], "c b a"),
        ([job("b", sequence=1), job("a", sequence=1)], "a b"),
        ([], ""),
    ],
    ids=["as they came", "by priority", "by age within a priority", "by id when equal", "no jobs"],
)
def test_the_order_in_a_queue(jobs: list[DrawnJob], expected: str) -> None:
    assert turns(world(cluster("sh"), jobs=jobs)) == expected


A = [job(f"a{number}", queue="a") for number in range(1, 5)]
B = [job(f"b{number}", queue="b") for number in range(1, 5)]


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ([queue("a"), queue("b")], "a1 b1 a2 b2 a3 b3 a4 b4"),
        ([queue("a"), queue("b", 3.0)], "a1 b1 b2 b3 a2 b4 a3 a4"),
        ([queue("a", held="2"), queue("b")], "b1 b2 a1 b3 a2 b4 a3 a4"),
        ([queue("a", 0.0), queue("b")], "b1 b2 b3 b4 a1 a2 a3 a4"),
        ([queue("a", 0.0, held="1"), queue("b", 0.0)], "b1 a1 b2 a2 b3 a3 b4 a4"),
    ],
    ids=["in turn", "by weight", "less for who holds more", "leftovers without weight", "fair without weight too"],
)
def test_queues_take_turns(queues: list[DrawnQueue], expected: str) -> None:
    assert turns(world(cluster("sh", "16"), jobs=[*A, *B], queues=queues)) == expected


def test_the_share_counts_the_scarcest_resource() -> None:
    devices = [job(f"a{number}", "1+1H200", queue="a") for number in range(1, 4)]
    cores = [job(f"b{number}", "4", queue="b") for number in range(1, 5)]
    # One device is a quarter of all, four cores are an eighth.
    assert turns(world(cluster("sh", "32+4H200"), jobs=[*devices, *cores])) == "a1 b1 b2 a2 b3 b4 a3"


def test_a_gang_counts_with_all_its_workers() -> None:
    jobs = [job("a1", workers=3, queue="a"), job("a2", queue="a"), *B]
    assert turns(world(cluster("sh", "16"), jobs=jobs)) == "a1 b1 b2 b3 a2 b4"


@pytest.mark.parametrize("member", [cluster("gz", "16+4H200", healthy=False), cluster("gz", "16")])
def test_what_no_healthy_cluster_has_counts_for_nothing(member: DrawnCluster) -> None:
    queues = [queue("a", held="0+4H200"), queue("b", held="1")]
    assert turns(world(cluster("sh", "16"), member, jobs=[*A, *B], queues=queues)).startswith("a1 a2 b1")


def test_a_job_without_room_costs_its_queue_nothing() -> None:
    assert turns(world(cluster("sh", "16"), jobs=[*A, *B]), refuse="a1 a2 a3") == "a1 a2 a3 a4 b1 b2 b3 b4"


@pytest.mark.parametrize(
    ("limited", "expected", "held_back"),
    [
        (queue("a", limit=2), "a1 a2", {"a3", "a4"}),
        (queue("a", running=3, limit=4), "a1", {"a2", "a3", "a4"}),
        (queue("a", running=4, limit=4), "", {"a1", "a2", "a3", "a4"}),
        (queue("a", running=9, limit=4), "", {"a1", "a2", "a3", "a4"}),
        (queue("a", limit=4), "a1 a2 a3 a4", set()),
        (queue("a"), "a1 a2 a3 a4", set()),
    ],
)
def test_a_queues_limit_holds_the_rest_back(limited: DrawnQueue, expected: str, held_back: set[str]) -> None:
    given = world(cluster("sh", "16"), jobs=A, queues=[limited])
    assert turns(given) == expected
    order = Turns(given)
    while (row := order.next()) is not None:
        order.grant(row)
    assert {given.jobs.ids[row] for row in order.held_back()} == held_back


def test_only_grants_count_towards_the_limit() -> None:
    assert turns(world(cluster("sh", "16"), jobs=A, queues=[queue("a", limit=1)]), refuse="a1 a2") == "a1 a2 a3"


def test_devices_that_runs_hold_go_with_their_nodes() -> None:
    given = world(cluster("sh", "8+1,1H200"), cluster("gz", "8 8+1,1H200"))
    running = Running(
        ("r",), np.ones((1, 3)), np.ones(1), np.zeros(2, dtype=np.int64), np.array([0, 2]), np.array([[0, 0, 0, 1], [0, 2, 0, 0]])
    )
    found = by_name(replace(given, running=running)).snapshot.running
    assert found is not None
    assert found.node.tolist() == [2, 1]
    assert found.device.tolist() == [[0, 2, 0, 1], [0, 1, 0, 0]]
    assert running.device[:, 1].tolist() == [0, 2]


def test_when_all_had_their_turn_nobody_has_another() -> None:
    order = Turns(world(cluster("sh", "16"), jobs=[A[0], B[0]]))
    assert [order.next() for _ in range(4)] == [0, 1, None, None]


@pytest.mark.parametrize(("ceiling", "expected"), [("", [4, 2]), ("99", [4, 2]), ("3", [3, 2]), ("2", [2, 2])])
def test_an_elastic_job_has_no_more_workers_than_it_wants_and_its_queue_may_hold(ceiling: str, expected: list[int]) -> None:
    jobs = [job("elastic", workers=(2, 4), queue="q"), job("fixed", workers=2, queue="q")]
    order = Turns(world(cluster("sh", "16"), jobs=jobs, queues=[queue("q", ceiling=ceiling)]))
    assert [order.most(row, row) for row in (0, 1)] == expected


def test_who_waits_after_a_plan_comes_by_what_queues_hold_then() -> None:
    wide = [job(name, "2", workers=2, queue="a") for name in ("a1", "a2")]
    given = world(cluster("sh", "4"), jobs=[*wide, *B[:3]], queues=[queue("a", limit=1), queue("b")])
    plan = place(given)
    assert [item.job for item in plan.placements] == [0]
    # Beside four cores of `a`, three jobs of `b` come first; were nothing held, `a` would.
    assert without_limits(given, [1, 2, 3, 4], plan.placements) == [2, 3, 4, 1]
    # Each that had a turn counts for the next one.
    assert without_limits(given, [1, 2, 3, 4], ()) == [1, 2, 3, 4]
    narrow = world(cluster("sh", "16"), jobs=[*A[:2], *B[:2]])
    assert without_limits(narrow, [0, 1, 2, 3], ()) == [0, 2, 1, 3]
