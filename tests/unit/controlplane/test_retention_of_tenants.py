"""Tenants with limits of their own for results, beside those that have none."""

from __future__ import annotations

import pytest

from controlplane.retention import DAY_S, Kept, Limits, surplus_of_tenants

NOW = 100 * DAY_S


def kept(size: int, days_ago: float, tenant: str) -> Kept:
    return Kept(size, NOW - days_ago * DAY_S, tenant)


RESULTS = {
    "a-1": kept(5, 3, "acme"), "a-2": kept(5, 1, "acme"), "g-1": kept(5, 3, "globex"), "g-2": kept(5, 1, "globex"),
    "i-1": kept(5, 9, "initech"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("usual", "own", "gone"),
    [
        (Limits(0, 0), {}, []),
        (Limits(2, 0), {}, ["a-1", "g-1", "i-1"]),
        (Limits(2, 0), {"acme": (0.0, None), "initech": (30.0, None)}, ["g-1"]),
        (Limits(0, 0), {"acme": (0.5, None)}, ["a-1", "a-2"]),
        (Limits(0, 15), {}, ["a-1", "i-1"]),
        (Limits(0, 15), {"acme": (None, 0)}, []),
        (Limits(0, 15), {"acme": (None, 5)}, ["a-1"]),
        (Limits(0, 5), {"acme": (None, 5), "globex": (2.0, 100)}, ["a-1", "g-1"]),
        (Limits(0, 0), {"globex": (None, 5)}, ["g-1"]),
    ],
)
def test_each_tenants_oldest_go_by_its_own_limits(usual: Limits, own: dict[str, tuple[float | None, int | None]], gone: list[str]) -> None:
    assert surplus_of_tenants(RESULTS, usual, own, NOW) == gone
