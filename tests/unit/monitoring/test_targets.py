"""Targets: a multiple of an attributed baseline, compared with what is rated in the same class at the same precision."""

from __future__ import annotations

import pytest

from monitoring.capacity import Power
from monitoring.targets import Standing, standing

PFLOPS = 1e15
TOTAL = (
    Power("general", "fp32", 6 * PFLOPS, 1.0, 0.0),
    Power("general", "fp64", 3 * PFLOPS, 1.0, 0.0),
    Power("intelligent", "fp32", 100 * PFLOPS, 1.0, 0.0),
)


@pytest.mark.parametrize(
    ("baseline", "multiple", "compute_class", "precision", "expected"),
    [
        (2, 4, "general", "fp32", Standing(8 * PFLOPS, 6 * PFLOPS, 3.0, 2 * PFLOPS, met=False)),
        (1.5, 4, "general", "fp32", Standing(6 * PFLOPS, 6 * PFLOPS, 4.0, 0.0, met=True)),
        (1, 4, "general", "fp32", Standing(4 * PFLOPS, 6 * PFLOPS, 6.0, 0.0, met=True)),
        # Neither another precision nor another class counts, however large it is.
        (1, 4, "general", "fp64", Standing(4 * PFLOPS, 3 * PFLOPS, 3.0, 1 * PFLOPS, met=False)),
        (1, 1, "intelligent", "fp32", Standing(1 * PFLOPS, 100 * PFLOPS, 100.0, 0.0, met=True)),
        (1, 4, "super", "fp64", Standing(4 * PFLOPS, 0.0, 0.0, 4 * PFLOPS, met=False)),
        (1, 4, "general", "fp16", Standing(4 * PFLOPS, 0.0, 0.0, 4 * PFLOPS, met=False)),
    ],
)
def test_standing_against_a_target(baseline: float, multiple: float, compute_class: str, precision: str, expected: Standing) -> None:
    assert standing(baseline * PFLOPS, multiple, compute_class, precision, TOTAL) == expected


def test_a_network_without_hardware_misses_the_whole_target() -> None:
    assert standing(1.0, 4.0, "general", "fp32", ()) == Standing(4.0, 0, 0.0, 4.0, met=False)
