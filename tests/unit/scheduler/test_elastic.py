"""Elastic gangs: how many workers they are granted, what that costs, and what check says when it is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cluster.health import Health
from cluster.protocol import RunRequest
from scheduler.assess import assess, granted_quote
from scheduler.cycle import new_run
from scheduler.dispatch import run_request
from scheduler.engine.board import classes_of
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Windows
from scheduler.engine.verdicts import verdicts
from scheduler.errors import PlanRejectedError
from scheduler.freeze import freeze
from tests.builders import DrawnCluster, DrawnJob, DrawnQueue, cluster, decided, job, queue, world
from tests.records import NOW, candidate, cluster_spec, job_spec, machine, member, world_of

TWO_TO_EIGHT = {"min": 2, "max": 8}


@pytest.mark.parametrize(
    ("members", "queues", "jobs", "expected"),
    [
        # All where there is room for all, else as many as fit, but the least.
        ([cluster("sh", "8")], [], [job("a", workers=(2, 4))], {"a": "sh n1 n1 n1 n1"}),
        ([cluster("sh", "2 1")], [], [job("a", workers=(2, 8))], {"a": "sh n1 n1 n2"}),
        ([cluster("sh", "1")], [], [job("a", workers=(2, 8))], {"a": "gang_does_not_fit"}),
        # What runs counts; who comes first takes all it may, whoever comes after what is left.
        ([cluster("sh", "3/8")], [], [job("a", workers=(1, 8))], {"a": "sh n1 n1 n1"}),
        ([cluster("sh", "4")], [], [job("a", workers=(1, 3)), job("b", workers=(1, 3))], {"a": "sh n1 n1 n1", "b": "sh n1"}),
        # The cluster where it gets most workers, and of such the cheaper one.
        ([cluster("sh", "2"), cluster("gz", "3")], [], [job("a", workers=(1, 8), cost={"sh": 0.1, "gz": 9})], {"a": "gz n1 n1 n1"}),
        ([cluster("sh", "9"), cluster("gz", "9")], [], [job("a", workers=(1, 2), cost={"sh": 0.1, "gz": 9})], {"a": "sh n1 n1"}),
        # In one rack: the rack with most room.
        ([cluster("sh", "2#a.1 2#a.2 1#a.2 9")], [], [job("a", workers=(1, 8), same="rack")], {"a": "sh n2 n2 n3"}),
        # No more than the budget pays for there.
        ([cluster("sh", "9"), cluster("gz", "3")], [], [job("a", workers=(2, 8), paid={"sh": 2})], {"a": "gz n1 n1 n1"}),
        # No more than its queue may hold, and none when that is less than the least.
        ([cluster("sh", "9")], [queue("q", ceiling="5", held="2")], [job("a", workers=(1, 8), queue="q")], {"a": "sh n1 n1 n1"}),
        ([cluster("sh", "9")], [queue("q", ceiling="5", held="4")], [job("a", workers=(2, 8), queue="q")], {"a": "queue_quota"}),
        # Halves of two devices are no whole one, and a share lives on one device.
        ([cluster("sh", "8+1,.5,.5,1H200 8+.5,.5H200")], [], [job("a", "1+1H200", workers=(1, 4))], {"a": "sh n1 n1"}),
        ([cluster("sh", "8+.4,.9H200")], [], [job("a", "1+.4H200", workers=(1, 9))], {"a": "sh n1 n1 n1"}),
        # It takes nothing of what is guaranteed to others before them.
        ([cluster("sh", "8")], [queue("p", quota="4"), queue("q", quota="4")],
         [job("a", workers=(1, 8), queue="p"), job("b", "4", queue="q")], {"b": "sh n1", "a": "sh n1 n1 n1 n1"}),
    ],
)  # fmt: skip
def test_pictures(members: list[DrawnCluster], queues: list[DrawnQueue], jobs: list[DrawnJob], expected: dict[str, str]) -> None:
    assert decided(world(*members, queues=queues, jobs=jobs)) == expected


PICTURE = world(cluster("sh", "4 1"), cluster("gz", "3"), jobs=[job("a", workers=(2, 4), paid={"gz": 3}), job("b")])


@pytest.mark.parametrize(
    ("placed", "fault"),
    [
        ((0, (0, 0, 0, 0)), ""),
        ((0, (0, 0, 0, 1)), ""),
        ((0, (0, 0)), "a has 2 workers though there is room for more"),
        ((1, (2, 2, 2)), "a has 3 workers though there is room for more"),
        ((0, (0,)), "some workers have no node"),
        ((0, (0, 0, 0, 0, 1)), "some workers have no node, or more than one"),
    ],
)
def test_check_proves_how_many_workers_there_are(placed: tuple[int, tuple[int, ...]], fault: str) -> None:
    taken = Placement(1, 1, (2,), 0.0) if placed[0] == 0 else Placement(1, 0, (1,), 0.0)
    said = ""
    try:
        check(PICTURE, Plan((Placement(0, *placed, 0.0), taken), ()))
    except PlanRejectedError as error:
        said = str(error)
    assert fault in said if fault else not said


def test_room_under_maintenance_is_not_counted_on() -> None:
    drawn = world(cluster("sh", "2 2"), jobs=[job("a", workers=(1, 4), queue="q")], queues=[queue("q", spread=True)])
    covers, shut = np.array([[False, True]]), np.array([[False]])
    windows = Windows(("mnt",), np.array([60.0]), np.array([90.0]), np.array([True]), covers, shut)
    assert decided(replace(drawn, windows=windows)) == {"a": "sh n1 n1"}


def test_more_than_the_budget_pays_for_is_rejected() -> None:
    cheap = world(cluster("gz", "9"), jobs=[job("a", workers=(2, 4), paid={"gz": 3})])
    with pytest.raises(PlanRejectedError, match="more than one"):
        check(cheap, Plan((Placement(0, 0, (0,) * 4, 0.0),), ()))
    assert [len(item.nodes) for item in place(cheap).placements] == [3]


def test_verdicts_say_with_how_many_workers_it_would_start() -> None:
    found = verdicts(PICTURE, 0, place(PICTURE))
    assert [(item.reason, item.workers, item.chosen) for item in found] == [(Reason.FITS, 4, True), (Reason.FITS, 3, False)]


def test_the_board_refuses_what_it_cannot_decide() -> None:
    with pytest.raises(ValueError, match="fewer workers"):
        classes_of(PICTURE.jobs)


def test_a_snapshot_has_the_range_and_what_the_budget_pays_for() -> None:
    frozen_world = world_of(member(), nodes=[machine()])
    gang = job_spec(resources={"workers": TWO_TO_EIGHT, "memory": "1GiB"}, budget="2.10 CNY")
    found = freeze(frozen_world, [candidate(frozen_world, gang), candidate(frozen_world, job_spec())], {}).snapshot.jobs
    assert (found.workers.tolist(), found.least.tolist(), found.most.tolist()) == ([8, 1], [2, 1], [[5], [1]])
    assert found.cost[0, 0] == 0.8, "clusters are compared by the price of as many workers everywhere"


def quotes(budget: str | None) -> Any:
    fields: dict[str, Any] = {"budget": budget} if budget else {}
    return assess(job_spec(resources={"workers": TWO_TO_EIGHT}, **fields), (), cluster_spec(), NOW)


@pytest.mark.parametrize(
    ("budget", "workers", "quote", "reason"),
    [
        (None, 8, "3.20 CNY", Reason.FITS),
        ("3.20 CNY", 8, "3.20 CNY", Reason.FITS),
        ("3.19 CNY", 7, "2.80 CNY", Reason.FITS),
        ("0.80 CNY", 2, "0.80 CNY", Reason.FITS),
        ("0.79 CNY", 2, "0.80 CNY", Reason.OVER_BUDGET),
        ("9.00 USD", 8, "3.20 CNY", Reason.CURRENCY),
    ],
)
def test_the_budget_is_held_against_what_may_be_granted(budget: str | None, workers: int, quote: str, reason: Reason) -> None:
    found = quotes(budget)
    assert (found.workers, str(found.quote.total), str(found.least_quote.total)) == (workers, quote, "0.80 CNY")
    assert found.reason is reason
    assert not found.against or "for 2 workers" in found.against[0].message or reason is Reason.CURRENCY


def test_a_run_is_quoted_and_told_for_what_it_was_granted() -> None:
    spec = job_spec(resources={"workers": TWO_TO_EIGHT})
    record = member(health=Health.HEALTHY)
    frozen = freeze(world_of(record, nodes=[machine(cpu=3)]), [candidate(world_of(record), spec)], {})
    (placement,) = place(frozen.snapshot).placements
    waiting: Any = type("Waiting", (), {"id": "job-9", "attempts": 0, "queue": "default"})
    run = new_run(waiting, frozen, placement, NOW, ())
    assert run.nodes == ["n1"] * 3
    assert run.quote["total"] == "1.20 CNY"
    assert {line["detail"] for line in run.quote["lines"]} == {"1 cores, 3 workers", "1GiB, 3 workers"}
    request: RunRequest = run_request(spec, run, ())
    assert request.nodes == ("n1",) * 3
    assert (
        granted_quote(spec, (), record.spec, frozen.candidates[0].ways[0].assessments[0], 8)
        is frozen.candidates[0].ways[0].assessments[0].quote
    )


def test_like_jobs_with_other_ranges_are_not_of_one_class() -> None:
    # The first finds no room; that says nothing of the second, which needs less.
    assert decided(world(cluster("sh", "2"), jobs=[job("a", workers=(3, 4)), job("b", workers=(2, 4))])) == {
        "a": "node_busy", "b": "sh n1 n1",
    }  # fmt: skip


def test_left_out_arrays_are_those_of_gangs_that_are_not_elastic() -> None:
    jobs = world(cluster("sh", "8"), jobs=[job("a", workers=3), job("b")]).jobs
    assert np.array_equal(jobs.least, jobs.workers)
    assert jobs.most.tolist() == [[3], [1]]
