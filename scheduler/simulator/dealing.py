"""Dealing: who gets which machines for the next round. One rule, one small function, one signature.

A rule names, in order of precedence, jobs with a model each; machines are dealt to them one after the other until nothing is
left. A job named on several models gets the first that has room. Gavel's rules (OSDI 2020) solve a program for parts of the time,
and deal to whom most is owed; what its solution leaves goes to the others, so that no machine idles while a job waits.
Axes: A active jobs, M models, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scheduler.engine.snapshot import Floats, Ints
from scheduler.engine.throughput import least_makespan, max_min, soonest_within

# Parts of the time below this are roundings of a solver.
LEAST_PART = 1e-6
# The makespan that `cpn` keeps to, over the least one that is possible.
SLACK = 1.03
# How much a program's own makespan is stretched, so that roundings leave it a solution.
ROUNDING_SLACK = 1.001


@dataclass(frozen=True, eq=False)
class Active:
    """Jobs that came and have not ended, in the order of submission. `workers[A]` are devices; `owed[A, M]` seconds not yet received.

    `deadline_s` is when all that came so far can have ended, as was found when the last of them came.
    """

    now: float
    round_s: float
    remaining: Floats
    attained: Floats
    workers: Floats
    speed: Floats
    prefer: Ints
    owed: Floats
    capacity: Floats
    deadline_s: float

    @property
    def left_s(self) -> Floats:
        """[A] Seconds to the end on the best model."""
        seconds: Floats = self.remaining / self.speed.max(axis=1)
        return seconds


@dataclass(frozen=True, eq=False)
class Deal:
    """Pairs [P] of a row of Active and a model, the first first; and `parts[A, M]` of the time that they follow, if any."""

    jobs: Ints
    models: Ints
    parts: Floats | None = None


Rule: TypeAlias = Callable[[Active], Deal]


def las(active: Active) -> Deal:
    """Least attained service first: who had the fewest device-seconds."""
    return Deal(*_by(active, active.attained))


def srtf(active: Active) -> Deal:
    """Shortest remaining time first; it knows what no scheduler knows."""
    return Deal(*_by(active, active.left_s))


def gavel_maxmin(active: Active) -> Deal:
    """Gavel's max-min fairness over effective throughputs."""
    return _owed_first(active, max_min(active.speed, active.workers, active.capacity), active.attained)


def gavel_makespan(active: Active) -> Deal:
    """Gavel's least makespan: all that is active ends at one time, the earliest possible."""
    parts, _ = least_makespan(active.speed, active.workers, active.capacity, active.remaining)
    return _owed_first(active, parts, -active.left_s)


def cpn(active: Active) -> Deal:
    """Short jobs first on the models that they use best, planned so that all can still end within about the least makespan.

    The plan divides jobs among models at will; dealt are whole machines, so all end later than planned.
    """
    _, least_s = least_makespan(active.speed, active.workers, active.capacity, active.remaining)
    horizon_s = max(active.deadline_s - active.now, least_s * ROUNDING_SLACK, active.round_s)
    parts = soonest_within(active.speed, active.workers, active.capacity, active.remaining, round_s=active.round_s, horizon_s=horizon_s)
    gain = active.speed / active.remaining[:, None] / active.workers[:, None]
    jobs, models = np.nonzero(parts > LEAST_PART)
    order = np.lexsort((-gain[jobs, models], -np.round(parts[jobs, models], 3)))
    rest = _by(active, -active.left_s)
    return Deal(np.concatenate([jobs[order], rest[0]]), np.concatenate([models[order], rest[1]]), parts)


def _owed_first(active: Active, parts: Floats, rest_key: Floats) -> Deal:
    """Pairs with a part of the time, whom most is owed first; then everyone, so that nothing idles."""
    owed = active.owed + parts * active.round_s
    jobs, models = np.nonzero(parts > LEAST_PART)
    order = np.argsort(-owed[jobs, models], kind="stable")
    rest = _by(active, rest_key)
    return Deal(np.concatenate([jobs[order], rest[0]]), np.concatenate([models[order], rest[1]]), parts)


def _by(active: Active, key: Floats) -> tuple[Ints, Ints]:
    """Every job by its key, each with the models that it prefers."""
    order = np.argsort(key, kind="stable")
    models = active.prefer[order]
    jobs = np.repeat(order, models.shape[1])
    allowed = models.reshape(-1) >= 0
    return jobs[allowed], models.reshape(-1)[allowed]


RULES: dict[str, Rule] = {"las": las, "srtf": srtf, "gavel-maxmin": gavel_maxmin, "gavel-makespan": gavel_makespan, "cpn": cpn}
