"""Fragmentation of small nodes, as the paper defines it: what typical requests cannot use of what is free."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.device_kernel import fragmentation as compiled
from scheduler.engine.device_kernel import score_of_gradient
from scheduler.engine.fragmentation import COMMON, fragmentation, gradient_score, typical_requests
from tests.pictures import nodes, shapes


@pytest.mark.parametrize(
    ("node", "asks", "mix", "lost"),
    [
        ("T4 8  1000 500", ["1 1000"], [1], 500),  # 500 are too small for a whole device
        ("T4 8  1000 500", ["1 500"], [1], 0),
        ("T4 8  1000 500", ["1 2x1000"], [1], 1500),  # two whole devices do not fit at all
        ("T4 8  1000 500", ["9 500"], [1], 1500),  # not enough cores: everything is lost
        ("T4 8  1000 500", ["1 500 P100"], [1], 1500),  # another model: everything is lost
        ("T4 8  1000 500", ["1"], [1], 1500),  # work without devices uses none of them
        ("T4 8  1000 500", ["1 1000", "1 500"], [1, 1], 250),
        ("T4 8  1000 500", ["1 1000", "1 500"], [1, 3], 125),
        ("T4 8  0 0", ["1 1000"], [1], 0),
    ],
)
def test_what_typical_requests_cannot_use_is_lost(node: str, asks: list[str], mix: list[int], lost: float) -> None:
    world, typical = nodes(node), typical_requests(shapes(*asks), np.array(mix))
    assert fragmentation(world, typical)[0] == pytest.approx(lost)
    assert compiled(world.cpu_milli[0], world.gpu_milli[0], 2, world.model[0], typical) == fragmentation(world, typical)[0]


def test_typical_are_the_most_common_requests() -> None:
    typical = typical_requests(shapes("1 100", "1 200", "1 300", "1 400"), np.array([2, 90, 3, 5]))
    assert typical.gpu_milli.tolist() == [200, 400]
    assert typical.weight.tolist() == pytest.approx([90 / 95, 5 / 95])
    assert 90 / 100 < COMMON <= 95 / 100


def test_requests_that_differ_in_memory_alone_are_one() -> None:
    asks = shapes("1 500", "1 500", "1 1000")
    asks.memory_mib[:] = [1, 2, 3]
    assert typical_requests(asks, np.array([1, 1, 2])).weight.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("gradient", "score"), [(0.0, 50), (-1e9, 0), (1e9, 99), (-1e-9, 49), (1000.0, 73), (-1000.0, 26), (4000.0, 98)])
def test_a_gradient_is_seen_in_whole_percent(gradient: float, score: int) -> None:
    assert gradient_score(np.array([gradient]))[0] == score
    assert score_of_gradient(gradient) == score
    if abs(gradient) in (1000.0, 4000.0):
        assert score == int(100 / (1 + np.exp(-gradient / 1000)))
