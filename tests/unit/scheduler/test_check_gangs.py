"""Check finds gangs that are apart, smaller than they need be, or crowded, and counts on no room that is not there."""

from __future__ import annotations

import pytest

from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from tests import checked
from tests.builders import DrawnCluster, DrawnJob, cluster, decided, job, queue, world
from tests.timed import timed


def refusal(given: Snapshot, *placements: Placement) -> str:
    """Why a plan of these placements is not accepted; nothing for one that is."""
    return checked.refusal(given, Plan(placements, ()))


@pytest.mark.parametrize("same", ["zone", "rack"])
def test_workers_that_must_be_together_are(same: str) -> None:
    given = world(cluster("sh", "4#a.1 4#a.1 4#b.1 4"), jobs=[job("a", "4", workers=2, same=same)])
    assert refusal(given, Placement(0, 0, (0, 1), 0.0)) == ""
    assert refusal(given, Placement(0, 0, (0, 2), 0.0)) == "a: its workers are in 2 groups that must be in one"
    assert "a worker is on a node that belongs to no group" in refusal(given, Placement(0, 0, (0, 3), 0.0))


@pytest.mark.parametrize(
    ("nodes", "size"),
    [
        pytest.param("2 2 8+1H200!", "1", id="on a node without the accelerators that others have"),
        pytest.param("2+1H200 2+1H200", "1+1H200", id="on a node of one accelerator"),
        pytest.param("1:99 1:99", "1:1", id="on another node"),
    ],
)
def test_a_gang_is_as_large_as_there_is_room_for(nodes: str, size: str) -> None:
    given = world(cluster("sh", nodes), jobs=[job("a", size, workers=(1, 4))])
    assert "a has 1 workers though there is room for more" in refusal(given, Placement(0, 0, (0,), 0.0))


def test_who_asks_for_nothing_may_have_fewer_workers_than_wanted() -> None:
    assert refusal(world(cluster("sh", "2"), jobs=[job("a", "0", workers=(1, 4))]), Placement(0, 0, (0, 0), 0.0)) == ""


@pytest.mark.parametrize(
    ("members", "asked", "expected"),
    [
        ([cluster("sh", "2 9!")], job("a", workers=(1, 4)), "sh n1 n1"),
        ([cluster("sh", "2@gold 9")], job("a", workers=(1, 4), labels="gold"), "sh n1 n1"),
        ([cluster("sh", "2"), cluster("gz", "9")], job("a", workers=(1, 4), refused={"gz": Reason.LICENCE_MISSING}), "sh n1 n1"),
        ([cluster("sh", "2"), cluster("gz", "9", healthy=False)], job("a", workers=(1, 4)), "sh n1 n1"),
        ([cluster("sh", "2"), cluster("gz", "9", cordoned=True)], job("a", workers=(1, 4)), "sh n1 n1"),
    ],
    ids=["not ready", "without the labels", "refused", "unhealthy", "cordoned"],
)
def test_room_that_is_not_for_it_makes_no_gang_too_small(members: list[DrawnCluster], asked: DrawnJob, expected: str) -> None:
    assert decided(world(*members, jobs=[asked])) == {"a": expected}


def test_queues_that_spread_are_found_crowded_beside_others_that_do_not() -> None:
    jobs = [job("a", workers=2, queue="q"), job("p", workers=2, queue="packed")]
    given = world(cluster("sh", "4 4"), jobs=jobs, queues=[queue("packed"), queue("q", spread=True)])
    assert refusal(given, Placement(0, 0, (0, 1), 0.0), Placement(1, 0, (0, 0), 0.0)) == ""
    crowded = refusal(given, Placement(0, 0, (0, 0), 0.0), Placement(1, 0, (0, 0), 0.0))
    assert crowded == "a is on fewer or fuller nodes than its queue asks for"


@pytest.mark.parametrize("asked", [job("a", "1", workers=2, queue="q"), job("a", "1", workers=(1, 20), queue="q")])
def test_room_that_is_promised_to_others_is_not_counted_on(asked: DrawnJob) -> None:
    drawn = world(cluster("sh", "0/8 8 6"), jobs=[job("head", "8", workers=2), asked], queues=[queue("q", spread=True)])
    found = decided(timed(drawn, {"head": 10.0}, running=[("sh n1", "8", 100.0)], heads=1))
    assert found["head"] == "gang_does_not_fit"
    assert set(found["a"].split()) == {"sh", "n3"}
