"""What free room on a device is worth, for mixes whose answer one can work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from scheduler.engine.bid_prices import OVERLOAD, leftover_prices
from scheduler.engine.devices import WHOLE


def prices(mix: dict[int, float]) -> list[float]:
    """The price of every amount of room for so many requests of each size."""
    found: list[float] = leftover_prices(np.array(list(mix), dtype=np.int64), np.array(list(mix.values()), dtype=np.float64)).tolist()
    return found


@pytest.mark.parametrize(
    ("mix", "room", "part"),
    [
        ({1000: 1}, 999, 0.0),  # only whole devices are asked for
        ({500: 1, 1000: 1}, 500, 1 / 2),
        ({500: 1, 1000: 1}, 499, 0.0),
        ({500: 1, 1000: 1}, 999, 1 / 2),
        ({320: 1, 1000: 1}, 330, 1 / 3),
        ({320: 1, 1000: 1}, 640, 2 / 3),
        ({810: 10, 110: 1, 1000: 10}, 190, 0.0),  # few small ones: what 810 leaves cannot all be used
        ({810: 1, 1000: 1}, 810, 1.0),  # 810 takes a device as a whole one does
    ],
)
def test_room_is_worth_the_part_of_a_device_that_it_saves(mix: dict[int, float], room: int, part: float) -> None:
    found = prices(mix)
    assert found[room] / found[WHOLE] == pytest.approx(part)


def test_plenty_of_small_work_makes_rests_worth_something() -> None:
    assert prices({810: 1, 190: 100, 1000: 1})[190] > 0.15


def test_only_proportions_matter() -> None:
    assert prices({470: 3, 1000: 5}) == pytest.approx(prices({470: 300, 1000: 500}))


def test_without_demand_room_is_worth_its_size() -> None:
    assert prices({}) == pytest.approx([room / WHOLE for room in range(WHOLE + 1)])
    assert prices({470: 0}) == prices({})


def test_rows_of_one_size_are_one_size() -> None:
    sizes, demand = np.array([470, 470, 1000]), np.array([1.0, 2.0, 4.0])
    assert leftover_prices(sizes, demand) == pytest.approx(np.array(prices({470: 3, 1000: 4})))


MIX = st.dictionaries(st.sampled_from(range(50, 1001, 50)), st.integers(1, 50).map(float), min_size=1, max_size=5)


@given(MIX)
@settings(max_examples=40, deadline=None)
def test_more_room_is_never_worth_less(mix: dict[int, float]) -> None:
    found = np.array(prices(mix))
    assert found[0] == 0.0
    assert (np.diff(found) >= 0).all()
    assert 0.0 < found[WHOLE] <= 1.0 + 1e-6


@given(MIX)
@settings(max_examples=40, deadline=None)
def test_room_in_two_pieces_is_never_worth_more_than_in_one(mix: dict[int, float]) -> None:
    found = np.array(prices(mix))
    for first in range(0, WHOLE + 1, 50):
        rest = np.arange(0, WHOLE + 1 - first, 50)
        assert (found[first] + found[rest] <= found[first + rest] + 1e-6).all()


@given(MIX)
@settings(max_examples=25, deadline=None)
def test_the_prices_are_those_of_all_patterns(mix: dict[int, float]) -> None:
    """Strong duality against the program with every pattern written down: what a device is worth, and what demand is worth more."""
    sizes, asked = np.array(sorted(mix)), np.array([mix[size] for size in sorted(mix)])
    limits = asked * OVERLOAD / (asked * sizes / WHOLE).sum()
    cuts = np.array(_patterns(sizes.tolist(), WHOLE), dtype=np.float64).T
    best = linprog(-(sizes @ cuts) / WHOLE, A_ub=np.vstack([cuts, np.ones(cuts.shape[1])]), b_ub=np.append(limits, 1.0), method="highs")
    found = np.array(prices(mix))
    above = np.maximum(sizes / WHOLE - found[sizes], 0.0)
    assert found[WHOLE] + above @ limits == pytest.approx(-best.fun, abs=1e-5)


def _patterns(sizes: list[int], room: int) -> list[list[int]]:
    """Every way to cut a device."""
    if not sizes:
        return [[]]
    return [[count, *rest] for count in range(room // sizes[0] + 1) for rest in _patterns(sizes[1:], room - count * sizes[0])]
