"""How long a job is held back for whom it would stand in the way of."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.restraint import DRY, FEW, LONGEST, MEMORY, arrival_rate, free_for_all, harm, held_until, pressure


def every(gap_s: float, count: int = MEMORY) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Arrivals with equal gaps; the first is at 0."""
    return np.arange(count) * gap_s


@pytest.mark.parametrize(
    ("submit_s", "now", "expected"),
    [
        pytest.param(every(10.0), 630.0, 0.1, id="the rate of equal gaps"),
        pytest.param(every(10.0), 630.0 + DRY * 10.0 + 1.0, 0.0, id="nobody came for long"),
        pytest.param(np.concatenate([every(1.0, 56), 100.0 + every(60.0, 8)]), 520.0, 9 / 420, id="few come now"),
        pytest.param(every(10.0, 2), 10_000.0, 2 / 10_000, id="too few to know that nobody comes"),
        pytest.param(every(10.0, FEW), 10_000.0, FEW / 10_000, id="just too few to know it"),
        pytest.param(every(10.0, FEW + 1), 115.0, 9 / 115, id="the last one came not so long ago"),
        pytest.param(np.append(0.0, np.full(20, 0.5)), 1.25, 9.0, id="most of them within a second"),
        pytest.param(np.zeros(3), 0.0, 3.0, id="all at once"),
        pytest.param(np.zeros(FEW + 1), 3.0, 0.0, id="all at once, and nobody after that"),
        pytest.param(np.append(0.0, 100.0 + np.arange(10.0)), 159.0, 11 / 159, id="the longest gap may be the first"),
    ],
)
def test_the_rate_of_arrivals(submit_s: np.ndarray[tuple[int], np.dtype[np.float64]], now: float, expected: float) -> None:
    assert arrival_rate(now, submit_s) == pytest.approx(expected, rel=0.02)


def test_pressure_is_by_size_and_greater_for_short_jobs() -> None:
    size, length_s = np.array([1, 2, 3, 4, 5, 256]), np.array([10.0, 100.0, 1000.0, 100.0, 1.0, 50.0])
    submit_s = every(5.0, 6)
    weights = pressure(25.0, submit_s, size, length_s, 256)
    rate = arrival_rate(25.0, submit_s)
    each = rate / 6
    # Up to 1, 2, 4, 8, … 256; who is shorter than ten seconds counts as that long.
    assert weights == pytest.approx([each / 10, each / 100, each / 1000 + each / 100, each / 10, 0, 0, 0, 0, each / 50])


def test_the_largest_decides_how_many_sizes_there_are() -> None:
    one, units = np.array([10.0]), np.array([1])
    assert [len(pressure(9.0, np.zeros(1), units, one, largest)) for largest in (1, 2, 3, 4, 5)] == [1, 2, 3, 3, 4]


def test_without_arrivals_there_is_no_pressure() -> None:
    nothing = np.zeros(0)
    assert pressure(9.0, nothing, nothing.astype(np.int64), nothing, 5).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("size", "times", "free", "weights", "expected"),
    [
        pytest.param(4, [0], [4], [0.5, 0, 0], 0.5 * 100**2 / 2, id="all is taken for 100 s"),
        pytest.param(2, [0], [4], [0.5, 0, 0], 0.0, id="the small fit beside it"),
        pytest.param(2, [0], [4], [0, 0, 0.5], 0.5 * 100**2 / 2, id="the large do not"),
        pytest.param(4, [0, 50], [1, 4], [0.5, 0, 0], 0.5 * 100**2 / 2, id="it starts later, and what is free till then is not lost"),
        pytest.param(4, [0, 50], [1, 4], [0, 0, 0.5], 0.5 * (150**2 - 50**2) / 2, id="who could not run anyhow waits longer"),
        pytest.param(2, [0, 30], [2, 4], [0.5, 0, 0], 0.5 * 30**2 / 2, id="until others end"),
        pytest.param(
            5, [0, 50], [2, 4], [0.5, 0, 0], 0.5 * (150 - 50) ** 2 / 2, id="what is larger than all is there from the last end on"
        ),
        pytest.param(4, [0], [4], [0, 0, 0], 0.0, id="nobody comes"),
    ],
)
def test_harm_is_half_the_square_of_the_time_that_others_are_blocked(
    size: int, times: list[float], free: list[int], weights: list[float], expected: float
) -> None:
    found = harm(0.0, size, 100.0, np.array(times, dtype=float), np.array(free), np.array(weights, dtype=float))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weight", "length_s", "expected"),
    [
        pytest.param(0.0, 100.0, 40.0, id="nobody is harmed: at once"),
        pytest.param(1e-3, 100.0, 40.0 + 5.0 * 100.0, id="its slowdown equals its harm"),
        pytest.param(1.0, 100.0, 40.0 + LONGEST * 100.0, id="never longer than so many times its length"),
        pytest.param(1.0, 2.0, 40.0 + 2.0 * 10.0, id="short ones count as ten seconds"),
    ],
)
def test_how_long_a_job_is_held_back(weight: float, length_s: float, expected: float) -> None:
    until = np.empty(1)
    held_until(
        50.0, np.array([40.0]), np.array([4]), np.array([length_s]), np.array([50.0]), np.array([4]), np.array([weight, 0.0, 0.0]), until
    )
    assert until[0] == pytest.approx(expected)


def test_who_waited_for_long_is_not_held_back_again() -> None:
    until, now = np.empty(1), 40.0 + LONGEST * 100.0 + 1.0
    held_until(now, np.array([40.0]), np.array([4]), np.array([100.0]), np.array([now]), np.array([4]), np.array([9.0, 0.0, 0.0]), until)
    assert until[0] < now


@pytest.mark.parametrize(
    ("left", "sizes", "expected"), [(8, [5], True), (7, [5], False), (1, [1], True), (0, [1], False), (4, [4], True), (1, [], True)]
)
def test_room_for_the_largest_that_comes_is_harmless(left: int, sizes: list[int], *, expected: bool) -> None:
    assert free_for_all(left, np.array(sizes, dtype=np.int64)) is expected


def test_few_is_less_than_what_is_remembered() -> None:
    assert FEW < MEMORY
