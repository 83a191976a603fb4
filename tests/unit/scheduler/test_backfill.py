"""What is free in time: when something fits at the earliest, and what taking and giving back does to it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scheduler.engine.backfill import ENDLESS, Profile


def profile(*steps: tuple[float, float]) -> Profile:
    """Free units of one pool from each time on."""
    made = Profile(steps[0][0], np.array([steps[0][1]]))
    for (_, before), (at, free) in itertools.pairwise(steps):
        made.add(at, ENDLESS, np.array([free - before]))
    return made


def steps_of(found: Profile) -> list[tuple[float, float]]:
    return list(zip(found.times.tolist(), found.free[:, 0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("demand", "length_s", "not_before", "expected"),
    [
        pytest.param(2, 5, -ENDLESS, 0.0, id="now"),
        pytest.param(2, 10, -ENDLESS, 0.0, id="just long enough"),
        pytest.param(2, 11, -ENDLESS, 20.0, id="the gap is too short"),
        pytest.param(3, 5, -ENDLESS, 20.0, id="the gap is too narrow"),
        pytest.param(2, 5, 7.0, 20.0, id="the rest of the gap is too short"),
        pytest.param(2, 3, 7.0, 7.0, id="not before"),
        pytest.param(1, 1000, -ENDLESS, 0.0, id="what is always there"),
        pytest.param(9, 1, -ENDLESS, ENDLESS, id="never"),
        pytest.param(4, 1, 100.0, 100.0, id="at the end without end"),
    ],
)
def test_the_earliest_time_that_something_fits(demand: float, length_s: float, not_before: float, expected: float) -> None:
    found = profile((0.0, 2.0), (10.0, 1.0), (20.0, 4.0)).earliest(np.array([demand]), length_s, not_before)
    assert found == expected


def test_every_column_must_have_room() -> None:
    two = Profile(0.0, np.array([4.0, 1.0]))
    two.add(50.0, ENDLESS, np.array([0.0, 3.0]))
    assert two.earliest(np.array([4.0, 2.0]), 1.0) == 50.0


@pytest.mark.parametrize(
    ("begin", "end", "amount", "expected"),
    [
        pytest.param(0.0, 10.0, -1.0, [(0.0, 1.0), (10.0, 4.0)], id="along a step"),
        pytest.param(5.0, 15.0, -1.0, [(0.0, 2.0), (5.0, 1.0), (10.0, 3.0), (15.0, 4.0)], id="across a step"),
        pytest.param(-5.0, 5.0, -2.0, [(0.0, 0.0), (5.0, 2.0), (10.0, 4.0)], id="what has passed is forgotten"),
        pytest.param(-9.0, -5.0, -2.0, [(0.0, 2.0), (10.0, 4.0)], id="all of it has passed"),
        pytest.param(20.0, ENDLESS, 1.0, [(0.0, 2.0), (10.0, 4.0), (20.0, 5.0)], id="without end"),
    ],
)
def test_taking_and_giving_back(begin: float, end: float, amount: float, expected: list[tuple[float, float]]) -> None:
    found = profile((0.0, 2.0), (10.0, 4.0))
    found.add(begin, end, np.array([amount]))
    assert steps_of(found) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [(0.0, [(0.0, 2.0), (10.0, 4.0)]), (5.0, [(5.0, 2.0), (10.0, 4.0)]), (10.0, [(10.0, 4.0)]), (99.0, [(99.0, 4.0)])],
)
def test_what_has_passed_is_forgotten(now: float, expected: list[tuple[float, float]]) -> None:
    found = profile((0.0, 2.0), (10.0, 4.0))
    found.advance(now)
    assert steps_of(found) == expected
