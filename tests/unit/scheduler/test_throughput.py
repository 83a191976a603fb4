"""Parts of the time on accelerator models, on programs small enough to solve by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.snapshot import Floats
from scheduler.engine.throughput import least_makespan, max_min, soonest_within


def table(*rows: tuple[float, ...]) -> Floats:
    return np.array(rows, dtype=np.float64)


def keeps_limits(parts: Floats, workers: Floats, capacity: Floats) -> bool:
    """Whether no job runs for more than all of the time, and no model is used by more than it has."""
    within = (parts.sum(axis=1) <= 1 + 1e-9).all() and (workers @ parts <= capacity + 1e-9).all()
    return bool(within and (parts >= 0).all())


@pytest.mark.parametrize(
    ("speed", "workers", "capacity", "served"),
    [
        pytest.param([(1.0,), (1.0,)], [1.0, 1.0], [1.0], [0.5, 0.5], id="two share one device"),
        pytest.param([(1.0,), (7.0,)], [1.0, 1.0], [1.0], [0.5, 3.5], id="a faster job gets no more time"),
        pytest.param([(1.0,), (1.0,)], [1.0, 1.0], [4.0], [1.0, 1.0], id="room for both"),
        pytest.param([(4.0, 1.0), (1.0, 4.0)], [1.0, 1.0], [1.0, 1.0], [4.0, 4.0], id="each on the model that it is good at"),
    ],
)
def test_max_min_serves_the_worst_best(
    speed: list[tuple[float, ...]], workers: list[float], capacity: list[float], served: list[float]
) -> None:
    rates, held, there = table(*speed), np.array(workers), np.array(capacity)
    parts = max_min(rates, held, there)
    assert keeps_limits(parts, held, there)
    assert (parts * rates).sum(axis=1) == pytest.approx(served)


@pytest.mark.parametrize(
    ("speed", "workers", "capacity", "remaining", "seconds"),
    [
        pytest.param([(1.0,), (1.0,)], [1.0, 1.0], [1.0], [10.0, 30.0], 40.0, id="one after the other"),
        pytest.param([(2.0,)], [1.0], [9.0], [10.0], 5.0, id="a job runs on one device at a time"),
        pytest.param([(1.0,), (1.0,)], [2.0, 1.0], [2.0], [10.0, 10.0], 15.0, id="a gang holds all its devices"),
        pytest.param([(4.0, 1.0), (1.0, 1.0)], [1.0, 1.0], [1.0, 1.0], [40.0, 10.0], 10.0, id="the fast model for who gains from it"),
        pytest.param([(2.0, 1.0), (2.0, 1.0)], [1.0, 1.0], [1.0, 1.0], [30.0, 30.0], 20.0, id="two models in turn"),
    ],
)
def test_the_least_makespan(
    speed: list[tuple[float, ...]], workers: list[float], capacity: list[float], remaining: list[float], seconds: float
) -> None:
    rates, held, there, left = table(*speed), np.array(workers), np.array(capacity), np.array(remaining)
    parts, found = least_makespan(rates, held, there, left)
    assert found == pytest.approx(seconds)
    assert keeps_limits(parts, held, there)
    assert ((parts * rates).sum(axis=1) * found >= left * (1 - 1e-9)).all()


def test_the_shortest_goes_first_where_there_is_time() -> None:
    rates, held, there, left = table((1.0,), (1.0,)), np.ones(2), np.array([1.0]), np.array([100.0, 1000.0])
    parts = soonest_within(rates, held, there, left, round_s=100.0, horizon_s=1200.0)
    assert parts.reshape(-1).tolist() == pytest.approx([1.0, 0.0])


def test_shortest_is_by_time_and_not_by_work() -> None:
    rates, held, there, left = table((10.0,), (1.0,)), np.ones(2), np.array([1.0]), np.array([1000.0, 500.0])
    parts = soonest_within(rates, held, there, left, round_s=100.0, horizon_s=1200.0)
    assert parts.reshape(-1).tolist() == pytest.approx([1.0, 0.0])


def test_the_longest_goes_first_where_the_horizon_asks_for_it() -> None:
    rates, held, there, left = table((1.0,), (1.0,), (1.0,)), np.ones(3), np.array([2.0]), np.array([100.0, 100.0, 1000.0])
    parts = soonest_within(rates, held, there, left, round_s=100.0, horizon_s=1000.0)
    assert parts[2, 0] == pytest.approx(1.0)


def test_work_that_cannot_end_in_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="no solution"):
        soonest_within(table((1.0,)), np.ones(1), np.ones(1), np.array([100.0]), round_s=10.0, horizon_s=50.0)


def test_what_is_left_of_a_job_is_counted_on_its_best_model() -> None:
    # The first would be done in half a round on the model that nobody has; on the other it is a tenth of as good as that.
    rates, held, there, left = table((10.0, 1.0), (1.0, 1.0)), np.ones(2), np.array([0.0, 1.0]), np.array([500.0, 700.0])
    parts = soonest_within(rates, held, there, left, round_s=100.0, horizon_s=5000.0)
    assert parts[:, 1].tolist() == pytest.approx([0.0, 1.0])
