"""Check finds what a corrupted plan does to promised starts: who is forgotten, delayed, or promised what cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduler.engine.place import place
from scheduler.engine.plan import Placement
from scheduler.engine.snapshot import Snapshot
from tests.builders import cluster, job, world
from tests.checked import refusal
from tests.timed import FOREVER, timed

BUSY = [("sh n1", "8", 100.0)]


def spoiled(given: Snapshot, **fields: Any) -> str:
    """What is said once the only promise of a sound plan is changed."""
    plan = place(given)
    assert refusal(given, plan) == ""
    (promise,) = plan.promises
    return refusal(given, replace(plan, promises=(replace(promise, **fields),)))


def test_a_promise_lasts_from_its_placement_until_the_job_has_ended() -> None:
    head = job("head", "8", transfer_s={"sh": 5.0})
    given = timed(world(cluster("sh", "0/8", wait_s=2.0), jobs=[head]), {"head": 10.0}, running=BUSY, heads=1)
    assert [(item.start_s, item.end_s) for item in place(given).promises] == [(100.0, 117.0)]
    assert "does not last as long as the job" in spoiled(given, end_s=107.0)
    assert "is at no time to come" in spoiled(given, start_s=0.0, end_s=17.0)


def test_the_promise_to_a_job_of_unknown_length_never_ends() -> None:
    given = timed(world(cluster("sh", "0/8"), jobs=[job("head", "8")]), {}, running=BUSY, heads=1)
    assert [(item.start_s, item.end_s) for item in place(given).promises] == [(100.0, FOREVER)]
    assert "does not last as long as the job" in spoiled(given, end_s=200.0)


@pytest.mark.parametrize("nodes", [(0, 2), (2, 1), (3, 3)], ids=["another zone", "both of them", "no zone"])
def test_promised_workers_that_must_be_together_are(nodes: tuple[int, ...]) -> None:
    drawn = world(cluster("sh", "0/8#a 8#a 8#b 16"), jobs=[job("head", "8", workers=2, same="zone")])
    given = timed(drawn, {"head": 10.0}, running=BUSY, heads=1)
    assert [item.nodes for item in place(given).promises] == [(0, 1)]
    assert "on nodes of several groups, or of none" in spoiled(given, nodes=nodes)


@pytest.mark.parametrize(("length_s", "words"), [(99.0, ""), (99.5, "n2: a promised start is delayed, 100 s from now"), (FOREVER, "n2")])
def test_what_is_placed_delays_no_promised_start(length_s: float, words: str) -> None:
    drawn = world(cluster("sh", "0/8 8"), jobs=[job("head", "8", workers=2), job("other", "2")])
    given = timed(drawn, {"head": 10.0, "other": length_s}, running=BUSY, heads=1)
    sound = place(given)
    plan = replace(sound, placements=(Placement(1, 0, (1,), 0.0),), unplaced=sound.unplaced[:1])
    found = refusal(given, plan)
    assert words in found
    assert bool(words) == bool(found)


def test_two_promises_do_not_share_a_device() -> None:
    # By sums two devices are free in 40 s; one is whole then, and half of each of two others.
    drawn = world(cluster("sh", "5/8+0,.5,.5H200", wait_s=0.0), jobs=[job("first", "1+1H200"), job("second", "1+1H200")])
    runs = [("sh n1", "1+1H200", 40.0), ("sh n1", "1+.5H200", FOREVER), ("sh n1", "1+.5H200", FOREVER)]
    given = timed(drawn, {"first": 10.0, "second": 10.0}, running=runs, heads=2, devices=["0", "1", "2"])
    plan = place(given)
    assert [item.start_s for item in plan.promises] == [40.0, 50.0]
    assert refusal(given, plan) == ""
    at_once = replace(plan.promises[1], start_s=40.0, end_s=50.0)
    assert refusal(given, replace(plan, promises=(plan.promises[0], at_once))) == "n1: a promised start finds its devices in use"


@pytest.mark.parametrize("same", ["", "zone"])
def test_nobody_is_forgotten_who_could_be_promised_a_start(same: str) -> None:
    drawn = world(cluster("sh", "0/8#a 2#b"), jobs=[job("head", "8", same=same), job("second", "8")])
    given = timed(drawn, {"head": 10.0, "second": 10.0}, running=BUSY, heads=1)
    plan = place(given)
    assert refusal(given, plan) == ""
    forgotten = refusal(given, replace(plan, promises=()))
    assert "head is promised no start, though one is possible" in forgotten
    # The second one comes after as many heads as are promised a start.
    assert "second" not in refusal(given, plan)


@pytest.mark.parametrize(
    ("members", "asked"),
    [
        ([cluster("sh", "0/8"), cluster("gz", "0/8")], job("head", "8", workers=2)),
        ([cluster("sh", "0/8 8!")], job("head", "8", workers=2)),
        ([cluster("sh", "0/8:99 1:99")], job("head", "1:1", workers=10)),
        ([cluster("sh", "0/8#a 8#b")], job("head", "8", workers=2, same="zone")),
    ],
    ids=["two clusters", "a node that is not ready", "cores, where there is memory for more", "two zones"],
)
def test_nobody_is_missed_for_whom_there_is_never_room(members: list[Any], asked: Any) -> None:
    given = timed(world(*members, jobs=[asked]), {"head": 10.0}, running=[("sh n1", "8", 100.0)], heads=1)
    plan = place(given)
    assert plan.promises == ()
    assert refusal(given, plan) == ""
