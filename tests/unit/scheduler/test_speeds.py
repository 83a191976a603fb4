"""Speeds on accelerator models: declared ones hold, the others come from runs of like jobs, drawn towards a prior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from scheduler.engine.speeds import MOST_OFF, STRENGTH, Origin, Prior, Rate, Speed, slowdowns, speeds_on

RATED = Prior({"H200": 3.0, "A100": 1.0, "T4": 0.25}, "fp16")


def took(model: str, *seconds: float, devices: float = 1.0) -> list[Rate]:
    """Runs that took so long."""
    return [Rate(model, devices, None, one) for one in seconds]


def steps(model: str, *steps_per_s: float, seconds: float | None = None) -> list[Rate]:
    """Runs that reported so many steps a second."""
    return [Rate(model, 1.0, one, seconds) for one in steps_per_s]


def drawn(pairs: int, ratio: float, prior: float) -> float:
    """The formula as it is documented."""
    return math.exp((pairs * math.log(ratio) + STRENGTH * math.log(prior)) / (pairs + STRENGTH))


@pytest.mark.parametrize(
    ("rates", "ratio", "origin", "runs"),
    [
        pytest.param([], 3.0, Origin.RATED, 0, id="nothing ran"),
        pytest.param(took("H200", 10, 10), 3.0, Origin.RATED, 0, id="only one of the two ran"),
        pytest.param([*took("H200", 10), *took("A100", 20)], drawn(1, 2.0, 3.0), Origin.LEARNED, 2, id="one pair says little"),
        pytest.param(
            [*took("H200", *[10] * 9), *took("A100", *[15] * 9)], drawn(9, 1.5, 3.0), Origin.LEARNED, 18, id="many say much"
        ),
        pytest.param(
            [*took("H200", 10, 10, 10), *took("A100", 20, 20, 9000)], drawn(3, 2.0, 3.0), Origin.LEARNED, 6, id="one is far off"
        ),
        pytest.param(
            [*took("H200", 10), *took("A100", 4e6)], drawn(1, 3.0 * MOST_OFF, 3.0), Origin.LEARNED, 2, id="never further than that"
        ),
        pytest.param(
            [*steps("H200", 8, seconds=99), *steps("A100", 4, seconds=1)], drawn(1, 2.0, 3.0), Origin.LEARNED, 2, id="steps go before time"
        ),
        pytest.param([*steps("H200", 8), *took("A100", 4)], 3.0, Origin.RATED, 0, id="steps and time are not compared"),
        pytest.param(
            [*took("H200", 10), *took("A100", 20, devices=4), *took("A100", 40)], drawn(1, 4.0, 3.0), Origin.LEARNED, 2,
            id="only on as many devices",
        ),
    ],
)  # fmt: skip
def test_a_ratio_is_learned_from_pairs_of_runs(rates: Sequence[Rate], ratio: float, origin: Origin, runs: int) -> None:
    found = speeds_on({"H200": None, "A100": None}, rates, RATED)
    assert found["H200"].value / found["A100"].value == pytest.approx(ratio)
    assert min(speed.value for speed in found.values()) == 1.0
    assert {speed.origin for speed in found.values()} == {origin}
    assert {(speed.runs, speed.precision) for speed in found.values()} == {(runs, "fp16" if origin is Origin.RATED else None)}


def test_declared_speeds_hold_and_give_the_unit() -> None:
    rates = [*took("H200", *[10] * 20), *took("A100", *[20] * 20), *took("T4", *[160] * 20)]
    assert speeds_on({"H200": 5.0, "A100": 4.0}, rates, RATED) == {
        "H200": Speed(5.0, Origin.DECLARED), "A100": Speed(4.0, Origin.DECLARED),
    }  # fmt: skip
    found = speeds_on({"T4": None, "A100": 4.0}, rates, RATED)
    assert found["A100"] == Speed(4.0, Origin.DECLARED)
    assert found["T4"] == Speed(pytest.approx(4.0 * drawn(20, 1 / 8, 1 / 4)), Origin.LEARNED, 40)


def test_a_model_that_never_ran_stands_by_its_rating_beside_learned_ones() -> None:
    rates = [*took("H200", *[10] * 6), *took("A100", *[20] * 6)]
    found = speeds_on({"H200": None, "A100": None, "T4": None}, rates, RATED)
    assert (found["T4"].origin, found["H200"].origin, found["A100"].origin) == (Origin.RATED, Origin.LEARNED, Origin.LEARNED)
    assert found["T4"].value == 1.0
    # It is rated at a quarter of the model that has most runs to compare, of equal ones the first by name.
    assert found["A100"].value == pytest.approx(4.0)
    assert found["H200"].value == pytest.approx(4.0 * drawn(6, 2.0, 3.0))


def test_without_ratings_all_are_taken_to_be_equal() -> None:
    found = speeds_on({"X1": None, "X2": None}, [], Prior({"X1": 1.0, "X2": 1.0}))
    assert found == {"X1": Speed(1.0, Origin.EQUAL), "X2": Speed(1.0, Origin.EQUAL)}


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_measure_that_is_none_is_left_out(value: float) -> None:
    rates = [Rate("H200", 1.0, value, None), Rate("H200", 1.0, None, value or None), *took("A100", 20), *steps("A100", 3)]
    assert speeds_on({"H200": None, "A100": None}, rates, RATED)["H200"].origin is Origin.RATED


def test_how_much_longer_it_takes_than_on_the_fastest() -> None:
    assert slowdowns([Speed(2.0, Origin.DECLARED), Speed(8.0, Origin.DECLARED)]) == [4.0, 1.0]
    assert slowdowns([Speed(1e6, Origin.DECLARED), Speed(5e-324, Origin.DECLARED)]) == [1.0, 1e9]
