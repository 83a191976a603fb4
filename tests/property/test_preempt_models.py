"""Victims for a job that may use one of several models, in small worlds in which all sets of victims can be tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.place import place
from scheduler.engine.plan import Eviction, Plan
from scheduler.engine.snapshot import CPU, FIRST_ACCELERATOR, Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import cluster, job, or_else, queue, world
from tests.property.test_alternative_plans import only
from tests.reordering import reordered
from tests.running import DrawnRun, beside, run, told

NODES = {"8+2H200": 2, "8+2A100": 2, "8+1H200+1A100": 1, "8+1,1A100": 2}
MODELS = ("H200", "A100")
LOWER = PreemptionPolicy.LOWER_PRIORITY
# What ending a run costs beside the work that is lost, in seconds of it.
AGAIN_S = 30.0


@st.composite
def held(draw: st.DrawFn, place_: str, node: str) -> list[DrawnRun]:
    """Runs that hold most of the devices of a node, and one that may hold cores alone."""
    runs, cores = list[DrawnRun](), 8
    devices = [model for model in MODELS if model in node for _ in range(NODES[node])]
    for model in [*devices, ""]:
        cpu = min(draw(st.integers(1, 4)), cores)
        if cpu and draw(st.integers(0, 5)):
            name, size = f"{place_}#{len(runs)}", f"{cpu}+1{model}" if model else f"{cpu}"
            rank, lost_s = draw(st.sampled_from([0, 0, 0, 10, 200])), draw(st.sampled_from([0.0, 50.0, 70.0]))
            fixed, ending = draw(st.integers(0, 9)) == 0, draw(st.integers(0, 14)) == 0
            runs.append(run(name, size, place_, rank=rank, lost_s=lost_s, fixed=fixed, ending=ending))
            cores -= cpu
    return runs


@st.composite
def small_worlds(draw: st.DrawFn) -> tuple[Snapshot, tuple[DrawnRun, ...]]:
    """One job that may use either model, on up to three nodes that runs fill; the world without them, and they."""
    words = draw(st.lists(st.sampled_from(sorted(NODES)), min_size=1, max_size=3))
    members = [cluster("a", " ".join(words[:2])), *([cluster("b", words[2])] if words[2:] else [])]
    places = [f"{'ab'[number // 2]}/n{number % 2 + 1}" for number in range(len(words))]
    runs = [item for place_, node in zip(places, words, strict=True) for item in draw(held(place_, node))]
    first, second = draw(st.permutations(MODELS))
    size = f"{draw(st.integers(2, 6))}+{draw(st.integers(1, 2))}"
    workers, prefer = draw(st.sampled_from([1, 1, 1, 2])), draw(st.sampled_from(["soonest", "cheapest"]))
    drawn = job("j", size + first, workers=workers, rank=100, prefer=prefer, cost={"a": 5.0, "b": 5.0})
    either = or_else(drawn, size + second, 60.0, cost={"a": 1.0, "b": 1.0})
    never = job("never", "999+1H200+1A100")
    return world(*members, jobs=[either, never], queues=[queue("default", preemption=LOWER)]), tuple(runs)


def decide(snapshot: Snapshot) -> Plan:
    plan = place(snapshot)
    check(snapshot, plan)
    return plan


def eviction_of(plan: Plan) -> Eviction | None:
    return next(iter(plan.evictions), None)


def fits_beside(snapshot: Snapshot, runs: Iterable[DrawnRun], choice: int) -> bool:
    """Whether all workers of the job have room in this way at one cluster, beside these runs; all devices here are taken whole."""
    jobs = snapshot.further.jobs if choice and snapshot.further is not None else snapshot.jobs
    model = FIRST_ACCELERATOR + int(jobs.request[0, FIRST_ACCELERATOR:].argmax())
    cpu, count, workers = float(jobs.request[0, CPU]), float(jobs.request[0, model]), int(jobs.least[0])
    rooms = dict.fromkeys(snapshot.clusters.names, 0.0)
    for home, name, total in zip(snapshot.nodes.cluster.tolist(), snapshot.nodes.names, snapshot.nodes.total, strict=True):
        here = [item for item in runs if item.places == (f"{snapshot.clusters.names[home]}/{name}",)]
        cores = total[CPU] - sum(item.size.cpu for item in here)
        devices = total[model] - sum(item.size.accelerators.get(snapshot.resources[model], 0.0) for item in here)
        rooms[snapshot.clusters.names[home]] += min(cores // cpu, devices // count)
    return max(rooms.values()) >= workers


def subsets(runs: Iterable[DrawnRun]) -> Iterator[tuple[DrawnRun, ...]]:
    found = tuple(runs)
    return (chosen for size in range(len(found) + 1) for chosen in combinations(found, size))


def cost(snapshot: Snapshot, runs: Iterable[DrawnRun]) -> tuple[int, float]:
    """The highest priority among runs, and what their work is worth: the part of the network that they hold, for as long as they ran."""
    capacity, total = snapshot.nodes.total.sum(axis=0), 0.0
    for item in runs:
        held = np.array(item.size.row(snapshot.resources)) * len(item.places)
        total += (AGAIN_S + item.lost_s) * float(np.divide(held, capacity, out=np.zeros_like(held), where=capacity > 0).max())
    return max((item.rank for item in runs), default=0), total


@given(small_worlds())
@settings(max_examples=25)
def test_room_is_made_where_any_victims_would_do_of_the_lowest_priority_and_of_none_too_many(
    drawn: tuple[Snapshot, tuple[DrawnRun, ...]],
) -> None:
    empty, runs = drawn
    snapshot = beside(empty, *runs)
    found = eviction_of(decide(snapshot))
    staying = [item for item in runs if not item.ending]
    may_end = [item for item in staying if item.rank < 100 and not item.fixed]
    if any(fits_beside(snapshot, staying, choice) for choice in (0, 1)):
        assert found is None, "it fits now, or once what is ending has ended"
        return
    sets = list(subsets(may_end))
    helps = {
        choice: [chosen for chosen in sets if fits_beside(snapshot, [item for item in staying if item not in chosen], choice)]
        for choice in (0, 1)
    }  # fmt: skip
    assert (found is None) == (not helps[0] and not helps[1])
    if found is not None:
        chosen = tuple(runs[row] for row in found.runs)
        names = {item.job for item in chosen}
        assert names in [{item.job for item in one} for one in helps[found.choice]]
        # None can be left out, and nobody of a higher priority is ended than has to be by the best of the models.
        assert not [one for one in helps[found.choice] if {item.job for item in one} < names]
        assert cost(snapshot, chosen)[0] == min(cost(snapshot, one)[0] for helping in helps.values() for one in helping)


@given(small_worlds())
@settings(max_examples=25)
def test_of_the_victims_that_each_model_alone_would_get_the_cheapest_are_ended(drawn: tuple[Snapshot, tuple[DrawnRun, ...]]) -> None:
    empty, runs = drawn
    snapshot = beside(empty, *runs)
    found = eviction_of(decide(snapshot))
    alone = {choice: eviction_of(decide(only(snapshot, 0, choice))) for choice in (0, 1)}
    if found is None:
        staying = [item for item in runs if not item.ending]
        assert not any(alone.values()) or any(fits_beside(snapshot, staying, choice) for choice in (0, 1))
        return
    same = alone[found.choice]
    assert same is not None
    assert (same.runs, same.nodes) == (found.runs, found.nodes)
    costs = {choice: cost(snapshot, [runs[row] for row in one.runs]) for choice, one in alone.items() if one is not None}
    best = costs[found.choice]
    for rank, lost in costs.values():
        assert (rank, lost) >= (best[0], best[1] - 1e-9)


@given(small_worlds(), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_the_order_of_rows_changes_no_victim(drawn: tuple[Snapshot, tuple[DrawnRun, ...]], random: Random) -> None:
    empty, runs = drawn
    snapshot = beside(empty, *runs)
    counts = (
        ("clusters", snapshot.clusters.names),
        ("nodes", snapshot.nodes.names),
        ("queues", snapshot.queues.names),
        ("jobs", snapshot.jobs.ids),
    )
    other = reordered(snapshot, **{name: random.sample(range(len(rows)), len(rows)) for name, rows in counts})
    one, two = place(snapshot), place(other)
    assert told(snapshot, one) == told(other, two)
    assert [item.choice for item in one.evictions] == [item.choice for item in two.evictions]


@given(small_worlds())
@settings(max_examples=25)
def test_check_rejects_what_was_spoiled(drawn: tuple[Snapshot, tuple[DrawnRun, ...]]) -> None:
    empty, runs = drawn
    snapshot = beside(empty, *runs)
    plan = decide(snapshot)
    found = eviction_of(plan)
    if found is None:
        return
    other = eviction_of(place(only(snapshot, 0, 1 - found.choice)))
    rest = [row for row in range(len(runs)) if row not in found.runs and not runs[row].ending]
    assert not accepted(snapshot, plan, replace(found, choice=2))
    for row in rest:
        assert not accepted(snapshot, plan, replace(found, runs=(*found.runs, row), rights=(*found.rights, found.rights[0])))
    changed = [replace(found, choice=1 - found.choice)]
    changed += [replace(found, runs=other.runs, rights=other.rights)] if other is not None else []
    for one in changed:
        # What suffices for the one may suffice for the other too: then it is a plan like any other.
        staying = [item for row, item in enumerate(runs) if row not in one.runs and not item.ending]
        assert not accepted(snapshot, plan, one) or fits_beside(snapshot, staying, one.choice)


def accepted(snapshot: Snapshot, plan: Plan, eviction: Eviction) -> bool:
    """Whether the check accepts the plan with this eviction in place of its own."""
    try:
        check(snapshot, replace(plan, evictions=(eviction,)))
    except PlanRejectedError:
        return False
    return True
