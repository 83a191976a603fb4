"""Who is promised which start, and who goes in front, as pictures of nodes and jobs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.board import Board, classes_of
from scheduler.engine.check import check
from scheduler.engine.foresight import FEWEST_TIMES, MOST_TIMES
from scheduler.engine.order import by_name
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Promised, Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import DrawnJob, cluster, job, or_else, shown, world
from tests.timed import FOREVER, timed


def told(snapshot: Snapshot) -> tuple[dict[str, str], dict[str, tuple[str, float]]]:
    """A checked plan in words, and what is promised: where and in how many seconds."""
    plan = place(snapshot)
    check(snapshot, plan)
    names, nodes = snapshot.clusters.names, snapshot.nodes.names
    promises = {
        snapshot.jobs.ids[item.job]: (" ".join([names[item.cluster], *(nodes[node] for node in item.nodes)]), item.start_s)
        for item in plan.promises
    }
    return shown(snapshot, plan), promises


BUSY = [("sh n1", "8", 100.0)]
GANG = job("gang", "8", workers=3)


@pytest.mark.parametrize(
    ("other", "length_s", "expected"),
    [
        (job("other", "2"), 90, "sh n2"),  # Done before the gang starts.
        (job("other", "2"), 99, "sh n2"),  # With the usual second until it starts it is done when the gang starts.
        (job("other", "2"), 99.5, "reserved_for_another"),
        (job("other", "2"), float("inf"), "reserved_for_another"),
        (job("other", "9"), 1, "node_too_small"),
        (job("other", "8", workers=2), 50, "sh n2 n3"),
        (job("other", "8", workers=2), 150, "reserved_for_another"),
        (job("other", "8", workers=3), 1, "gang_does_not_fit"),
    ],
)  # fmt: skip
def test_others_start_where_they_are_done_before_the_promised_start(other: DrawnJob, length_s: float, expected: str) -> None:
    drawn = world(cluster("sh", "0/8 8 8"), jobs=[GANG, other])
    plan, promises = told(timed(drawn, {"gang": 50.0, "other": length_s}, running=BUSY, heads=1))
    assert plan["other"] == expected
    assert promises == {"gang": ("sh n1 n2 n3", 100.0)}


def test_others_start_where_the_promised_job_leaves_room() -> None:
    drawn = world(cluster("sh", "0/8 6/8 8"), jobs=[job("gang", "5", workers=3), job("small", "1"), job("more", "2"), job("last", "2")])
    plan, promises = told(timed(drawn, {"gang": 50.0}, running=BUSY, heads=1))
    # The gang leaves 1 core of node 2 (and 3 on node 3, and all of node 1 until it starts, which is busy).
    assert promises == {"gang": ("sh n2 n1 n3", 100.0)}
    assert plan == {"gang": "gang_does_not_fit", "small": "sh n2", "more": "sh n3", "last": "reserved_for_another"}


def test_a_job_is_promised_the_cluster_where_it_starts_soonest() -> None:
    members = [cluster("bj", "0/8"), cluster("gz", "0/8"), cluster("sh", "4"), cluster("tj", "0/8", cordoned=True)]
    runs = [("bj n1", "8", 30.0), ("gz n1", "8", 20.0), ("tj n1", "8", 5.0)]
    head = job("head", "8", refused={"gz": Reason.LICENCE_PURPOSE})
    plan, promises = told(timed(world(*members, jobs=[head]), {"head": 10.0}, running=runs, heads=1))
    assert (plan, promises) == ({"head": "node_busy"}, {"head": ("bj n1", 30.0)})
    slow = job("head", "8", transfer_s={"gz": 15.0})
    assert told(timed(world(*members, jobs=[slow]), {"head": 10.0}, running=runs, heads=1))[1] == {"head": ("bj n1", 30.0)}
    assert told(timed(world(*members, jobs=[job("head", "8")]), {"head": 1.0}, running=runs, heads=1))[1] == {"head": ("gz n1", 20.0)}


def test_each_of_some_heads_is_promised_a_start_behind_the_ones_before() -> None:
    jobs = [job(name, "8") for name in ("first", "second", "third")]
    drawn = world(cluster("sh", "0/8", wait_s=0.0), jobs=jobs)
    lengths = {"first": 10.0, "second": 20.0, "third": 5.0}
    for heads, expected in [(0, {}), (1, {"first": 100.0}), (2, {"first": 100.0, "second": 110.0})]:
        promises = told(timed(drawn, lengths, running=BUSY, heads=heads))[1]
        assert {name: start_s for name, (_, start_s) in promises.items()} == expected
    assert told(timed(drawn, lengths, running=BUSY, heads=9))[1]["third"] == ("sh n1", 130.0)


def test_a_later_head_goes_into_a_gap_before_an_earlier_one() -> None:
    drawn = world(cluster("sh", "0/8 8", wait_s=0.0), jobs=[job("wide", "8", workers=2), job("long", "8"), job("tight", "8", workers=1)])
    runs = [("sh n1", "8", 100.0)]
    plan, promises = told(timed(drawn, {"wide": 10.0, "long": 101.0, "tight": 100.0}, running=runs, heads=2))
    assert plan == {"wide": "node_busy", "long": "node_busy", "tight": "sh n2"}
    assert promises == {"wide": ("sh n1 n2", 100.0), "long": ("sh n1", 110.0)}


def test_nobody_is_promised_what_never_comes() -> None:
    jobs = [job("huge", "8", workers=9), job("endless", "4+1H200"), job("head", "8")]
    runs = [("sh n1", "8", 10.0), ("gz n1", "8+1H200", float("inf"))]
    drawn = world(cluster("sh", "0/8"), cluster("gz", "0/8+0/1H200"), jobs=jobs)
    assert told(timed(drawn, dict.fromkeys(["huge", "endless", "head"], 5.0), running=runs, heads=1))[1] == {"head": ("sh n1", 10.0)}


def test_a_run_that_should_have_ended_ends_soon() -> None:
    drawn = world(cluster("sh", "0/8"), jobs=[job("head", "8")])
    for ends_s in (-50.0, 0.0, 0.5):
        assert told(timed(drawn, {"head": 5.0}, running=[("sh n1", "8", ends_s)], heads=1))[1] == {"head": ("sh n1", 1.0)}


def test_many_ends_are_told_apart_only_in_part_and_never_taken_to_be_sooner() -> None:
    count = 3 * MOST_TIMES
    runs = [("sh n1", "1", float(row + 1)) for row in range(count)]
    drawn = world(cluster("sh", f"0/{count}"), jobs=[job("head", f"{count // 2}")])
    start_s = told(timed(drawn, {"head": 5.0}, running=runs, heads=1))[1]["head"][1]
    assert count // 2 <= start_s <= count // 2 + count / (FEWEST_TIMES - 1)


def test_the_board_refuses_worlds_with_promises() -> None:
    named = by_name(timed(world(cluster("sh", "8"), jobs=[job("a")]), {"a": 1.0}, heads=1))
    with pytest.raises(ValueError, match="decide on worlds with `heads` or `promised` by `place`"):
        Board(named.snapshot, classes_of(named.snapshot.jobs)[0])


def test_reasons_count_nodes_that_are_kept_for_others() -> None:
    drawn = world(cluster("sh", "0/8 8 8"), jobs=[GANG, job("other", "2")])
    waiting = place(timed(drawn, {"gang": 50.0, "other": 500.0}, running=BUSY, heads=1)).unplaced[1]
    assert waiting.nodes == ((Reason.NODE_BUSY, 1), (Reason.RESERVED_FOR_ANOTHER, 2))


def test_what_starts_now_takes_what_is_left_on_its_own_nodes_alone() -> None:
    jobs = [job("gang", "5", workers=3), job("small", "3"), job("more", "3"), job("last", "1")]
    plan, promises = told(timed(world(cluster("sh", "0/8 8 8"), jobs=jobs), {"gang": 50.0}, running=BUSY, heads=1))
    assert promises == {"gang": ("sh n1 n2 n3", 100.0)}
    assert plan == {"gang": "gang_does_not_fit", "small": "sh n2", "more": "sh n3", "last": "reserved_for_another"}


@pytest.mark.parametrize(("length_s", "expected"), [(100.0, "sh n1"), (100.5, "reserved_for_another")])
def test_a_promise_takes_from_what_an_earlier_one_leaves_while_both_last(length_s: float, expected: str) -> None:
    # At 100 s the first takes 7 of 9 cores and the second holds 2 since 50 s: nothing is left then of the one that is free now.
    drawn = world(cluster("sh", "1/9", wait_s=0.0), jobs=[job("first", "7"), job("second", "2"), job("small", "1")])
    runs = [("sh n1", "4", 50.0), ("sh n1", "4", 100.0)]
    plan, promises = told(timed(drawn, {"first": 10.0, "small": length_s}, running=runs, heads=2))
    assert promises == {"first": ("sh n1", 100.0), "second": ("sh n1", 50.0)}
    assert plan == {"first": "node_busy", "second": "node_busy", "small": expected}


def test_a_promise_takes_nothing_from_what_one_on_another_node_leaves() -> None:
    jobs = [job("first", "6"), job("second", "9"), job("long", "2")]
    drawn = timed(
        world(cluster("sh", "2/8 0/9"), jobs=jobs), {"first": 10.0, "second": 10.0},
        running=[("sh n1", "6", 10.0), ("sh n2", "9", 50.0)], heads=2,
    )  # fmt: skip
    plan, promises = told(drawn)
    assert promises == {"first": ("sh n1", 10.0), "second": ("sh n2", 50.0)}
    assert plan == {"first": "node_busy", "second": "node_busy", "long": "sh n1"}


def test_of_equal_starts_the_better_cluster_is_promised() -> None:
    runs = [("bj n1", "8", 30.0), ("sh n1", "8", 30.0)]
    for cost, expected in (({"bj": 2.0, "sh": 1.0}, "sh n1"), ({"bj": 1.0, "sh": 2.0}, "bj n1")):
        drawn = world(cluster("bj", "0/8"), cluster("sh", "0/8"), jobs=[job("head", "8", cost=cost)])
        assert told(timed(drawn, {"head": 10.0}, running=runs, heads=1))[1] == {"head": (expected, 30.0)}


@pytest.mark.parametrize(
    ("free_s", "kept_s", "transfer_s", "expected"),
    [
        # Without what is kept for others on gz it would begin there after 70 s, with it after 120 s.
        ({"bj": 100.0, "gz": 40.0}, 90.0, {"gz": 30.0}, ("bj n1", 100.0)),
        # It begins after 90 s and 95 s, and would end, with its inputs to fetch, the other way round.
        ({"bj": 60.0, "gz": 40.0}, 95.0, {"bj": 30.0}, ("bj n1", 60.0)),
    ],
)
def test_where_its_work_begins_soonest_a_job_is_promised_a_start(
    free_s: dict[str, float], kept_s: float, transfer_s: dict[str, float], expected: tuple[str, float]
) -> None:
    members = [cluster("bj", "0/8", wait_s=0.0), cluster("gz", "0/8", wait_s=0.0)]
    drawn = world(*members, jobs=[job("head", "8", transfer_s=transfer_s)])
    snapshot = timed(drawn, {"head": 10.0}, running=[(f"{name} n1", "8", at) for name, at in free_s.items()], heads=1)
    kept = Promised(np.array([1]), drawn.jobs.request[0], 40.0, kept_s)
    assert told(replace(snapshot, promised=(kept,)))[1] == {"head": expected}


def test_what_is_kept_for_a_job_elsewhere_is_respected() -> None:
    drawn = timed(world(cluster("sh", "8 8"), jobs=[job("a", "8", sequence=1), job("b", "8", sequence=2)]), {"a": 10.0, "b": 100.0})
    kept = Promised(np.array([0, 1]), drawn.jobs.request[0], 50.0, 60.0)
    plan = place(replace(drawn, promised=(kept,)))
    assert shown(drawn, plan) == {"a": "sh n1", "b": "reserved_for_another"}


def test_a_node_that_shrank_under_a_run_makes_no_room_when_that_ends() -> None:
    # Node 1 had 8 cores when the run began there, and has 6 now.
    drawn = world(cluster("sh", "0/6 8"), jobs=[job("gang", "7", workers=2)])
    plan, promises = told(timed(drawn, {"gang": 50.0}, running=BUSY, heads=1))
    assert (plan, promises) == ({"gang": "gang_does_not_fit"}, {})


MODELS = [("sh n1", "8+2H200", 100.0), ("sh n2", "8+2A100", 30.0)]


@pytest.mark.parametrize(
    ("runs", "refused", "expected"),
    [
        pytest.param(MODELS, {}, ("sh n2", 30.0, 1), id="the second model is free sooner"),
        pytest.param([("sh n1", "8+2H200", 20.0), MODELS[1]], {}, ("sh n1", 20.0, 0), id="the first one is"),
        pytest.param([("sh n1", "8+2H200", 30.0), MODELS[1]], {}, ("sh n1", 30.0, 0), id="of equal starts the better score decides"),
        pytest.param(MODELS, {"sh": Reason.OVER_BUDGET}, ("sh n1", 100.0, 0), id="the second model may not be used"),
        pytest.param([MODELS[0], ("sh n2", "8+2A100", float("inf"))], {}, ("sh n1", 100.0, 0), id="the second one is never free"),
    ],
)
def test_one_of_several_models_is_promised_where_it_starts_soonest(
    runs: list[tuple[str, str, float]], refused: dict[str, Reason], expected: tuple[str, float, int]
) -> None:
    head = or_else(job("head", "1+2H200"), "1+2A100", 60.0, refused=refused)
    # Another job that wants what is promised waits, and one that wants the other model does not stand behind it.
    drawn = world(cluster("sh", "0/8+0/2H200 0/8+0/2A100 8+1A100 8+1H200"), jobs=[head, job("small", "1+1A100"), job("other", "1+1H200")])
    snapshot = timed(drawn, {"head": 10.0, "small": 5.0, "other": 5.0}, running=runs, heads=1)
    plan = place(snapshot)
    check(snapshot, plan)
    assert shown(snapshot, plan) == {"head": "node_busy", "small": "sh n3", "other": "sh n4"}
    (promise,) = plan.promises
    assert (f"sh {snapshot.nodes.names[promise.nodes[0]]}", promise.start_s, promise.choice) == expected


def test_others_do_not_delay_the_model_that_is_promised() -> None:
    head = or_else(job("head", "1+2H200"), "1+2A100")
    nodes = "0/8+0/2H200 8+1/2A100"
    jobs = [head, job("in the way", "1+1A100"), job("done by then", "1+1A100"), job("elsewhere", "1")]
    snapshot = timed(
        world(cluster("sh", nodes, wait_s=0.0), jobs=jobs), {"head": 10.0, "in the way": 31.0, "done by then": 30.0, "elsewhere": 500.0},
        running=[("sh n1", "8+2H200", 100.0), ("sh n2", "0+1A100", 30.0)], heads=1,
    )  # fmt: skip
    plan = place(snapshot)
    check(snapshot, plan)
    # The one that would last too long had its turn before the other took the device that is free.
    assert shown(snapshot, plan) == {"head": "node_busy", "in the way": "node_busy", "done by then": "sh n2", "elsewhere": "sh n2"}
    (promise,) = plan.promises
    assert (promise.start_s, promise.choice) == (30.0, 1)
    for wrong in (replace(promise, choice=0), replace(promise, choice=2), replace(promise, start_s=29.0, end_s=39.0)):
        with pytest.raises(PlanRejectedError):
            check(snapshot, replace(plan, promises=(wrong,)))


HALVES = [("sh n1", "1+.5H200", 100.0), ("sh n1", "1+.5H200", 40.0), ("sh n2", "1+1H200", 70.0)]


@pytest.mark.parametrize(
    ("size", "workers", "expected"),
    [
        # By sums a whole device would be free at once on node 1, and half of each is.
        pytest.param("1+1H200", 1, ("sh n1", 40.0), id="a device that is whole again"),
        pytest.param("1+2H200", 1, ("sh n1", 100.0), id="both of one node"),
        pytest.param("1+1H200", 2, ("sh n1 n2", 70.0), id="one on each of two nodes"),
        pytest.param("1+.6H200", 1, ("sh n1", 40.0), id="a share that is larger than each rest"),
        pytest.param("1+.6H200", 3, ("sh n1 n1 n2", 100.0), id="a share for each of three workers"),
    ],
)
def test_a_promised_start_finds_devices_and_not_their_sum(size: str, workers: int, expected: tuple[str, float]) -> None:
    drawn = world(cluster("sh", "6/8+.5,.5H200 7/8+0,0H200", wait_s=0.0), jobs=[job("head", size, workers=workers)])
    runs, devices = [*HALVES, ("sh n2", "0+1H200", float("inf"))], ["0", "1", "0", "1"]
    _, promises = told(timed(drawn, {"head": 10.0}, running=runs, heads=1, devices=devices))
    assert promises == {"head": expected}


@pytest.mark.parametrize(
    ("other", "length_s", "expected"),
    [
        pytest.param("1+.5H200", 40.0, "sh n1", id="done by then"),
        pytest.param("1+.5H200", 41.0, "reserved_for_another", id="would take half of the device that is promised"),
        pytest.param("1+.25H200", 500.0, "reserved_for_another", id="would take a quarter of it, because it is the tightest"),
        pytest.param("1+.75H200", 500.0, "sh n1", id="fits on the other one alone"),
        pytest.param("1", 500.0, "sh n1", id="needs no device"),
    ],
)
def test_others_leave_the_device_that_is_promised(other: str, length_s: float, expected: str) -> None:
    """Device 0 has three quarters free for long, device 1 half, and is whole again in 40 s. By sums there is room for each of them."""
    drawn = world(cluster("sh", "6/8+.75,.5H200", wait_s=0.0), jobs=[job("head", "1+1H200"), job("other", other)])
    runs = [("sh n1", "1+.25H200", 1000.0), ("sh n1", "1+.5H200", 40.0)]
    snapshot = timed(drawn, {"head": 10.0, "other": length_s}, running=runs, heads=1, devices=["0", "1"])
    plan, promises = told(snapshot)
    assert promises == {"head": ("sh n1", 40.0)}
    assert plan == {"head": "node_busy", "other": expected}
    if expected == "reserved_for_another":
        found = place(snapshot)
        went = Placement(1, 0, (0,), 0.0, (((2, 1),),))
        with pytest.raises(PlanRejectedError, match="finds its devices in use"):
            check(snapshot, Plan((went,), (found.unplaced[0],), found.promises))


def test_the_device_of_what_starts_now_is_promised_from_its_end_on() -> None:
    drawn = world(cluster("sh", "6/8+1,0H200", wait_s=0.0), jobs=[job("first", "1+1H200"), job("head", "1+1H200"), job("never", "1+2H200")])
    snapshot = timed(drawn, {"first": 20.0, "head": 5.0, "never": 5.0}, running=[("sh n1", "1+1H200", FOREVER)], heads=2, devices=["1"])
    plan, promises = told(snapshot)
    assert plan == {"first": "sh n1", "head": "node_busy", "never": "node_busy"}
    assert promises == {"head": ("sh n1", 20.0)}


def test_devices_that_nobody_names_are_promised_to_nobody() -> None:
    """A run from before devices were told apart holds one, and which is not known."""
    drawn = world(cluster("sh", "7/8+0,1H200", wait_s=0.0), jobs=[job("head", "1+2H200")])
    assert told(timed(drawn, {"head": 10.0}, running=[("sh n1", "1+1H200", 30.0)], heads=1)) == ({"head": "node_busy"}, {})
