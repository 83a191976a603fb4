"""The tree of queues: quotas before shares, ceilings, what is kept back, limits of a whole branch, past use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scheduler.engine.order import Turns, by_name
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Queues, Snapshot, Weights
from scheduler.engine.tree import upward
from tests.builders import DrawnQueue, cluster, decided, job, queue, world


def wanting(**counts: int) -> list[Any]:
    """So many jobs of one core in each queue: a1, a2, … in queue a."""
    return [job(f"{name}{number}", queue=name) for name, count in counts.items() for number in range(1, count + 1)]


def turns(snapshot: Snapshot) -> str:
    """The jobs in the order of their turns, each granted."""
    named, found = by_name(snapshot).snapshot, []
    order = Turns(named)
    while (row := order.next()) is not None:
        found.append(named.jobs.ids[row])
        order.grant(row)
    return " ".join(found)


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ([queue("x"), queue("y"), queue("a", below="x"), queue("b", below="x"), queue("c", below="y")], "a1 c1 b1 c2 a2 c3 b2 c4"),
        ([queue("x", 3.0), queue("y"), queue("a", below="x"), queue("b", below="x"), queue("c", below="y")], "a1 c1 b1 a2 b2 c2 a3 b3"),
        ([queue("x"), queue("a", 3.0, below="x"), queue("b", below="x"), queue("c", below="x")], "a1 b1 c1 a2 a3 a4 b2 c2"),
        ([queue("x"), queue("a", below="x"), queue("b", below="a"), queue("c")], "c1 a1 c2 a2 c3 a3 c4 a4"),
        ([queue("x", 0.0), queue("a", below="x"), queue("b", below="x"), queue("c")], "c1 c2 c3 c4 a1 b1 a2 b2"),
        ([queue("a", quota="2"), queue("b"), queue("c")], "a1 a2 b1 c1 b2 c2 a3 b3"),
        ([queue("a"), queue("b", held="1", quota="2"), queue("c", quota="1")], "c1 b1 a1 a2 c2 a3 b2 c3"),
        ([queue("a", quota="2"), queue("b", quota="0:8"), queue("c")], "a1 b1 a2 b2 c1 c2 a3 b3"),
        ([queue("x", quota="2"), queue("a", below="x"), queue("b", below="x"), queue("c")], "a1 b1 c1 c2 c3 a2 c4 b2"),
        ([queue("x"), queue("a", below="x"), queue("b", below="x", quota="2"), queue("c")], "c1 b1 c2 b2 c3 a1 c4 a2"),
    ],
    ids=[
        "a branch counts once", "by the weight of branches", "by weight in a branch", "what waits in an inner queue first",
        "a branch without weight", "quota first", "what is held counts towards it", "any guaranteed resource", "the quota of a branch",
        "a quota counts among sisters",
    ],
)  # fmt: skip
def test_turns_go_down_the_tree(queues: list[DrawnQueue], expected: str) -> None:
    assert " ".join(turns(world(cluster("sh", "32"), jobs=wanting(a=4, b=4, c=4), queues=queues)).split()[:8]) == expected


def test_a_scarce_resource_of_one_child_does_not_starve_its_sister() -> None:
    # The branch x holds all devices through a; b and c both want cores only, so b and c take turns.
    queues = [queue("x"), queue("a", below="x", held="0+4H200"), queue("b", below="x"), queue("c")]
    given = world(cluster("sh", "16+0/4H200"), jobs=[*wanting(b=3, c=3), job("a1", "1+1H200", queue="a")], queues=queues)
    assert turns(given) == "c1 b1 c2 b2 c3 b3 a1"


@pytest.mark.parametrize(
    ("queues", "placed"),
    [
        ([queue("a", ceiling="2"), queue("b"), queue("c")], "a1 a2 b1 b2 b3 c1 c2 c3"),
        ([queue("a", ceiling="3", held="2"), queue("b", ceiling="1"), queue("c")], "a1 b1 c1 c2 c3 c4"),
        ([queue("x", ceiling="3"), queue("a", below="x"), queue("b", below="x"), queue("c")], "a1 a2 b1 c1 c2 c3 c4"),
        ([queue("x", ceiling="3"), queue("a", below="x", held="2"), queue("b", below="x"), queue("c")], "b1 c1 c2 c3 c4"),
        ([queue("x", ceiling="3"), queue("a", below="x", quota="2", kept="2"), queue("b", below="x"), queue("c", 9.0)],
         "a1 a2 b1 c1 c2 c3 c4"),
        ([queue("a"), queue("b"), queue("c"), queue("d", quota="4", kept="4")], "a1 a2 b1 c1"),
        ([queue("a"), queue("b"), queue("c"), queue("d", quota="4", kept="1")], "a1 a2 a3 b1 b2 c1 c2"),
        ([queue("a"), queue("b"), queue("c"), queue("d", quota="4", kept="4", held="3")], "a1 a2 a3 b1 b2 c1 c2"),
        ([queue("a", quota="4", kept="4"), queue("b"), queue("c")], "a1 a2 a3 a4 b1 b2 c1 c2"),
        ([queue("a"), queue("b"), queue("c"), queue("d", quota="9", kept="9")], ""),
        ([queue("x", limit=3), queue("a", below="x"), queue("b", below="x"), queue("c")], "a1 a2 b1 c1 c2 c3 c4"),
        ([queue("x", limit=3), queue("a", below="x", running=2), queue("b", below="x", limit=0), queue("c")], "a1 c1 c2 c3 c4"),
    ],
    ids=[
        "a ceiling", "what is held counts", "of a branch", "what a sister holds counts", "and what she keeps", "kept for nobody else",
        "the rest is lent", "no more is kept than is unused", "who keeps it takes it", "kept beyond what is there", "a branch's limit",
        "and its running jobs",
    ],
)  # fmt: skip
def test_what_queues_may_hold(queues: list[DrawnQueue], placed: str) -> None:
    given = world(cluster("sh", "8"), jobs=wanting(a=4, b=4, c=4), queues=queues)
    assert " ".join(sorted(name for name, where in decided(given).items() if where == "sh n1")) == placed


def test_kept_back_below_a_ceiling_is_not_lent_to_sisters() -> None:
    queues = [queue("x", ceiling="3"), queue("a", below="x", quota="2", kept="2"), queue("b", below="x")]
    assert decided(world(cluster("sh", "8"), jobs=wanting(b=3), queues=queues)) == {"b1": "sh n1", "b2": "queue_quota", "b3": "queue_quota"}


def test_a_smaller_job_passes_one_that_goes_over_the_ceiling() -> None:
    given = world(cluster("sh", "8"), jobs=[job("a", "3"), job("b", "2"), job("c", "2")], queues=[queue("default", ceiling="4")])
    assert decided(given) == {"a": "sh n1", "b": "queue_quota", "c": "queue_quota"}
    given = world(cluster("sh", "8"), jobs=[job("a", "5"), job("b", "2"), job("c", "2")], queues=[queue("default", ceiling="4")])
    assert decided(given) == {"a": "queue_quota", "b": "sh n1", "c": "sh n1"}


def test_a_gang_counts_whole_towards_the_ceiling() -> None:
    given = world(cluster("sh", "8"), jobs=[job("gang", "1", workers=5), job("b")], queues=[queue("default", ceiling="4")])
    assert decided(given) == {"gang": "queue_quota", "b": "sh n1"}


def test_why_a_queue_holds_back_is_told_for_each_permitted_cluster() -> None:
    jobs = [job("a", "8", refused={"sh": Reason.JOB_CLUSTER})]
    [waiting] = place(world(cluster("gz", "1"), cluster("sh"), jobs=jobs, queues=[queue("default", ceiling="4")])).unplaced
    assert waiting.clusters == (Reason.QUEUE_QUOTA, Reason.JOB_CLUSTER)
    assert (waiting.blocker, waiting.nodes) == (Reason.QUEUE_QUOTA, ())


def test_a_ceiling_on_one_resource_leaves_the_others_free() -> None:
    jobs = [job("a", "1+1H200"), job("b", "1+1H200"), job("c", "6")]
    given = world(cluster("sh", "8+2H200"), jobs=jobs, queues=[queue("default", ceiling="99:999+1H200")])
    assert decided(given) == {"a": "sh n1", "b": "queue_quota", "c": "sh n1"}


@pytest.mark.parametrize(("weight", "expected"), [(0.0, "a1 b1 a2 b2"), (1.0, "b1 b2 a1 b3"), (0.5, "b1 a1 b2 a2")])
def test_past_use_counts_by_its_weight(weight: float, expected: str) -> None:
    given = world(cluster("sh", "8"), jobs=wanting(a=4, b=4), queues=[queue("a", used="2"), queue("b")], weights=Weights(history=weight))
    assert turns(given)[: len(expected)] == expected


def test_past_use_below_a_queue_counts_for_it() -> None:
    queues = [queue("x"), queue("a", below="x", used="8"), queue("b", below="x"), queue("c")]
    given = world(cluster("sh", "8"), jobs=wanting(b=2, c=2), queues=queues, weights=Weights(history=1.0))
    assert turns(given) == "c1 c2 b1 b2"


def test_rounding_stands_in_nobodys_way() -> None:
    given = world(cluster("sh", "8"), jobs=[job(name, "0.1") for name in "abc"], queues=[queue("default", ceiling="0.3", quota="0.3")])
    assert set(decided(given).values()) == {"sh n1"}


def test_without_a_tree_queues_stand_side_by_side() -> None:
    found = Queues(("a", "b"), np.ones(2), np.zeros((2, 3)), np.zeros(2, dtype=np.int64), np.full(2, -1))
    assert found.parent.tolist() == [-1, -1]
    assert (found.quota.max(), found.ceiling.min(), found.kept.max(), found.used.shape) == (0.0, np.inf, 0.0, (2, 3))


def test_children_come_before_their_parents() -> None:
    assert upward(np.array([-1, 0, 1, 0, -1])).tolist() == [2, 1, 3, 0, 4]


@pytest.mark.parametrize("parent", [[0], [1, 0], [-1, 2, 3, 1]])
def test_a_circle_is_no_tree(parent: list[int]) -> None:
    with pytest.raises(ValueError, match="below itself"):
        upward(np.array(parent))


def test_past_use_counts_for_the_branch_of_the_first_queue_too() -> None:
    queues = [queue("a"), queue("k", below="a", used="2"), queue("z")]
    given = world(cluster("sh", "32"), jobs=wanting(k=3, z=3), queues=queues, weights=Weights(history=1.0))
    assert turns(given) == "z1 z2 k1 z3 k2 k3"


def test_what_is_kept_below_the_first_queue_is_kept_once() -> None:
    queues = [queue("a"), queue("k", below="a", quota="2", kept="2"), queue("z")]
    found = decided(world(cluster("sh", "8"), jobs=wanting(z=8), queues=queues))
    assert [name for name, where in found.items() if where == "sh n1"] == ["z1", "z2", "z3", "z4", "z5", "z6"]


def test_one_device_may_be_guaranteed() -> None:
    jobs = [job(name, "1+1H200", queue=name[0]) for name in ("a1", "b1", "b2")]
    given = world(cluster("sh", "16+4H200"), jobs=jobs, queues=[queue("a"), queue("b", quota="0+1H200")])
    assert turns(given) == "b1 a1 b2"


def test_a_ceiling_holds_two_levels_down() -> None:
    queues = [queue("x", ceiling="2"), queue("y", below="x"), queue("z", below="y")]
    found = decided(world(cluster("sh", "8"), jobs=wanting(z=4), queues=queues))
    assert found == {"z1": "sh n1", "z2": "sh n1", "z3": "queue_quota", "z4": "queue_quota"}
