"""Later: whether a job that may wait for a cheaper hour, or for a cleaner one, should, and until when.

What a run costs depends on when it starts: on a line between the times at which a tariff changes under its beginning or its end. So
the cheapest start is at one of those, or as soon as there is room. All of this holds for the CO2 that it emits, with the intensity of
electricity in place of the tariff: grams are the cost of a job that waits for a cleaner hour. A job waits for it only with a promise: a
start that others do not delay, in time for its deadline. Where none can be promised that saves enough, the job takes its turn like any
other.

Waiting has to save a part of the price, less where it is not long, so that nobody waits for hours for a cent, or starts at the dear
rate a minute before the cheap one. Times are in seconds from now.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Bools, Floats, Later, Snapshot

# The part of the price that waiting for this long or longer has to save at least; for less long that much less.
LEAST_SAVING, LONG_S = 0.02, 3600.0
# Nobody waits for less: sums of fractions are off by that much.
SOONEST_S = 0.001
# How far a time may be off what the budget pays for: what sums of floats are off by.
SLACK_S = 1e-6
_NOW = np.zeros(1)


def cost_at(later: Later, cluster: int, start_s: Floats) -> Floats:
    """[T] What the job costs at a cluster where it may go, if it is placed at these times."""
    cost: Floats = np.interp(start_s, later.at_s[cluster], later.cost[cluster])
    return cost


def pays(later: Later, cluster: int, start_s: Floats) -> Bools:
    """[T] Whether the job's budget pays for a placement at a cluster at these times."""
    begins, ends = later.within_s[cluster].T
    found: Bools = ((begins - SLACK_S <= start_s[:, None]) & (start_s[:, None] <= ends + SLACK_S)).any(axis=1)
    return found


def open_now(later: Later) -> Bools:
    """[C] Where the job may go, and its budget pays for a placement now."""
    paid: Bools = np.array([pays(later, cluster, _NOW)[0] for cluster in range(len(later.latest_s))], dtype=np.bool_)
    return paid & (later.latest_s > -np.inf)


def now_at_least(later: Later) -> float:
    """The least that the job costs if it is placed now at a cluster where it may go and can pay; inf where there is none."""
    return float(later.cost[open_now(later), 0].min(initial=np.inf))


def now_at_most(ways: Iterable[Later]) -> float:
    """The most that the job costs in any of its ways if it is placed now at a cluster where it may go and can pay; 0 without one."""
    return max((float(later.cost[open_now(later), 0].max(initial=0.0)) for later in ways), default=0.0)


def cost_now_at(snapshot: Snapshot, ways: Sequence[Later], row: int, cluster: int) -> float:
    """What the job costs if it starts now at a cluster by one of its ways, a row of jobs.

    Where nobody knows what it emits that is as bad as the worst of those that are known.
    """
    table = snapshot.jobs.carbon_g if ways[0].cleaner else snapshot.jobs.cost
    cost = float(table[row, cluster])
    return now_at_most(ways) if math.isnan(cost) else cost


def reason_of(ways: Collection[Later]) -> Reason:
    """What is said of a job with these ways while it waits: if its budget pays for none of them now, that it waits until one is paid."""
    if not any(open_now(later).any() for later in ways):
        return Reason.AFFORDABLE_LATER
    return Reason.CLEANER_LATER if any(later.cleaner for later in ways) else Reason.CHEAPER_LATER


def most(cost_now: float, start_s: Floats) -> Floats:
    """[T] What the job may cost at these times so that waiting is worth it; placed now it costs `cost_now`."""
    return cost_now * (1.0 - LEAST_SAVING * np.minimum(start_s / LONG_S, 1.0))


def worth_waiting(later: Later, cluster: int, start_s: Floats, cost_now: float) -> Floats:
    """[W] Of these times those at which the job would be placed in time and save enough, the cheapest first, then the soonest."""
    times = start_s[(start_s > SOONEST_S) & (start_s <= later.latest_s[cluster]) & pays(later, cluster, start_s)]
    costs = cost_at(later, cluster, times)
    worth = costs < most(cost_now, times)
    times, costs = times[worth], costs[worth]
    ordered: Floats = times[np.lexsort((times, costs.round(6)))]
    return ordered


def turning_points(later: Later, cluster: int) -> Floats:
    """[K] The times to come at which the price at a cluster may be least, the last in time and those within the budget among them."""
    times = np.unique(np.concatenate([later.at_s[cluster], [later.latest_s[cluster]], later.within_s[cluster].ravel()]))
    ahead: Floats = times[(times > SOONEST_S) & (times <= later.latest_s[cluster])]
    return ahead
