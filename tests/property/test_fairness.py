"""Fairness between queues: the properties of dominant-resource fairness, in a tree too, and that quotas are reached.

The properties (Ghodsi et al., NSDI 2011) hold exactly where work can be divided at will. Here a task is at least one part in two
hundred of the node, so each holds up to the tasks that are in play: `slack` is the sum of one task of every queue, as a share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.snapshot import Snapshot
from tests.builders import DrawnJob, DrawnQueue, cluster, decided, job, queue, world

Vector = tuple[int, int, int]
SIZE = 200
NODE = f"{SIZE}:{SIZE}+{SIZE}H200"

demands = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)).filter(any)
weights = st.sampled_from([0.5, 1.0, 2.0, 3.0])
few = settings(max_examples=40)


def hungry(name: str, demand: Vector) -> list[DrawnJob]:
    """More tasks of a queue than the node could ever hold."""
    cpu, gib, devices = demand
    return [job(f"{name}-{number:03}", f"{cpu}:{gib}+{devices}H200", queue=name) for number in range(SIZE // max(demand) + 1)]


def tasks(wanted: Sequence[Vector], weight: Sequence[float] = (), queues: Sequence[DrawnQueue] = ()) -> list[int]:
    """How many tasks each queue gets: q0, q1, …"""
    given_weights = weight or [1.0] * len(wanted)
    drawn = list(queues) or [queue(f"q{row}", given_weights[row]) for row in range(len(wanted))]
    snapshot = world(cluster("sh", NODE), jobs=[item for row, demand in enumerate(wanted) for item in hungry(f"q{row}", demand)],
                     queues=drawn)  # fmt: skip
    plan = place(snapshot)
    check(snapshot, plan)
    got = Counter(snapshot.queues.names[snapshot.jobs.queue[item.job]] for item in plan.placements)
    return [got[f"q{row}"] for row in range(len(wanted))]


def dominant(demand: Vector) -> float:
    """The share of the node that one task holds of its scarcest resource."""
    return max(demand) / SIZE


def slack(*wanted: Vector) -> float:
    """One task of every queue."""
    return sum(dominant(demand) for demand in wanted) + 1e-9


def left_over(wanted: Sequence[Vector], got: Sequence[int]) -> list[int]:
    """What is left of the node."""
    return [SIZE - sum(demand[part] * count for demand, count in zip(wanted, got, strict=True)) for part in range(3)]


def divided_at_will(wanted: Sequence[Vector], weight: Sequence[float]) -> list[float]:
    """The dominant shares of the exact allocation: all rise by weight together, who needs what is used up stops."""
    shares, free, open_rows = [0.0] * len(wanted), [1.0] * 3, set(range(len(wanted)))
    while open_rows:
        # What one unit of the common level costs of each resource.
        cost = [sum(weight[row] * wanted[row][part] / max(wanted[row]) for row in open_rows) for part in range(3)]
        level = min(free[part] / cost[part] for part in range(3) if cost[part] > 0)
        for row in open_rows:
            shares[row] += level * weight[row]
        free = [have - level * asked for have, asked in zip(free, cost, strict=True)]
        full = [part for part in range(3) if free[part] <= 1e-9]
        open_rows = {row for row in open_rows if not any(wanted[row][part] for part in full)}
    return shares


@few
@given(st.lists(st.tuples(demands, weights), min_size=1, max_size=3))
def test_shares_are_those_of_work_that_divides_at_will_but_for_a_task_of_each(drawn: list[tuple[Vector, float]]) -> None:
    wanted, weight = [demand for demand, _ in drawn], [number for _, number in drawn]
    exact = divided_at_will(wanted, weight)
    # A queue that is ahead by a task by its weight holds the others back by as much.
    off = slack(*wanted) * max(weight) / min(weight)
    for row, count in enumerate(tasks(wanted, weight)):
        assert count * dominant(wanted[row]) == pytest.approx(exact[row], abs=off)


@few
@given(st.lists(st.tuples(demands, weights), min_size=1, max_size=3))
def test_sharing_gives_no_queue_less_than_its_part_of_the_node_alone(drawn: list[tuple[Vector, float]]) -> None:
    wanted, weight = [demand for demand, _ in drawn], [number for _, number in drawn]
    for row, count in enumerate(tasks(wanted, weight)):
        assert count * dominant(wanted[row]) >= weight[row] / sum(weight) - slack(*wanted)


@few
@given(st.lists(demands, min_size=2, max_size=3))
def test_no_queue_would_rather_have_what_another_of_its_weight_has(wanted: list[Vector]) -> None:
    got = tasks(wanted)
    for mine, own in enumerate(wanted):
        for other, bundle in enumerate(wanted):
            swapped = min(bundle[part] * got[other] / own[part] for part in range(3) if own[part])
            assert swapped * dominant(own) <= got[mine] * dominant(own) + slack(own, bundle)


@few
@given(st.lists(st.tuples(demands, weights), min_size=1, max_size=3))
def test_nobody_can_be_given_more_without_taking_from_another(drawn: list[tuple[Vector, float]]) -> None:
    wanted = [demand for demand, _ in drawn]
    left = left_over(wanted, tasks(wanted, [number for _, number in drawn]))
    assert all(any(asked > have for asked, have in zip(demand, left, strict=True)) for demand in wanted)


@few
@given(st.lists(demands, min_size=2, max_size=3), demands)
def test_nobody_gains_by_asking_for_what_it_does_not_need(wanted: list[Vector], claimed: Vector) -> None:
    honest, lie = tasks(wanted), tasks([claimed, *wanted[1:]])
    useful = min(claimed[part] * lie[0] / wanted[0][part] for part in range(3) if wanted[0][part])
    assert useful * dominant(wanted[0]) <= honest[0] * dominant(wanted[0]) + slack(claimed, *wanted)


@few
@given(demands, weights, weights, weights)
def test_branches_share_by_weight_and_children_within_them(demand: Vector, left: float, one: float, other: float) -> None:
    queues = [queue("org", left), queue("q0", one, below="org"), queue("q1", other, below="org"), queue("q2")]
    first, second, third = (count * dominant(demand) for count in tasks([demand] * 3, queues=queues))
    task = dominant(demand) + 1e-9
    assert (first + second) / left == pytest.approx(third, abs=task * (1 + 1 / left))
    assert first / one == pytest.approx(second / other, abs=task * (1 / one + 1 / other))


@st.composite
def guaranteed(draw: st.DrawFn) -> tuple[Snapshot, dict[str, int]]:
    """A full tree of hungry queues on 12 cores, with quotas that add up at every level, and the quotas of the leaves."""
    quotas = {name: draw(st.integers(0, 4)) for name in ("a1", "a2", "b")}
    keeps = {name: draw(st.integers(0, amount)) for name, amount in quotas.items()}
    weight = {name: draw(weights) for name in ("a", "a1", "a2", "b", "rest")}
    above = {"a1": "a", "a2": "a"}
    queues = [queue("a", weight["a"], quota=str(quotas["a1"] + quotas["a2"])), queue("rest", weight["rest"])]
    queues += [
        queue(name, weight[name], below=above.get(name, ""), quota=str(amount), kept=str(keeps[name]),
              ceiling=draw(st.sampled_from(["", str(amount), str(amount + 2)])))
        for name, amount in quotas.items()
    ]  # fmt: skip
    names = draw(st.permutations(["a1"] * 12 + ["a2"] * 12 + ["b"] * 12 + ["rest"] * 12))
    return world(cluster("sh", "7 5"), jobs=[job(f"{row:02}", queue=name) for row, name in enumerate(names)], queues=queues), quotas


@settings(max_examples=60)
@given(guaranteed())
def test_quotas_are_reached_where_work_is_there(drawn: tuple[Snapshot, dict[str, int]]) -> None:
    snapshot, quotas = drawn
    where = decided(snapshot)
    got = Counter(
        snapshot.queues.names[snapshot.jobs.queue[row]] for row, name in enumerate(snapshot.jobs.ids) if where[name].startswith("sh ")
    )
    assert all(got[name] >= amount for name, amount in quotas.items())


@settings(max_examples=40)
@given(st.data())
def test_no_queue_starves_whatever_arrives_elsewhere(data: st.DataObject) -> None:
    """4 cores, 2 of them guaranteed to others, and one old job of the queue that everybody else outweighs."""
    queues = {"a1": ("a", 3.0, 1), "a2": ("a", 2.0, 1), "b": ("", 9.0, 0), "old": ("", 0.1, 0)}
    longest, running, waiting = 3, dict[str, tuple[str, int]](), {"the-old": "old"}
    for turn in range(longest + 1):
        arrivals = data.draw(st.lists(st.sampled_from(["a1", "a2", "b"]), min_size=4, max_size=8))
        waiting |= {f"{turn}-{row}": name for row, name in enumerate(arrivals)}
        held = Counter(name for name, _ in running.values())
        drawn = [queue("a", 5.0, quota="2")] + [
            queue(name, weight, below=below, quota=str(quota), held=str(held[name])) for name, (below, weight, quota) in queues.items()
        ]
        where = decided(
            world(cluster("sh", f"{4 - len(running)}/4"), jobs=[job(item, queue=waiting[item]) for item in waiting], queues=drawn)
        )
        started = [item for item in waiting if where[item] == "sh n1"]
        if "the-old" in started:
            return
        running |= {item: (waiting.pop(item), data.draw(st.integers(1, longest))) for item in started}
        running = {item: (name, left - 1) for item, (name, left) in running.items() if left > 1}
    raise AssertionError("the old job has not started though every core was given anew")
