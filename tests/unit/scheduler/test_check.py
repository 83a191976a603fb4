"""Check: good plans pass, and each way to spoil one is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan, Unplaced
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import cluster, job, queue, shown, world

GOOD = world(
    cluster("sh", "8 8 8! 8+2H200@gold 8@gold"),
    cluster("gz", "8"),
    cluster("sick", "8", healthy=False),
    cluster("closed", "8", cordoned=True),
    jobs=[
        job("a", "5", refused={"gz": Reason.LICENCE_JURISDICTION}),
        job("gang", "6", workers=2, refused={"gz": Reason.LICENCE_JURISDICTION}),
        job("model", "1+2H200"),
        job("b", "99"),
        job("limited", queue="narrow"),
        job("held", queue="narrow"),
    ],
    queues=[queue("narrow", running=2, limit=3)],
)
A, GANG, MODEL, B, LIMITED, HELD = range(6)
SH, GZ, SICK, CLOSED = range(4)


def faults(plan: Plan, given: Snapshot = GOOD) -> str:
    """What the check says; empty when it passes."""
    try:
        check(given, plan)
    except PlanRejectedError as error:
        return str(error)
    return ""


def changed(job_row: int, **fields: Any) -> Plan:
    """The good plan with one placement changed."""
    plan = place(GOOD)
    return replace(plan, placements=tuple(replace(item, **fields) if item.job == job_row else item for item in plan.placements))


def without(job_row: int) -> Plan:
    """The good plan without its answer for one job."""
    plan = place(GOOD)
    return Plan(
        tuple(item for item in plan.placements if item.job != job_row), tuple(item for item in plan.unplaced if item.job != job_row)
    )


def placed(job_row: int, cluster_row: int, *nodes: int) -> Plan:
    """The good plan with one job placed so."""
    plan = without(job_row)
    return replace(plan, placements=(*plan.placements, Placement(job_row, cluster_row, nodes, 0.0)))


def waiting(job_row: int, *clusters: Reason, blocker: Reason = Reason.NODE_BUSY) -> Plan:
    """The good plan with one job waiting for these reasons."""
    plan = without(job_row)
    return replace(plan, unplaced=(*plan.unplaced, Unplaced(job_row, blocker, clusters, ())))


def test_the_good_plan_passes() -> None:
    plan = place(GOOD)
    assert faults(plan) == ""
    assert shown(GOOD, plan) == {
        "a": "sh n1", "gang": "sh n2 n5", "model": "sh n4", "limited": "gz n1", "b": "node_too_small", "held": "queue_limit",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (placed(A, SH, 1), "n2: 11 of 8 cpu; n2: 4.72446e+10 of 3.43597e+10 memory"),
        (placed(GANG, SH, 1, 1), "n2: 12 of 8 cpu"),
        (placed(B, SH, 0), "n1: 104 of 8 cpu"),
        (placed(MODEL, SH, 0), "model: a node lacks the accelerator model"),
        (placed(GANG, SH, 1), "gang: some workers have no node, or more than one"),
        (placed(GANG, SH, 1, 3, 4), "gang: some workers have no node, or more than one"),
        (placed(GANG, SH), "gang: some workers have no node, or more than one"),
        (placed(LIMITED, SH, 5), "limited: a node is not of sh"),
        (placed(GANG, SH, 1, 5), "gang: a node is not of sh"),
        (placed(A, GZ, 5), "a: policy forbids gz"),
        (placed(LIMITED, SICK, 6), "limited: sick is not healthy"),
        (placed(LIMITED, CLOSED, 7), "limited: closed is cordoned"),
        (placed(LIMITED, SH, 2), "limited: a node is not ready"),
        (placed(HELD, SH, 4), "queue narrow would run 4 of at most 3"),
        (without(A), "a is answered 0 times"),
        (without(B), "b is answered 0 times"),
        (Plan((), ()), "held is answered 0 times"),
        (changed(LIMITED, job=A), "a is answered 2 times; limited is answered 0 times"),
        (changed(LIMITED, job=99), "the plan names job row 99, which is not there"),
        (changed(LIMITED, job=-1), "the plan names job row -1, which is not there"),
        (changed(A, cluster=4), "a is placed at cluster row 4, which is not there"),
        (changed(A, cluster=-1), "a is placed at cluster row -1, which is not there"),
        (changed(A, nodes=(8,)), "a is placed on node row 8, which is not there"),
        (changed(A, nodes=(-1,)), "a is placed on node row -1, which is not there"),
        (changed(A, score=float("nan")), "a: its score is no number"),
        (changed(A, score=float("inf")), "a: its score is no number"),
        (waiting(A, Reason.FITS, *[Reason.NODE_BUSY] * 3), "a waits though it fits"),
        (waiting(A, *[Reason.NODE_BUSY] * 4, blocker=Reason.FITS), "a waits though it fits"),
        (waiting(A, Reason.NODE_BUSY), "a waits with reasons for 1 of 4 clusters"),
    ],
)
def test_a_spoiled_plan_is_rejected(spoiled: Plan, said: str) -> None:
    assert said in faults(spoiled)


def test_a_node_without_the_labels_is_rejected() -> None:
    given = world(cluster("sh", "8@gold 8"), jobs=[job("j", labels="gold")])
    assert faults(Plan((Placement(0, 0, (0,), 0.0),), ()), given) == ""
    assert faults(Plan((Placement(0, 0, (1,), 0.0),), ()), given) == "j: a node lacks labels"


def test_a_job_and_its_second_placement_are_both_seen() -> None:
    plan = place(GOOD)
    twice = replace(plan, placements=(*plan.placements, plan.placements[0]))
    assert "is answered 2 times" in faults(twice)


def test_a_placed_job_that_also_waits_is_rejected() -> None:
    plan = place(GOOD)
    both = replace(plan, unplaced=(*plan.unplaced, replace(plan.unplaced[0], job=A)))
    assert faults(both) == "a is answered 2 times"


def test_numbers_that_are_none_fail() -> None:
    given = world(cluster("sh", "8"), jobs=[job("j", "nan")])
    assert "n1: nan of 8 cpu" in faults(Plan((Placement(0, 0, (0,), 0.0),), ()), given)


def test_a_queue_over_its_limit_may_go_on_but_not_start() -> None:
    given = world(cluster("sh", "8"), jobs=[job("j")], queues=[queue("default", running=5, limit=3)])
    assert faults(place(given), given) == ""
    assert faults(Plan((Placement(0, 0, (0,), 0.0),), ()), given) == "queue default would run 6 of at most 3"


def test_every_fault_is_named() -> None:
    said = faults(placed(LIMITED, SICK, 2))
    assert said == "limited: sick is not healthy; limited: a node is not of sick; limited: a node is not ready"


def test_rounding_is_not_a_fault_and_a_real_excess_is() -> None:
    exact = world(cluster("sh", "0.3"), jobs=[job("a", "0.1"), job("b", "0.2")])
    assert faults(place(exact), exact) == ""
    over = world(cluster("sh", "0.3"), jobs=[job("a", "0.1001"), job("b", "0.2")])
    both = Plan((Placement(0, 0, (0,), 0.0), Placement(1, 0, (0,), 0.0)), ())
    assert "n1: 0.3001 of 0.3 cpu" in faults(both, over)


@pytest.mark.parametrize("given", [world(), world(cluster("sh", "")), world(jobs=[job("j")]), world(cluster("sh", ""), jobs=[job("j")])])
def test_plans_of_empty_worlds_pass(given: Snapshot) -> None:
    assert faults(place(given), given) == ""
