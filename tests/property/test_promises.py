"""Promised starts: no job that goes in front delays one, no gang starves, and `check` sees every plan that breaks that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.aftermath import carried_out, only_jobs
from scheduler.engine.alternatives import ways_of, with_alternatives
from scheduler.engine.check import check
from scheduler.engine.foresight import Foresight
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Queues, Running, Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import cluster, job, or_else, queue, world
from tests.property.worlds import fits, is_legal, left_over, snapshots, suits, workers_that_fit
from tests.reordering import reordered
from tests.timed import Arrival, timed, told

LENGTHS = st.sampled_from([1.0, 2.0, 5.0, 10.0, 10.0, 30.0, float("inf")])


@st.composite
def worlds_in_time(draw: st.DrawFn) -> Snapshot:
    """A world whose nodes are held in part by runs that end."""
    return in_time(draw, draw(snapshots(most_jobs=9)))


def in_time(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """The world with runs that hold what is in use on its nodes, until some end, and with lengths of its jobs."""
    nodes = snapshot.nodes
    held = np.maximum(nodes.total - nodes.free, 0.0)
    rows = np.flatnonzero(held.any(axis=1))
    parts = [draw(st.sampled_from([1, 2])) for _ in rows]
    owners = np.repeat(np.arange(len(rows)), parts)
    runs = len(owners)
    share = (held[rows] / np.array(parts, dtype=np.float64).reshape(-1, 1))[owners]
    ends = np.array([draw(LENGTHS) for _ in range(runs)], dtype=np.float64)
    running = Running(tuple(map(str, range(runs))), share, ends, np.arange(runs), rows[owners])
    lengths = np.array([draw(LENGTHS) for _ in snapshot.jobs.ids], dtype=np.float64)
    return replace(snapshot, running=running, heads=draw(st.sampled_from([1, 1, 2, 50])), jobs=replace(snapshot.jobs, length_s=lengths))


@settings(max_examples=60)
@given(worlds_in_time())
def test_plans_with_promises_are_legal_and_accepted(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    assert is_legal(snapshot, plan)
    assert len(plan.promises) <= snapshot.heads
    assert {item.job for item in plan.promises} <= {item.job for item in plan.unplaced}


@settings(max_examples=100)
@given(worlds_in_time())
def test_places_that_are_not_looked_at_start_no_sooner(snapshot: Snapshot) -> None:
    bounds = Foresight._bounds

    def none_left_out(self: Foresight, job: int, places: Sequence[np.ndarray]) -> np.ndarray:
        found = bounds(self, job, places)
        lengths, share = self._holds_s[job], np.zeros_like(snapshot.nodes.total)
        for place_, nodes in enumerate(places):
            for length_s in lengths if len(nodes) else ():
                seat = self._soonest(job, nodes, float(length_s), share)
                assert seat is None or found[place_] <= seat[1]
        return np.where(np.isfinite(found), 0.0, np.inf)

    plan = place(snapshot)
    with patch.object(Foresight, "_bounds", none_left_out):
        assert place(snapshot) == plan


@settings(max_examples=60)
@given(worlds_in_time())
def test_without_heads_the_plan_is_as_it_was(snapshot: Snapshot) -> None:
    before = replace(snapshot, running=None, heads=0, jobs=replace(snapshot.jobs, length_s=np.zeros(0)))
    assert place(replace(snapshot, heads=0)) == place(before)


@settings(max_examples=60)
@given(worlds_in_time(), st.data())
def test_promises_do_not_depend_on_the_order_of_rows(snapshot: Snapshot, data: st.DataObject) -> None:
    counts = (len(part) for part in (snapshot.clusters.names, snapshot.nodes.names, snapshot.queues.names, snapshot.jobs.ids))
    clusters, nodes, queues, jobs = (data.draw(st.permutations(range(count))) for count in counts)
    other = reordered(snapshot, clusters=clusters, nodes=nodes, queues=queues, jobs=jobs)

    def named(world: Snapshot) -> list[object]:
        ids, seats = world.jobs.ids, world.nodes
        return [
            (
                ids[item.job],
                [(world.clusters.names[seats.cluster[node]], seats.names[node]) for node in item.nodes],
                item.start_s,
                item.end_s,
            )
            for item in place(world).promises
        ]

    assert named(other) == named(snapshot)


@settings(max_examples=60)
@given(worlds_in_time())
def test_who_waits_for_reserved_room_fits_there_now_and_would_delay_a_promised_start(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    left = left_over(snapshot, plan)
    for item in plan.unplaced:
        for row in [row for row, reason in enumerate(item.clusters) if reason is Reason.RESERVED_FOR_ANOTHER]:
            assert fits(snapshot, item.job, row, left)
            went = Placement(item.job, row, tuple(_seated(snapshot, item.job, row, left)), 0.0)
            others = tuple(other for other in plan.unplaced if other is not item)
            kept = tuple(promise for promise in plan.promises if promise.job != item.job)
            with pytest.raises(PlanRejectedError):
                check(replace(snapshot, queues=_unlimited(snapshot.queues)), Plan((*plan.placements, went), others, kept))


def _unlimited(queues: Queues) -> Queues:
    return Queues(queues.names, queues.weight, queues.held, queues.running, np.full(len(queues.names), -1))


def _seated(snapshot: Snapshot, job: int, cluster: int, left: list[list[float]]) -> list[int]:
    nodes = [node for node in np.flatnonzero(snapshot.nodes.cluster == cluster).tolist() if suits(snapshot, job, node)]
    seats = [node for node in nodes for _ in range(int(min(workers_that_fit(snapshot, job, node, left), 99)))]
    return seats[: int(snapshot.jobs.workers[job])]


CORRUPTIONS: dict[str, Callable[[Plan], Plan]] = {
    "promised too early": lambda plan: replace(plan, promises=(replace(plan.promises[0], start_s=0.5, end_s=0.5 + _length(plan)),)),
    "promised never": lambda plan: replace(plan, promises=(replace(plan.promises[0], start_s=float("inf")),)),
    "promised twice": lambda plan: replace(plan, promises=(*plan.promises, plan.promises[0])),
    "forgotten": lambda plan: replace(plan, promises=()),
    "too short": lambda plan: replace(plan, promises=(replace(plan.promises[0], end_s=plan.promises[0].start_s + 0.1),)),
    "one node short": lambda plan: replace(plan, promises=(replace(plan.promises[0], nodes=plan.promises[0].nodes[1:]),)),
    "no such node": lambda plan: replace(plan, promises=(replace(plan.promises[0], nodes=(99,) * len(plan.promises[0].nodes)),)),
    "no such job": lambda plan: replace(plan, promises=(replace(plan.promises[0], job=99),)),
}


def _length(plan: Plan) -> float:
    return plan.promises[0].end_s - plan.promises[0].start_s


def gang_before_others() -> Snapshot:
    """Node 1 is busy for 100 s, so the gang of three nodes starts then; `short` is done by then, `long` is not."""
    jobs = [job("gang", "8", workers=3), job("short", "2"), job("long", "2")]
    lengths = {"gang": 50.0, "short": 90.0, "long": 110.0}
    return timed(world(cluster("sh", "0/8 8 8"), jobs=jobs), lengths, running=[("sh n1", "8", 100.0)], heads=1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_check_rejects_a_plan_whose_promise_is_wrong(name: str) -> None:
    snapshot = gang_before_others()
    plan = place(snapshot)
    check(snapshot, plan)
    wrong = CORRUPTIONS[name](plan)
    assert wrong != plan
    with pytest.raises(PlanRejectedError):
        check(snapshot, wrong)


jobs_in_time = st.builds(
    Arrival,
    at=st.integers(0, 30).map(float),
    size=st.sampled_from(["1", "2", "4", "8"]),
    workers=st.sampled_from([1, 1, 1, 2, 3]),
    length_s=st.sampled_from([1.0, 3.0, 7.0, 20.0]),
)


@settings(max_examples=40)
@given(st.lists(jobs_in_time, min_size=3, max_size=14), st.sampled_from([1, 2, 50]))
def test_a_promised_start_is_kept_when_lengths_are_known(arrivals: list[Arrival], heads: int) -> None:
    """The first blocked job of a queue starts no later than it was first told, whoever comes and goes in front of it."""
    tale = told([8, 4, 8], sorted(arrivals, key=lambda item: item.at), heads=heads)
    for _, name, start_at in tale.promised:
        assert tale.started[name] <= start_at + 1e-6
    # Three workers of 8 cores fit nowhere, and are the only ones that never start.
    never = {f"j{row:03}" for row, item in enumerate(sorted(arrivals, key=lambda item: item.at)) if (item.size, item.workers) == ("8", 3)}
    assert set(tale.started) == {f"j{row:03}" for row in range(len(arrivals))} - never


STREAM = [Arrival(at=2.5 * number, size="8", workers=1, length_s=10.0) for number in range(60)]
GANG = Arrival(at=7.6, size="8", workers=4, length_s=5.0)


@pytest.mark.parametrize(("heads", "starts_by"), [(0, None), (1, 20.0), (4, 20.0), (200, 20.0)])
def test_a_gang_does_not_starve_behind_a_stream_of_small_jobs(heads: int, starts_by: float | None) -> None:
    """Every small job fits into the hole that the last one left; without a promise the gang of all nodes waits for the last of them."""
    arrivals = sorted([*STREAM, GANG], key=lambda item: item.at)
    gang = f"j{arrivals.index(GANG):03}"
    tale = told([8, 8, 8, 8], arrivals, heads=heads)
    assert len(tale.started) == len(arrivals)
    if starts_by is None:
        assert tale.started[gang] >= max(start for name, start in tale.started.items() if name != gang)
    else:
        assert tale.started[gang] <= starts_by


@st.composite
def choices_in_time(draw: st.DrawFn) -> Snapshot:
    """Nodes with devices of two models, all or some of them held by runs that end, and jobs that may use one of several models."""
    nodes = draw(st.lists(st.sampled_from(["H200", "A100"]), min_size=1, max_size=3))
    held = [draw(st.integers(0, 2)) for _ in nodes]
    drawn = " ".join(f"{8 - count}/8+{2 - count}/2{model}" for model, count in zip(nodes, held, strict=True))
    taken = [(row, count, model) for row, (model, count) in enumerate(zip(nodes, held, strict=True), 1) if count]
    runs = [(f"a n{row}", f"{count}+{count}{model}", draw(LENGTHS)) for row, count, model in taken]
    jobs, lengths = [], {}
    for row in range(draw(st.integers(1, 6))):
        models = draw(st.permutations(["H200", "A100"]))[: draw(st.integers(1, 2))]
        size, workers = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 1, 2]))
        one = job(f"j{row}", f"1+{size}{models[0]}", workers=workers)
        for model in models[1:]:
            one = or_else(one, f"1+{size}{model}", draw(st.sampled_from([0.0, 4.0, 20.0])))
        jobs.append(one)
        lengths[one.name] = draw(LENGTHS)
    limited = [queue("default", ceiling=draw(st.sampled_from(["", "64+1H200", "64+4H200+0A100"])))]
    snapshot = world(cluster("a", drawn), jobs=jobs, queues=limited)
    return timed(snapshot, lengths, running=runs, heads=draw(st.sampled_from([1, 2, 50])))


@settings(max_examples=60)
@given(choices_in_time())
def test_promises_of_jobs_with_a_choice_are_accepted_and_the_soonest(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    if plan.promises and not plan.placements:
        # The first of them starts no later than it would if it had any of its ways alone.
        first = plan.promises[0]
        for choice, row in enumerate(ways_of(snapshot)[first.job]):
            every = with_alternatives(snapshot)
            alone = place(only_jobs(every, [row]))
            for item in alone.promises if choice != first.choice else ():
                assert first.start_s <= item.start_s


@st.composite
def devices_in_time(draw: st.DrawFn) -> Snapshot:
    """Nodes whose devices are held in part, each by runs that end, and jobs that ask for shares, for whole ones, or for neither."""
    parts = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=2, max_size=3)
    members, runs, devices = [], [], []
    for name in ("a", "b")[: draw(st.integers(1, 2))]:
        drawn = []
        for node in range(1, draw(st.integers(1, 2)) + 1):
            free = draw(parts)
            drawn.append(f"8+{','.join(map(str, free))}H200")
            for number, part in enumerate(free):
                for held in [1.0] if part == 0 else [0.25] * round((1 - part) * 4):
                    runs.append((f"{name} n{node}", f"0+{held}H200", draw(LENGTHS)))
                    devices.append(str(number))
        members.append(cluster(name, " ".join(drawn), wait_s=0.0))
    sizes = st.sampled_from(["1+1H200", "1+2H200", "1+.5H200", "1+.75H200", "1+.25H200", "1"])
    names = [f"j{row}" for row in range(draw(st.integers(1, 7)))]
    jobs = [job(name, draw(sizes), workers=draw(st.sampled_from([1, 1, 1, 2]))) for name in names]
    lengths = {name: draw(LENGTHS) for name in names}
    return timed(world(*members, jobs=jobs), lengths, running=runs, heads=draw(st.sampled_from([1, 2, 50])), devices=devices)


@settings(max_examples=150)
@given(devices_in_time())
def test_promises_by_device_are_accepted(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    assert place(snapshot) == plan


@settings(max_examples=60)
@given(devices_in_time())
def test_the_first_promise_is_kept_once_the_plan_is_carried_out(snapshot: Snapshot) -> None:
    """Whoever went in front, the same start is promised again, or an earlier one."""
    plan = place(snapshot)
    if not plan.promises or not np.isfinite(snapshot.jobs.length_s).all():
        return
    after = carried_out(snapshot, plan)
    again = place(after)
    check(after, again)
    first = plan.promises[0]
    now = next(item for item in again.promises if after.jobs.ids[item.job] == snapshot.jobs.ids[first.job])
    assert now.start_s <= first.start_s
