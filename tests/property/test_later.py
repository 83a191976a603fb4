"""Waiting for a cheaper or cleaner hour: whatever that costs and whoever else is there, nobody waits past its latest start or for a
dearer one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.later import cost_at
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.reasons import LATER, Reason
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from tests.builders import DrawnJob, cluster, job, world
from tests.reordering import reordered
from tests.timed import timed, waiting

HOUR = 3600.0
MEMBERS = ("gz", "sh")
table = st.builds(
    lambda now, costs: {0.0: float(now), **{(at + 1) * HOUR: float(cost) for at, cost in enumerate(costs) if cost is not None}},
    st.integers(1, 20), st.lists(st.none() | st.integers(1, 20), max_size=10),
)  # fmt: skip
prices = st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, table))
latest = st.integers(-1, 30).map(lambda half_hours: half_hours * HOUR / 2)


# What a budget pays for, where that is not everything; the first may be paid now.
stretch = st.tuples(st.integers(0, 12), st.integers(0, 6)).map(lambda pair: (pair[0] * HOUR, (pair[0] + pair[1]) * HOUR))
paid = st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, st.lists(stretch, max_size=2)))


@st.composite
def worlds(draw: st.DrawFn) -> Snapshot:
    """Two members with machines that are used in part until some hour, and jobs of which some may wait."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    jobs: list[DrawnJob] = [
        job(f"j{number}", str(size), workers=draw(st.integers(1, 2)), rank=draw(st.integers(0, 1))) for number, size in enumerate(sizes)
    ]
    lengths = {item.name: draw(st.integers(1, 10)) * HOUR for item in jobs}
    running = [(f"{name} n1", str(8 - free), draw(st.integers(1, 8)) * HOUR) for name in MEMBERS if (free := draw(st.integers(0, 7)))]
    used = {where.split()[0]: 8 - int(size) for where, size, _ in running}
    nodes = [cluster(name, f"{used.get(name, 8)}/8 8", wait_s=0.0) for name in MEMBERS]
    found = timed(world(*nodes, jobs=jobs), lengths, running=running, heads=draw(st.integers(0, 2)))
    for item in jobs:
        if draw(st.booleans()):
            found = waiting(
                found, item.name, draw(prices), draw(latest), draw(st.integers(0, 3)), cleaner=draw(st.booleans()), within_s=draw(paid)
            )
    return found


def decide(snapshot: Snapshot) -> Plan:
    plan = place(snapshot)
    check(snapshot, plan)
    return plan


@given(worlds())
def test_who_waits_is_promised_a_start_in_time_that_is_cheaper_than_now(snapshot: Snapshot) -> None:
    plan, later = decide(snapshot), {item.job: item for item in snapshot.later}
    promised = {item.job: item for item in plan.promises}
    waits = [item.job for item in plan.unplaced if item.blocker in LATER]
    assert len(waits) <= snapshot.waits
    for job_row in waits:
        costs, promise = later[snapshot.jobs.ids[job_row]], promised[job_row]
        own = next(item.blocker for item in plan.unplaced if item.job == job_row)
        assert 0 < promise.start_s <= costs.latest_s[promise.cluster]
        assert any(begin <= promise.start_s <= end for begin, end in costs.within_s[promise.cluster].tolist())
        paid_now = (costs.latest_s > -np.inf) & (costs.within_s[:, :, 0] == 0).any(axis=1)
        if paid_now.any():
            assert own is (Reason.CLEANER_LATER if costs.cleaner else Reason.CHEAPER_LATER)
            assert cost_at(costs, promise.cluster, np.array([promise.start_s]))[0] < costs.cost[paid_now, 0].max()
        else:
            assert own is Reason.AFFORDABLE_LATER


@given(worlds(), st.data())
def test_a_plan_in_which_somebody_waits_too_long_or_for_nothing_is_rejected(snapshot: Snapshot, data: st.DataObject) -> None:
    plan, later = decide(snapshot), {item.job: item for item in snapshot.later}
    waits = [row for row, item in enumerate(plan.promises) if snapshot.jobs.ids[item.job] in later]
    waits = [row for row in waits if any(item.job == plan.promises[row].job and item.blocker in LATER for item in plan.unplaced)]
    if not waits:
        return
    promise = plan.promises[row := data.draw(st.sampled_from(waits))]
    name = snapshot.jobs.ids[promise.job]
    shift_s = later[name].latest_s[promise.cluster] + HOUR - promise.start_s
    late = replace(promise, start_s=promise.start_s + shift_s, end_s=promise.end_s + shift_s)
    spoilt = [
        replace(plan, promises=tuple(late if item is promise else item for item in plan.promises)),
        replace(plan, promises=plan.promises[:row] + plan.promises[row + 1 :]),
    ]
    for broken in spoilt:
        with pytest.raises(PlanRejectedError):
            check(snapshot, broken)
    with pytest.raises(PlanRejectedError):
        check(replace(snapshot, later=tuple(item for item in snapshot.later if item.job != name)), plan)


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(snapshot: Snapshot, random: object) -> None:
    orders = {}
    for name, count in (("clusters", 2), ("nodes", len(snapshot.nodes.names)), ("jobs", len(snapshot.jobs.ids))):
        orders[name] = list(range(count))
        random.shuffle(orders[name])  # type: ignore[attr-defined]
    queues = list(range(len(snapshot.queues.names)))
    one, other = decide(snapshot), decide(moved := reordered(snapshot, queues=queues, **orders))

    def said(world: Snapshot, plan: Plan) -> set[tuple[str, str, float]]:
        ids, names = world.jobs.ids, world.clusters.names
        placed = {(ids[item.job], names[item.cluster], 0.0) for item in plan.placements}
        return placed | {(ids[item.job], names[item.cluster], item.start_s) for item in plan.promises}

    assert said(snapshot, one) == said(moved, other)


@given(prices.filter(bool), latest, latest, st.integers(1, 10))
def test_alone_it_finds_the_cheapest_hour_and_more_time_never_makes_it_dearer(
    costs: dict[str, dict[float, float]], one: float, other: float, hours: int
) -> None:
    def paid(latest_s: float) -> float:
        drawn = world(cluster("gz", "8", wait_s=0.0), cluster("sh", "8", wait_s=0.0), jobs=[job("a", "8")])
        snapshot = waiting(timed(drawn, {"a": hours * HOUR}), "a", costs, latest_s)
        plan, [table] = decide(snapshot), snapshot.later
        if plan.placements:
            return float(table.cost[plan.placements[0].cluster, 0])
        return float(cost_at(table, plan.promises[0].cluster, np.array([plan.promises[0].start_s]))[0])

    least_now = min(table[0.0] for table in costs.values())
    earlier, later = sorted((one, other))
    with_less, with_more = paid(earlier), paid(later)
    assert with_more <= with_less + 0.02 * least_now
    within = [cost for table in costs.values() for at, cost in table.items() if 0 < at <= later]
    assert with_more <= min([*(cost + 0.02 * least_now for cost in within), least_now])
