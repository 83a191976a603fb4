"""Health is judged from silence alone: the older of the agent's last call and its last contact with the cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.health import Health, HealthPolicy, judge

POLICY = HealthPolicy(suspect_after_s=15.0, lost_after_s=60.0)
NOW = 1_800_000_000.0
ORDER = [Health.HEALTHY, Health.SUSPECT, Health.LOST]
AGES = st.floats(0, 1000)


@pytest.mark.parametrize(
    ("heard_s_ago", "reached_s_ago", "expected"),
    [
        (0, 0, "healthy"),
        (14.9, 0, "healthy"),
        (15, 0, "suspect"),
        (59.9, 0, "suspect"),
        (60, 0, "lost"),
        (1e9, 0, "lost"),
        (0, 14.9, "healthy"),
        (0, 15, "suspect"),
        (0, 60, "lost"),
        (20, 70, "lost"),
        (70, 20, "lost"),
        (None, 0, "suspect"),
        (None, 59.9, "suspect"),
        (None, 60, "lost"),
        (-5, -5, "healthy"),
    ],
)
def test_health_by_age(heard_s_ago: float | None, reached_s_ago: float, expected: str) -> None:
    heard_at = None if heard_s_ago is None else NOW - heard_s_ago
    assert judge(heard_at, NOW - reached_s_ago, NOW, POLICY).value == expected


@given(heard=AGES, reached=AGES, more=AGES)
def test_silence_never_makes_a_member_better(heard: float, reached: float, more: float) -> None:
    before = judge(NOW - heard, NOW - reached, NOW, POLICY)
    after = judge(NOW - heard, NOW - reached, NOW + more, POLICY)
    assert ORDER.index(after) >= ORDER.index(before)


@given(heard=AGES, reached=AGES)
def test_a_silent_agent_and_a_silent_cluster_are_the_same(heard: float, reached: float) -> None:
    assert judge(NOW - heard, NOW - reached, NOW, POLICY) is judge(NOW - reached, NOW - heard, NOW, POLICY)


@given(reached=AGES)
def test_a_member_that_was_never_heard_is_never_healthy(reached: float) -> None:
    assert judge(None, NOW - reached, NOW, POLICY) is not Health.HEALTHY


@pytest.mark.parametrize(("suspect", "lost"), [(0, 60), (-1, 60), (60, 60), (61, 60)])
def test_a_policy_that_loses_before_it_suspects_is_refused(suspect: float, lost: float) -> None:
    with pytest.raises(ValueError, match="must be suspect"):
        HealthPolicy(suspect_after_s=suspect, lost_after_s=lost)
