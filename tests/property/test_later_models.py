"""Waiting for a cheaper hour by one of several models: the cheapest of what each of them alone would be promised."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.later import cost_at
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Snapshot
from tests.builders import cluster, job, or_else, world
from tests.reordering import reordered
from tests.timed import timed, waiting

HOUR = 3600.0
MEMBERS = ("gz", "sh")
hours = st.builds(
    lambda now, costs: {0.0: float(now), **{(at + 1) * HOUR: float(cost) for at, cost in enumerate(costs) if cost is not None}},
    st.integers(1, 20), st.lists(st.none() | st.integers(1, 20), max_size=8),
)  # fmt: skip
tables = st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, hours))


@st.composite
def worlds(draw: st.DrawFn) -> Snapshot:
    """A job that may run on an H200 or an A100 and may wait, beside another one; each model is at some members, used until some hour."""
    nodes = draw(st.lists(st.sampled_from(["8+1H200", "8+1A100", "8+1H200+1A100", "8+0/1H200+1A100"]), min_size=2, max_size=2))
    jobs = [or_else(job("a", "1+1H200"), "1+1A100", draw(st.sampled_from([0.0, HOUR]))), job("b", "1+1A100", rank=draw(st.integers(0, 1)))]
    used = [(f"{name} n1", "0+1H200", draw(st.integers(1, 8)) * HOUR) for name, words in zip(MEMBERS, nodes, strict=True) if "0/1" in words]
    drawn = world(*(cluster(name, words, wait_s=0.0) for name, words in zip(MEMBERS, nodes, strict=True)), jobs=jobs)
    found = timed(drawn, {"a": draw(st.integers(1, 5)) * HOUR, "b": 9 * HOUR}, running=used, heads=draw(st.integers(0, 1)))
    latest_s = draw(st.integers(0, 12)) * HOUR
    for choice in (0, 1):
        found = waiting(found, "a", draw(tables), latest_s, choice=choice)
    return found


def promised(snapshot: Snapshot) -> tuple[float, float] | None:
    """What the job costs at the hour that it waits for, and when that is; None where it does not wait."""
    plan = place(snapshot)
    check(snapshot, plan)
    row = snapshot.jobs.ids.index("a")
    if not any(item.job == row and item.blocker is Reason.CHEAPER_LATER for item in plan.unplaced):
        return None
    [item] = [item for item in plan.promises if item.job == row]
    [table] = [table for table in snapshot.later if table.choice == item.choice]
    return round(float(cost_at(table, item.cluster, [item.start_s])[0]), 6), item.start_s


@given(worlds())
@settings(max_examples=60)
def test_who_waits_does_so_for_the_cheapest_of_what_each_model_offers(snapshot: Snapshot) -> None:
    found = promised(snapshot)
    # The same question by each model alone; what the job could cost now stays the same, because it may start by either.
    alone = [promised(replace(snapshot, later=(table,))) for table in snapshot.later]
    starts = any(item.job == snapshot.jobs.ids.index("a") for item in place(replace(snapshot, later=())).placements)
    if starts:
        assert found == min((item for item in alone if item is not None), default=None)
    elif found is None:
        # Who cannot start now is compared with what it would cost now by its cheapest model.
        assert all(item is None or item[0] >= 0.98 * min(table.cost[:, 0].min() for table in snapshot.later) for item in alone)


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_rows_does_not_matter(snapshot: Snapshot, random: object) -> None:
    orders = {}
    for name, count in (("clusters", 2), ("nodes", len(snapshot.nodes.names)), ("jobs", 2)):
        orders[name] = list(range(count))
        random.shuffle(orders[name])  # type: ignore[attr-defined]
    moved = reordered(snapshot, queues=range(len(snapshot.queues.names)), **orders)
    assert promised(snapshot) == promised(replace(moved, later=moved.later[::-1]))
