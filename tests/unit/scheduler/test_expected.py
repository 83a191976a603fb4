"""Expected: when a line of waiting jobs starts as runs end, and how long runs last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from scheduler.engine.alternatives import with_alternatives
from scheduler.engine.expected import Holdings, Walk
from scheduler.engine.lengths import FEWEST, LONG, USUAL, known, lasting_on_s, lasting_s, lengths_s, on_model
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, Snapshot
from tests.builders import GIB, cluster, job, or_else, queue, world
from tests.reordering import reordered

# Of each run: the node that it is on, what it holds there in cores, and when it ends.
Run = tuple[str, float, float]


def holdings(given: Snapshot, runs: Sequence[Run], of_queue: int = 0) -> Holdings:
    """What these runs hold; a node is written `sh n1`."""
    names = [f"{given.clusters.names[home]} {name}" for home, name in zip(given.nodes.cluster.tolist(), given.nodes.names, strict=True)]
    held = [[cores, 4 * GIB * cores, *[0.0] * (len(given.resources) - 2)] for _, cores, _ in runs]
    return Holdings(
        queue=np.full(len(runs), of_queue), end_s=np.array([end for _, _, end in runs], dtype=np.float64), run=np.arange(len(runs)),
        node=np.array([names.index(node) for node, _, _ in runs], dtype=np.int64),
        held=np.array(held, dtype=np.float64).reshape(len(runs), len(given.resources)),
    )  # fmt: skip


def starts(given: Snapshot, *runs: Run, lasts: float = 100.0) -> dict[str, float]:
    """When each job of the world starts, the line being the jobs as they are written."""
    every = np.full(len(with_alternatives(given).jobs.ids), lasts)
    found = Walk(given, range(len(given.jobs.ids))).starts(every, holdings(given, runs))
    return dict(zip(given.jobs.ids, found, strict=True))


ONE, TWO = cluster("sh", "0/8"), cluster("sh", "0/8 0/8")


@pytest.mark.parametrize(
    ("given", "runs", "expected"),
    [
        (world(cluster("sh"), jobs=[job("a", "8")]), [], {"a": 0}),
        (world(ONE, jobs=[job("a", "8")]), [("sh n1", 8, 30)], {"a": 30}),
        (world(ONE, jobs=[job("a", "8"), job("b", "8")]), [("sh n1", 8, 30)], {"a": 30, "b": 130}),
        (world(ONE, jobs=[job("a", "8"), job("b", "2")]), [("sh n1", 4, 30), ("sh n1", 4, 50)], {"a": inf, "b": 30}),
        (world(TWO, jobs=[job("a", "8", workers=2)]), [("sh n1", 8, 30), ("sh n2", 8, 70)], {"a": 70}),
        (world(ONE, jobs=[job("a", "9")]), [("sh n1", 8, 30)], {"a": inf}),
        (world(ONE, jobs=[job("a", "8", refused={"sh": Reason.JOB_CLUSTER})]), [("sh n1", 8, 30)], {"a": inf}),
        (world(cluster("sh", "0/8", cordoned=True), jobs=[job("a", "8")]), [("sh n1", 8, 30)], {"a": inf}),
        (world(ONE, jobs=[job("a", "8")]), [("sh n1", 8, inf)], {"a": inf}),
        (world(ONE, jobs=[]), [("sh n1", 8, 30)], {}),
    ],
    ids=[
        "room now", "the end of a run", "behind another", "those that fit go first", "a gang waits for the last end", "too large for ever",
        "not permitted", "cordoned", "a run that never ends", "nobody",
    ],
)  # fmt: skip
def test_when_a_line_starts(given: Snapshot, runs: list[Run], expected: dict[str, float]) -> None:
    assert starts(given, *runs) == expected


def test_a_job_with_a_choice_starts_as_soon_as_one_of_its_ways_has_room() -> None:
    given = world(ONE, jobs=[or_else(job("a", "9"), "8"), or_else(job("b", "8"), "2"), job("c", "8")])
    assert starts(given, ("sh n1", 8, 30)) == {"a": 30, "b": 130, "c": 230}
    # Its queue may not hold the first way, which puts nobody behind it.
    queues = [queue("default", ceiling="6")]
    held_back = world(cluster("sh"), jobs=[or_else(job("a", "8"), "4"), or_else(job("b", "8"), "1"), job("c", "8")], queues=queues)
    assert starts(held_back) == {"a": 0, "b": 0, "c": inf}


def test_two_clusters_are_two_chances() -> None:
    given = world(cluster("sh", "0/8"), cluster("gz", "0/8"), jobs=[job("a", "8"), job("b", "8")])
    assert starts(given, ("sh n1", 8, 30), ("gz n1", 8, 10)) == {"a": 10, "b": 30}


def test_a_queue_at_its_limit_waits_for_its_own_runs() -> None:
    queues = [queue("default", running=1, limit=1, held="2"), queue("other", held="6", running=1)]
    given = world(cluster("sh", "4/8 0/8"), jobs=[job("a", "2")], queues=queues)
    runs = [("sh n1", 2.0, 40.0), ("sh n2", 6.0, 10.0)]
    own, other = holdings(given, runs[:1]), holdings(given, runs[1:], of_queue=1)
    both = Holdings(*(np.concatenate([getattr(own, name), getattr(other, name)]) for name in ("queue", "end_s")),
                    run=np.array([0, 1]), node=np.array([0, 1]), held=np.concatenate([own.held, other.held]))  # fmt: skip
    assert Walk(given, [0]).starts(np.array([5.0]), both) == [40.0]


def test_a_queue_at_its_ceiling_waits_for_its_own_runs() -> None:
    given = world(cluster("sh", "4/8"), jobs=[job("a", "3")], queues=[queue("default", held="4", ceiling="6")])
    assert starts(given, ("sh n1", 4, 25)) == {"a": 25}


def test_a_walk_may_be_asked_again_and_the_order_of_rows_is_no_matter() -> None:
    given = world(cluster("sh", "0/8 0/4"), cluster("gz", "0/8"), jobs=[job("a", "8"), job("b", "8"), job("c", "4")])
    turned = reordered(given, clusters=[1, 0], nodes=[1, 2, 0], queues=[0], jobs=[0, 1, 2])
    runs = [("sh n1", 8.0, 30.0), ("sh n2", 4.0, 20.0), ("gz n1", 8.0, 10.0)]
    walk = Walk(turned, [0, 1, 2])
    first = walk.starts(np.full(3, 9.0), holdings(turned, runs))
    assert first == walk.starts(np.full(3, 9.0), holdings(turned, runs)) == list(starts(given, *runs, lasts=9.0).values())
    assert first == [10.0, 19.0, 20.0]


def test_the_given_snapshot_stays_as_it_is() -> None:
    given = world(ONE, jobs=[job("a", "8")])
    starts(given, ("sh n1", 8, 30))
    assert given.nodes.free.tolist() == [[0, 0]]


PARTS = {"g": (0.1, 0.2, 0.3, 0.4, 0.9), "once": (0.5,), "none": ()}


@pytest.mark.parametrize(
    ("group", "elapsed", "usual", "long"),
    [
        ("g", 0.0, 30.0, 90.0), ("g", 25.0, 15.0, 65.0), ("g", 95.0, 5.0, 5.0), ("g", 200.0, 0.0, 0.0),
        ("once", 0.0, 100.0, 100.0), ("none", 40.0, 60.0, 60.0), ("unknown", 0.0, 100.0, 100.0),
    ],
    ids=["from the start", "those that lasted longer count", "longer than all", "over its limit", "one says nothing", "none", "unknown"],
)  # fmt: skip
def test_how_long_a_run_lasts(group: str, elapsed: float, usual: float, long: float) -> None:
    assert lasting_s(PARTS, group, 100.0, USUAL, elapsed) == pytest.approx(usual)
    assert lasting_s(PARTS, group, 100.0, LONG, elapsed) == pytest.approx(long)


def test_lengths_of_several() -> None:
    assert lengths_s(PARTS, ["g", "unknown"], [10.0, 7.0], USUAL).tolist() == pytest.approx([3.0, 7.0])
    assert (known(PARTS, "g"), known(PARTS, "once"), known(PARTS, "unknown")) == (True, False, False)


def test_devices_that_are_gone_come_back_with_no_run() -> None:
    given = world(cluster("sh", "0/8+1,1H200 8+1,1,1,1H200"), jobs=[job("a", "8"), job("b", "4+.5H200")])
    runs = holdings(given, [("sh n1", 8.0, 30.0), ("sh n2", 8.0, 60.0)])
    for number in (3, 7):  # One that only the other node has, and one that none has any more.
        held = replace(runs, devices=[((FIRST_ACCELERATOR, number),), ()])
        found = Walk(given, range(2)).starts(np.full(2, 100.0), held)
        assert dict(zip(given.jobs.ids, found, strict=True)) == {"a": 0.0, "b": 30.0}


def test_each_job_lasts_as_long_as_it_does_in_the_way_that_it_is_run_by() -> None:
    """The first of the line starts at 10 s on the second of its models, where it lasts three times as long; the next one waits for that."""
    first = or_else(job("a", "1+1H200"), "1+1A100")
    given = world(cluster("sh", "8+0/1H200 8+0/1A100"), jobs=[first, job("b", "1+1A100")])
    runs = holdings(given, [("sh n2", 0.0, 10.0), ("sh n1", 0.0, 90.0)])
    held = np.zeros((2, len(given.resources)))
    held[[0, 1], [given.resources.index("A100"), given.resources.index("H200")]] = 1.0
    lengths = np.array([20.0, 5.0, 60.0])  # Of a by its first model, of b, and of a by its second.
    assert Walk(given, range(2)).starts(lengths, replace(runs, held=held)) == [10.0, 70.0]


@pytest.mark.parametrize(
    ("given", "runs", "expected"),
    [
        (world(ONE, jobs=[job("a", queue="full"), job("b", queue="other")], queues=[queue("other"), queue("full", limit=0)]),
         [("sh n1", 8, 30)], {"a": inf, "b": 30}),
        (world(cluster("sh"), jobs=[job("a", "9", queue="p"), job("b", queue="q")], queues=[queue("p"), queue("q", strict=True)]),
         [], {"a": inf, "b": 0}),
        (world(cluster("sh", "8+1H200"), jobs=[job("a", "1")], queues=[queue("default", ceiling="8+1H200", held="0+2H200")]), [], {"a": 0}),
        (world(cluster("sh"), jobs=[job("a", "1:1")], queues=[queue("default", ceiling="2:99", held="2:2")]), [], {"a": inf}),
        (world(cluster("sh", "0/8#r.1 8#r.2"), jobs=[job("a", "8", workers=2, same="zone"), job("b", "8", workers=2, same="rack")]),
         [("sh n1", 8, 30)], {"a": 30, "b": inf}),
    ],
    ids=[
        "a queue that may run none", "behind nobody of another queue", "over a ceiling of what it does not ask for", "one core too many",
        "in one zone or rack",
    ],
)  # fmt: skip
def test_what_holds_a_line_back(given: Snapshot, runs: list[Run], expected: dict[str, float]) -> None:
    assert starts(given, *runs) == expected


@pytest.mark.parametrize(("size", "expected"), [("1+1H200", 30.0), ("1+.5H200", 0.0), ("1+2H200", inf), ("1+.75H200", 30.0)])
def test_devices_come_back_with_the_run_that_held_them(size: str, expected: float) -> None:
    given = world(cluster("sh", "7/8+.5,0H200"), jobs=[job("a", size)])
    held = replace(holdings(given, [("sh n1", 1, 30)]), devices=(((FIRST_ACCELERATOR, 1),),))
    held.held[0, FIRST_ACCELERATOR] = 1.0
    assert Walk(given, [0]).starts(np.full(1, 100.0), held) == [expected]


def test_an_end_gives_its_queue_back_no_more_than_it_held() -> None:
    given = world(cluster("sh", "8/16"), jobs=[job("a", "8"), job("b", "8")], queues=[queue("default", ceiling="8", held="8", running=1)])
    assert starts(given, ("sh n1", 8, 30)) == {"a": 30, "b": 130}


@pytest.mark.parametrize(
    ("past", "model", "expected_s"),
    [
        ({"H200": 0.1}, "A100", 20.0),
        ({"A100": 0.4}, "H200", 20.0),
        ({"H200": 0.8}, "A100", 100.0),
        ({"H200": 0.1, "A100": 0.5}, "A100", 50.0),
    ],
    ids=["on a slower one", "on a faster one", "no longer than its limit", "by its own past first"],
)
def test_how_long_it_lasts_on_a_model_is_learned_from_others_by_their_speeds(past: dict[str, float], model: str, expected_s: float) -> None:
    parts = {on_model("g", other): [part] * FEWEST for other, part in past.items()}
    assert lasting_on_s(parts, "g", model, {"A100": 1.0, "H200": 2.0}, 100.0, USUAL) == pytest.approx(expected_s)
