"""Learned speeds: the unit and the order of measurements do not matter, and with many runs the prior does not either."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.speeds import MOST_OFF, Prior, Rate, speeds_on

MODELS = ("A", "B", "C")
POSITIVE = st.floats(1e-3, 1e3)
RATES = st.lists(
    st.builds(Rate, st.sampled_from(MODELS), st.sampled_from([1.0, 2.0, 0.5]), st.none() | POSITIVE, st.none() | POSITIVE), max_size=25
)
PRIORS = st.builds(Prior, st.fixed_dictionaries(dict.fromkeys(MODELS, POSITIVE)), st.sampled_from([None, "fp16"]))
DECLARED = st.fixed_dictionaries(dict.fromkeys(MODELS, st.none() | POSITIVE))


@settings(max_examples=100)
@given(DECLARED, RATES, PRIORS, POSITIVE, st.randoms(use_true_random=False))
def test_neither_the_unit_nor_the_order_of_runs_matters(
    declared: dict[str, float | None], rates: list[Rate], prior: Prior, unit: float, random: object
) -> None:
    found = speeds_on(declared, rates, prior)
    turned = list(rates)
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert speeds_on(declared, turned, prior) == found
    scaled = [replace(rate, steps_per_s=rate.steps_per_s and rate.steps_per_s * unit) for rate in rates]
    again = speeds_on(declared, scaled, Prior({model: value * unit for model, value in prior.values.items()}, prior.precision))
    for model, speed in found.items():
        assert again[model].value == pytest.approx(speed.value, rel=1e-9)
        assert (again[model].origin, again[model].runs) == (speed.origin, speed.runs)


@settings(max_examples=100)
@given(DECLARED, RATES, PRIORS)
def test_declared_speeds_hold_and_learned_ones_stay_near_the_prior(
    declared: dict[str, float | None], rates: list[Rate], prior: Prior
) -> None:
    found = speeds_on(declared, rates, prior)
    assert all(found[model].value == value for model, value in declared.items() if value is not None)
    assert all(speed.value > 0 for speed in found.values())
    if all(value is None for value in declared.values()):
        assert min(speed.value for speed in found.values()) == 1.0
        for one in MODELS:
            for other in MODELS:
                off = found[one].value / found[other].value / (prior.values[one] / prior.values[other])
                # Two models may each be as far off as that from the one that both are compared with.
                assert off <= MOST_OFF**2 * (1 + 1e-9)


@settings(max_examples=50)
@given(st.floats(0.2, 5.0), st.floats(0.2, 5.0), st.integers(1, 1000), st.floats(0.5, 2.0))
def test_with_many_runs_the_ratio_is_theirs(ratio: float, prior: float, count: int, seconds: float) -> None:
    if not 1 / MOST_OFF < ratio / prior < MOST_OFF:
        return
    rates = [*[Rate("A", 1.0, None, seconds)] * count, *[Rate("B", 1.0, None, seconds * ratio)] * count]
    found = speeds_on({"A": None, "B": None}, rates, Prior({"A": prior, "B": 1.0}))
    learned = found["A"].value / found["B"].value
    # Between the prior and what was measured, the nearer to the latter the more runs there are.
    assert min(ratio, prior) * (1 - 1e-9) <= learned <= max(ratio, prior) * (1 + 1e-9)
    assert learned / ratio == pytest.approx((prior / ratio) ** (3 / (count + 3)), rel=1e-6)


@settings(max_examples=50)
@given(st.lists(st.floats(0.9, 1.1), min_size=5, max_size=20), st.floats(1e-2, 1e2))
def test_one_run_that_is_far_off_changes_little(lengths: list[float], off: float) -> None:
    rates = [rate for one in lengths for rate in (Rate("A", 1.0, None, one), Rate("B", 1.0, None, 2 * one))]
    prior = Prior({"A": 1.0, "B": 1.0})
    before, after = (speeds_on({"A": None, "B": None}, found, prior) for found in (rates, [Rate("B", 1.0, None, off), *rates[:-1]]))
    assert after["A"].value / after["B"].value == pytest.approx(before["A"].value / before["B"].value, rel=0.25)
