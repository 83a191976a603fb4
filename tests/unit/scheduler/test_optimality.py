"""How close plans of small worlds come to the best ones, and that the solver they are compared with is exact."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from scheduler.engine.snapshot import Snapshot, Weights
from tests.benchmarks.exact import before_all_later, by_order, by_room, by_seats, program_of
from tests.benchmarks.optimality import gaps, shares, small_world
from tests.builders import DrawnCluster, DrawnJob, cluster, job, world

CHEAPEST = Weights(price=1.0, transfer=0.0, start=0.0)


def fits(snapshot: Snapshot, places: Sequence[tuple[int, int]]) -> bool:
    """Whether single workers (job, node) fit together."""
    left = snapshot.nodes.free.copy()
    for row, node in places:
        left[node] -= snapshot.jobs.request[row]
    return bool((left >= -1e-9).all())


def by_trying(snapshot: Snapshot, worth: Sequence[float]) -> float:
    """The most that jobs of one worker each can be worth, of all ways to place them."""
    nodes, jobs = range(-1, len(snapshot.nodes.names)), range(len(worth))
    ways = itertools.product(nodes, repeat=len(worth))
    return max(
        sum(worth[row] for row in jobs if way[row] >= 0)
        for way in ways
        if fits(snapshot, [(row, way[row]) for row in jobs if way[row] >= 0])
    )


def drawn(seed: int) -> Snapshot:
    """Up to five jobs of one worker on up to three nodes."""
    chance = np.random.default_rng(seed)
    members = [cluster("a", " ".join(map(str, chance.integers(3, 9, 2)))), cluster("b", f"{chance.integers(3, 9)}+2H200")]
    sizes = [str(chance.choice(["1", "2", "3", "4", "2+1H200", "1:20"])) for _ in range(int(chance.integers(2, 6)))]
    return world(*members, jobs=[job(f"j{row}", size) for row, size in enumerate(sizes)])


@pytest.mark.parametrize("seed", range(12))
def test_the_solver_is_as_good_as_trying_everything(seed: int) -> None:
    snapshot = drawn(seed)
    program, worths = program_of(snapshot), (before_all_later(len(snapshot.jobs.ids)), shares(snapshot))
    for found, worth in zip((by_order(program), by_room(program, worths[1])), worths, strict=True):
        assert worth[found >= 0].sum() == pytest.approx(by_trying(snapshot, worth.tolist()))


@pytest.mark.parametrize(
    ("members", "jobs", "seats", "order", "room"),
    [
        pytest.param([cluster("a", "4 4")], [job("x", "3"), job("y", "4"), job("z", "1")], [0, 0, 0], [0, 0, 0], [0, 0, 0], id="all"),
        pytest.param(
            [cluster("a", "4"), cluster("b", "8")],
            [job("x", "4", cost={"a": 2.0, "b": 1.0}), job("y", "8")], [1, -1], [0, 1], [0, 1], id="the first takes its cheapest",
        ),
        pytest.param([cluster("a", "8")], [job("x", "5"), job("y", "4"), job("z", "4")], [0, -1, -1], [0, -1, -1], [-1, 0, 0], id="turns"),
        pytest.param([cluster("a", "4"), cluster("b", "4")], [job("x", "4", workers=2)], [-1], [-1], [-1], id="gangs stay in one cluster"),
        pytest.param([cluster("a", "8! 4")], [job("x", "8"), job("y", "4", rank=100)], [0, -1], [0, -1], [0, -1], id="rank and readiness"),
    ],
)  # fmt: skip
def test_what_each_aim_is(members: list[DrawnCluster], jobs: list[DrawnJob], seats: list[int], order: list[int], room: list[int]) -> None:
    snapshot = world(*members, jobs=jobs, weights=CHEAPEST)
    program = program_of(snapshot)
    found = by_seats(program), by_order(program), by_room(program, shares(snapshot)[program.turns])
    assert [answer.tolist() for answer in found] == [seats, order, room]


def test_plans_of_small_worlds_lose_little_to_the_best_ones() -> None:
    worlds = [small_world(seed) for seed in range(1000, 1010)]
    found = [gaps(snapshot) for snapshot in worlds]
    assert all(2 <= len(snapshot.nodes.names) <= 6 and len(snapshot.jobs.ids) <= 12 for snapshot in worlds)
    assert all(world["room"].room >= -1e-5 for world in found), "no plan is better than the best"
    assert all(world["order"].turns >= -1e-9 for world in found), "no plan is better than the best"
    assert np.mean([world["seats"].turns for world in found]) <= 0.02
    assert np.mean([world["order"].turns for world in found]) <= 0.02
