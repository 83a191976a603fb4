"""How many free devices the cores beside them can serve."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.device_kernel import stranded as compiled
from scheduler.engine.stranding import POINTS, core_need, stranded
from tests.pictures import shapes

# Half of the devices are wanted with 4 cores, half with 12: 8 on average.
ASKS, MIX = shapes("4 1000", "12 1000", "16"), np.array([1, 1, 5])


@pytest.mark.parametrize(
    ("cores", "lost"),
    [
        (0, 1000),
        (2, 500),  # a quarter of the average serves half of the devices, the modest half
        (4, 1000 * (1 - 0.5 - 0.5 * 2 / 6)),
        (8, 0),
        (80, 0),
    ],
)
def test_modest_work_is_served_first(cores: int, lost: float) -> None:
    need = core_need(ASKS, MIX)
    found = stranded(np.array([1000]), np.array([1000 * cores]), need)
    assert found[0] == pytest.approx(lost, abs=1000 / POINTS)
    assert compiled(1000, 1000 * cores, need) == found[0]


def test_work_without_devices_says_nothing_of_the_need() -> None:
    assert core_need(ASKS, MIX).per_milli == 8.0


@pytest.mark.parametrize("free", [0, 1000])
def test_where_no_cores_are_wanted_none_are_missed(free: int) -> None:
    need = core_need(shapes("0 1000"), np.array([1]))
    assert stranded(np.array([free]), np.array([0]), need)[0] == 0.0
    assert compiled(free, 0, need) == 0.0


def test_each_core_that_goes_strands_more_than_the_one_before() -> None:
    need = core_need(ASKS, MIX)
    lost = stranded(np.full(33, 4000), np.arange(33) * 1000, need)
    assert (np.diff(lost) <= 0).all()
    assert (np.diff(lost, 2) >= -1e-6).all()


def test_modest_is_who_wants_few_cores_for_each_device() -> None:
    # Two for each of four devices, or six for one: the eight cores of the first go first.
    need = core_need(shapes("8 4x1000", "6 1000"), np.array([1, 1]))
    assert need.per_milli == pytest.approx(14 / 5)
    assert np.interp(8 / 14, np.linspace(0.0, 1.0, POINTS + 1), need.served) == pytest.approx(4 / 5, abs=2 / POINTS)
