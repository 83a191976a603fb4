"""What the terms of data forbid, from arrays of their own: level of security, residency, and classification against licences.

Rights are judged before the freeze, into one reason for each pair of job and cluster. This says the same of the terms that must never
be broken, from what stands behind them: how far clusters are secured, where they lie, and what licences clear. What is folded in here
no decision can go round, whatever the judgement said; `check` proves plans by the arrays themselves.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Bools, Ints, Jobs, Snapshot

# What the terms go before: only what nothing or money stands against could be placed.
_NO_RIGHT = (Reason.FITS, Reason.CURRENCY, Reason.OVER_BUDGET)


def within_terms(snapshot: Snapshot) -> Snapshot:
    """The same world with what the terms forbid among what rights forbid, so that nothing is placed there."""
    further = snapshot.further
    jobs = _folded(snapshot, snapshot.jobs)
    ways = further if further is None else replace(further, jobs=_folded(snapshot, further.jobs))
    if jobs is snapshot.jobs and (further is None or ways is None or ways.jobs is further.jobs):
        return snapshot
    return replace(snapshot, jobs=jobs, further=ways)


def _folded(snapshot: Snapshot, jobs: Jobs) -> Jobs:
    limited: Bools = (jobs.level > 0) | (jobs.residence >= 0) | (jobs.classification > jobs.cleared)
    rows = np.flatnonzero(limited)
    if not rows.size:
        return jobs
    policy = jobs.policy.copy()
    against = _against(snapshot, jobs, rows)
    policy[rows] = np.where((against > 0) & np.isin(policy[rows], _NO_RIGHT), against, policy[rows])
    none, zero = np.full(len(jobs.ids), -1, dtype=np.int64), np.zeros(len(jobs.ids), dtype=np.int64)
    return replace(jobs, policy=policy, level=zero, residence=none, classification=zero, cleared=zero)


def _against(snapshot: Snapshot, jobs: Jobs, rows: Ints) -> Ints:
    """[M, C] The first reason of the terms against each of these jobs at each cluster, 0 for none."""
    clusters = len(snapshot.clusters.names)
    found = np.zeros((len(rows), clusters), dtype=np.int64)
    low = snapshot.clusters.level < jobs.level[rows][:, None]
    found[low] = Reason.PRODUCT_SECURITY
    bound = jobs.residence[rows] >= 0
    found[bound] = np.where(snapshot.residences[jobs.residence[rows][bound]], found[bound], np.int64(Reason.PRODUCT_JURISDICTION))
    found[jobs.classification[rows] > jobs.cleared[rows]] = Reason.LICENCE_MISSING
    return found
