"""Who goes first by each order of the literature, on three jobs that a reader can rank by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine import precedence
from scheduler.engine.precedence import Precedence, Waiting, shares_ahead

# a came first and is long and narrow, b is short and wide, c came last and is of middle size.
JOBS = Waiting(
    now=1000.0,
    submit_s=np.array([100.0, 400.0, 900.0]),
    limit_s=np.array([3600.0, 60.0, 600.0]),
    size=np.array([2.0, 128.0, 4.0]),
    ahead=np.array([0.3, 0.5, 0.1]),
)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (precedence.fifo, "abc"),
        (precedence.sjf, "bca"),
        # 7,200, 7,680 and 2,400 processor seconds.
        (precedence.saf, "cab"),
        # -(900/3600)³·2 = -0.03, -(600/60)³·128, -(100/600)³·4 = -0.02.
        (precedence.wfp3, "bac"),
        # -900/(1·3600) = -0.25, -600/(7·60) = -1.43, -100/(2·600) = -0.08.
        (precedence.unicep, "bac"),
        # 7 + 1,740 = 1,747, 228 + 2,264 = 2,491, 11 + 2,570 = 2,581.
        (precedence.f1, "abc"),
        (precedence.drf, "cab"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_who_goes_first(order: Precedence, expected: str) -> None:
    assert "".join("abc"[row] for row in np.argsort(order(JOBS), kind="stable")) == expected


def test_keys_are_the_published_formulas() -> None:
    assert precedence.f1(JOBS) == pytest.approx([np.log10(3600) * 2 + 870 * 2, np.log10(60) * 128 + 870 * np.log10(400), 2581.39], rel=1e-4)
    assert precedence.wfp3(JOBS) == pytest.approx([-0.03125, -128000.0, -4 / 216])
    assert precedence.unicep(JOBS) == pytest.approx([-0.25, -600 / 420, -1 / 12])


@pytest.mark.parametrize("order", [precedence.f1, precedence.unicep])
def test_a_first_second_and_a_single_processor_have_keys(order: Precedence) -> None:
    one = Waiting(5.0, np.zeros(1), np.array([10.0]), np.ones(1), np.zeros(1))
    assert np.isfinite(order(one)).all()


def test_lasting_orders_do_not_change_with_time() -> None:
    later = Waiting(9000.0, JOBS.submit_s, JOBS.limit_s, JOBS.size, JOBS.ahead)
    kept = [order for order in (precedence.fifo, precedence.sjf, precedence.saf, precedence.f1) if (order(later) == order(JOBS)).all()]
    assert kept == list(precedence.LASTING)
    assert (precedence.wfp3(later) != precedence.wfp3(JOBS)).all()


def test_a_group_has_what_it_holds_and_what_waits_in_front() -> None:
    group, share, held = np.array([0, 1, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.05]), np.array([0.5, 0.0])
    assert shares_ahead(group, share, held) == pytest.approx([0.5, 0.0, 0.6, 0.9, 0.2])
