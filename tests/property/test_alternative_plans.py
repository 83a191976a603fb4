"""Plans for jobs that may use one of several models: legal, whole, and by the best way that there is room for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.aftermath import carried_out
from scheduler.engine.alternatives import ways_of
from scheduler.engine.board import Board, classes_of
from scheduler.engine.check import check
from scheduler.engine.order import by_name
from scheduler.engine.place import place
from scheduler.engine.snapshot import Further, Prefer, Snapshot
from tests.builders import DrawnJob, cluster, job, or_else, queue, world
from tests.reordering import reordered

nodes = st.lists(
    st.sampled_from(["8+2H200", "8+1/2H200", "8+1A100", "8+1,.5A100+1H200", "8", "1+2L40", "8+1L40!"]), min_size=1, max_size=3
).map(" ".join)
models = st.lists(st.sampled_from(["H200", "A100", "L40"]), min_size=1, max_size=3, unique=True)
ceilings = st.sampled_from(["", "64+1H200", "64+0H200+1A100+0L40", "3"])


@st.composite
def choosers(draw: st.DrawFn, name: str) -> DrawnJob:
    """A job with one way for each of some models, each with a time and a price."""
    first, *others = draw(models)
    prefer, workers = draw(st.sampled_from(["balanced", "soonest", "cheapest"])), draw(st.sampled_from([1, 1, 2]))
    found = job(name, f"1+1{first}", workers=workers, prefer=prefer, cost={"a": draw(st.sampled_from([1.0, 5.0]))})
    for model in others:
        found = or_else(found, f"1+1{model}", draw(st.sampled_from([0.0, 60.0])), cost={"a": draw(st.sampled_from([1.0, 3.0]))})
    return found


@st.composite
def worlds_of_choice(draw: st.DrawFn) -> Snapshot:
    members = [cluster(name, draw(nodes)) for name in ("a", "b")[: draw(st.integers(1, 2))]]
    jobs = [draw(choosers(f"j{place}")) for place in range(draw(st.integers(1, 5)))]
    return world(*members, jobs=jobs, queues=[queue("default", ceiling=draw(ceilings))])


def only(snapshot: Snapshot, job_row: int, choice: int) -> Snapshot:
    """The same world in which one job has just one of its ways."""
    if snapshot.further is None:
        return snapshot
    further, jobs = snapshot.further, snapshot.jobs
    rows = np.flatnonzero(further.of == job_row)
    stay = further.of != job_row
    kept = {name: column[stay] for name, column in vars(further.jobs).items() if isinstance(column, np.ndarray)}
    left = replace(further.jobs, ids=tuple(np.array(further.jobs.ids)[stay].tolist()), **kept)
    if choice:
        changed = {name: column.copy() for name, column in vars(jobs).items() if isinstance(column, np.ndarray)}
        for name, column in changed.items():
            column[job_row] = getattr(further.jobs, name)[rows[choice - 1]]
        jobs = replace(jobs, **changed)
    return replace(snapshot, jobs=jobs, further=Further(further.of[stay], left) if stay.any() else None)


@settings(max_examples=60)
@given(worlds_of_choice())
def test_plans_of_jobs_with_a_choice_are_accepted(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    answered = [item.job for item in plan.placements] + [item.job for item in plan.unplaced]
    assert sorted(answered) == list(range(len(snapshot.jobs.ids)))


@settings(max_examples=60)
@given(worlds_of_choice())
def test_a_job_without_the_ways_it_did_not_take_goes_the_same_way(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    for item in plan.placements[:1]:
        again = place(only(snapshot, item.job, item.choice)).placements[0]
        assert (again.job, again.cluster, again.nodes, again.devices) == (item.job, item.cluster, item.nodes, item.devices)


@settings(max_examples=60)
@given(worlds_of_choice())
def test_a_job_that_waits_fits_in_none_of_its_ways(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    last = max((item.job for item in plan.unplaced), default=None)
    if last is None or last != len(snapshot.jobs.ids) - 1:
        return
    ways = 1 + (0 if snapshot.further is None else int((snapshot.further.of == last).sum()))
    for choice in range(ways):
        assert last in {item.job for item in place(only(snapshot, last, choice)).unplaced}


@settings(max_examples=60)
@given(worlds_of_choice())
def test_what_waits_finds_nothing_in_any_of_its_ways_once_the_plan_is_carried_out(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    after = carried_out(snapshot, plan)
    check(after, place(after))
    assert not place(after).placements
    others = [] if snapshot.further is None else snapshot.further.of.tolist()
    assert [len(rows) for rows in ways_of(after)] == [1 + others.count(item.job) for item in plan.unplaced]


@settings(max_examples=40)
@given(worlds_of_choice(), st.data())
def test_the_choice_does_not_depend_on_the_order_of_rows(snapshot: Snapshot, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(snapshot.clusters.names))))
    other = reordered(snapshot, clusters=order, nodes=range(len(snapshot.nodes.names)), queues=range(1), jobs=range(len(snapshot.jobs.ids)))
    told = [[(item.job, item.nodes, item.choice) for item in place(given_world).placements] for given_world in (snapshot, other)]
    assert told[0] == told[1]


@settings(max_examples=30)
@given(worlds_of_choice())
def test_the_board_refuses_jobs_with_a_choice(snapshot: Snapshot) -> None:
    if snapshot.further is not None:
        named = by_name(snapshot).snapshot
        balanced = replace(named.jobs, prefer=np.zeros_like(named.jobs.prefer) + Prefer.BALANCED)
        with pytest.raises(ValueError, match="one way to run a job"):
            Board(named, classes_of(balanced)[0])
