"""How long jobs are expected to run, from how their owners' last jobs kept to what they asked for."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.estimates import History


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([], 1.0, id="nothing is known"),
        pytest.param([0.2], 0.2, id="one job"),
        pytest.param([0.2, 0.4], 0.3, id="two jobs"),
        pytest.param([1.0, 0.2, 0.4], 0.3, id="older ones are forgotten"),
        pytest.param([1.5, 1.5], 1.0, id="never more than was asked for"),
        pytest.param([0.0, 0.001], 0.01, id="never nothing"),
    ],
)
def test_the_mean_of_the_last_two(parts: list[float], expected: float) -> None:
    history = History()
    for part in parts:
        history.note(3, part)
        history.note(4, 0.77)
    assert history.part(3) == pytest.approx(expected)


def test_nobody_has_no_history() -> None:
    history = History()
    history.note(-1, 0.1)
    assert history.part(-1) == 1.0


def test_expected_lengths_are_parts_of_what_was_asked_for() -> None:
    history = History()
    history.note(0, 0.5)
    assert history.expected(np.array([0, 1, -1, 0]), np.array([100.0, 100.0, 60.0, 10.0])).tolist() == [50.0, 100.0, 60.0, 5.0]
