"""Effective throughput: how much of the time each job should run on each model, so that a goal is met over time.

A job's effective throughput is its speed on each model times the part of the time that it runs there (Narayanan et al.,
Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning Workloads, OSDI 2020). Allocations are solutions of small
linear programs. Axes: J jobs, M models; `speed[J, M]` is work a second, `workers[J]` devices, `capacity[M]` devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix, vstack

from scheduler.engine.snapshot import Floats


def time_and_room(workers: Floats, capacity: Floats, time: float = 1.0) -> tuple[csr_matrix, Floats]:
    """The rows that every allocation X[J, M] must keep: no job runs for more than the time, no model has more devices."""
    jobs, models = len(workers), len(capacity)
    columns = np.arange(jobs * models)
    job, model = columns // models, columns % models
    runs = coo_matrix((np.ones(len(columns)), (job, columns)), shape=(jobs, len(columns)))
    holds = coo_matrix((workers[job], (model, columns)), shape=(models, len(columns)))
    return vstack([runs, holds]).tocsr(), np.concatenate([np.full(jobs, time), capacity * time])


def work_rows(speed: Floats) -> csr_matrix:
    """[J, J·M] The work that each job does, for an allocation X[J, M] of time."""
    jobs, models = speed.shape
    columns = np.arange(jobs * models)
    return coo_matrix((speed.reshape(-1), (columns // models, columns)), shape=(jobs, jobs * models)).tocsr()


def solve(goal: Floats, rows: csr_matrix, limits: Floats) -> Floats:
    """The x ≥ 0 with rows·x ≤ limits that has the least goal·x."""
    answer: Any = linprog(goal, A_ub=rows, b_ub=limits, method="highs")
    if answer.status != 0:
        raise ValueError(f"the linear program has no solution: {answer.message}")
    found: Floats = answer.x
    return found


def max_min(speed: Floats, workers: Floats, capacity: Floats) -> Floats:
    """[J, M] Parts of the time, such that the job served worst is served as well as possible.

    A job is served by its effective throughput, divided by the one that equal shares of every model would give it, and counted
    for each worker.
    """
    equal = speed @ (capacity / capacity.sum())
    served = speed * (workers / equal)[:, None]
    return _largest_common(served, workers, capacity)


def least_makespan(speed: Floats, workers: Floats, capacity: Floats, remaining: Floats) -> tuple[Floats, float]:
    """[J, M] parts of the time that finish all remaining work at the same, earliest time, and the seconds until then."""
    longest = remaining / speed.max(axis=1)
    # In units of the longest job alone, so that the numbers of the program are near 1.
    scale = float(longest.max())
    parts = _largest_common(speed * (scale / remaining)[:, None], workers, capacity)
    rate = float(((parts * speed).sum(axis=1) / remaining).min())
    return parts, 1.0 / rate


def _largest_common(value: Floats, workers: Floats, capacity: Floats) -> Floats:
    """[J, M] The allocation whose smallest row sum of value·X is as large as possible."""
    jobs, models = value.shape
    rows, limits = time_and_room(workers, capacity)
    # One more variable, the common level: level - value·X ≤ 0 for each job.
    levels = coo_matrix(np.ones((jobs, 1)))
    reach = csr_matrix((jobs, jobs * models)) - work_rows(value)
    bounded = vstack([_beside(rows, coo_matrix((rows.shape[0], 1))), _beside(reach, levels)]).tocsr()
    goal = np.zeros(jobs * models + 1)
    goal[-1] = -1.0
    found = solve(goal, bounded, np.concatenate([limits, np.zeros(jobs)]))
    return np.maximum(found[:-1].reshape(jobs, models), 0.0)


def _beside(left: Any, right: Any) -> csr_matrix:
    from scipy.sparse import hstack

    return hstack([left, right]).tocsr()


def soonest_within(speed: Floats, workers: Floats, capacity: Floats, remaining: Floats, *, round_s: float, horizon_s: float) -> Floats:
    """[J, M] Parts of the next round that bring most jobs nearest to their ends, while all can still end within the horizon.

    Progress of a job counts by how little is left of it, for each of its devices: the shortest first (Smith's rule), on the models
    that it uses best. The time after the round is one long slice, in which what is left must find room.
    """
    jobs, models = speed.shape
    best = speed.max(axis=1)
    left_s = remaining / best
    gain = (speed / best[:, None]) / np.maximum(left_s * workers, round_s)[:, None]
    now_rows, now_limits = time_and_room(workers, capacity)
    later_s = max(horizon_s - round_s, 0.0)
    later_rows, later_limits = time_and_room(workers, capacity)
    done = work_rows(speed / remaining[:, None])
    nothing = csr_matrix(now_rows.shape)
    rows = vstack([_beside(now_rows, nothing), _beside(nothing, later_rows), _beside(-done * round_s, -done * later_s)]).tocsr()
    goal = -np.concatenate([gain.reshape(-1), np.zeros(jobs * models)])
    found = solve(goal, rows, np.concatenate([now_limits, later_limits, -np.ones(jobs)]))
    return np.maximum(found[: jobs * models].reshape(jobs, models), 0.0)
