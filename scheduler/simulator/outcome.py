"""What became of each job, and the figures that are made of it.

A job waits whenever it does not run, also after it was stopped. Slowdowns are bounded: a job shorter than ten seconds counts as
that long (Feitelson et al., JSSPP 1997). Fairness is Jain's index over groups, of the reciprocal of each group's mean slowdown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.engine.snapshot import Floats, Ints
from scheduler.simulator.world import World

SHORTEST_S = 10.0


@dataclass(eq=False)
class Outcome:
    """Filled while jobs run. Times are -1 until they are known; `ran_s[J]` is how long a job held machines, `busy` how much in all."""

    start_s: Floats
    end_s: Floats
    ran_s: Floats
    model: Ints
    busy: float = 0.0
    preemptions: int = 0
    cycles: int = 0
    decision_s: float = 0.0
    wall_s: float = 0.0

    @classmethod
    def empty(cls, jobs: int) -> Outcome:
        """Nothing has happened yet."""
        return cls(np.full(jobs, -1.0), np.full(jobs, -1.0), np.zeros(jobs), np.full(jobs, -1, dtype=np.int64))


def slowdowns(world: World, outcome: Outcome) -> Floats:
    """[F] Bounded slowdowns of the finished jobs, in the order of submission."""
    done = outcome.end_s >= 0
    there_s = outcome.end_s[done] - world.trace.submit_s[done]
    bounded: Floats = np.maximum(there_s / np.maximum(world.length_s[done], SHORTEST_S), 1.0)
    return bounded


def figures(world: World, outcome: Outcome) -> dict[str, float | int]:
    """The figures of one policy. Means of nothing are 0."""
    done = outcome.end_s >= 0
    submit_s, slow = world.trace.submit_s, slowdowns(world, outcome)
    jct_s = outcome.end_s[done] - submit_s[done]
    wait_s = np.maximum(jct_s - outcome.ran_s[done], 0.0)
    makespan_s = float(outcome.end_s.max() - submit_s[0]) if done.any() else 0.0
    return {
        "jobs": len(done),
        "finished": int(done.sum()),
        "rejected": int((~world.fits).sum()),
        "makespan_s": makespan_s,
        "mean_wait_s": _mean(wait_s),
        "p50_wait_s": _quantile(wait_s, 0.5),
        "p95_wait_s": _quantile(wait_s, 0.95),
        "mean_jct_s": _mean(jct_s),
        "mean_bounded_slowdown": _mean(slow),
        "p99_bounded_slowdown": _quantile(slow, 0.99),
        "utilisation": outcome.busy / (world.capacity * makespan_s) if makespan_s > 0 else 0.0,
        "jain_fairness": _jain(world.trace.group[done], slow),
        "preemptions": outcome.preemptions,
        "cycles": outcome.cycles,
        "decision_s": outcome.decision_s,
        "jobs_per_s": len(done) / outcome.wall_s if outcome.wall_s > 0 else 0.0,
    }


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _quantile(values: Floats, part: float) -> float:
    return float(np.quantile(values, part)) if len(values) else 0.0


def _jain(group: Ints, slow: Floats) -> float:
    """Jain's index of how well groups are served; 1 where there are none."""
    counts = np.bincount(group)
    there = counts > 0
    if not there.any():
        return 1.0
    served = counts[there] / np.bincount(group, weights=slow)[there]
    return float(served.sum() ** 2 / (len(served) * (served**2).sum()))
