"""Whether a member can be relied on, judged from when it was last heard.

A member is as old as the older of two moments: when its agent last called, and when that agent last reached
its cluster. A silent agent and an agent that talks about a dead cluster are the same to whoever wants to
place work there. Pure: the time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How far a member can be relied on; safe as a metric label."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    LOST = "lost"


@dataclass(frozen=True)
class HealthPolicy:
    """After how many seconds of silence a member gets no new work, and after how many its runs are given up."""

    suspect_after_s: float = 15.0
    lost_after_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.suspect_after_s < self.lost_after_s:
            raise ValueError(f"a member must be suspect ({self.suspect_after_s} s) before it is lost ({self.lost_after_s} s)")


def judge(heard_at: float | None, reachable_at: float, now: float, policy: HealthPolicy) -> Health:
    """The health of a member at `now`; all times in seconds since the epoch.

    `heard_at` is the agent's last call, None when none ever came. `reachable_at` is when the agent last reached
    its cluster, or when the member was registered while it never did. A member that was never heard is never healthy.
    """
    age_s = now - (reachable_at if heard_at is None else min(heard_at, reachable_at))
    if age_s >= policy.lost_after_s:
        return Health.LOST
    if heard_at is None or age_s >= policy.suspect_after_s:
        return Health.SUSPECT
    return Health.HEALTHY
