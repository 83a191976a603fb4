"""Plan targets: where the network stands against a multiple of a dated, attributed baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.capacity import Power


@dataclass(frozen=True)
class Standing:
    """A target against what is there: FLOP/s, and ratios without a unit."""

    target_flops: float
    rated_flops: float
    ratio_to_baseline: float
    missing_flops: float
    met: bool


def standing(baseline_flops: float, multiple: float, compute_class: str, precision: str, total: Sequence[Power]) -> Standing:
    """Only like is compared with like: one class, one precision, no conversion."""
    rated = sum(power.rated for power in total if power.compute_class == compute_class and power.precision == precision)
    target = baseline_flops * multiple
    return Standing(
        target_flops=target, rated_flops=rated, ratio_to_baseline=rated / baseline_flops,
        missing_flops=max(target - rated, 0.0), met=rated >= target,
    )  # fmt: skip
