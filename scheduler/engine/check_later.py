"""The part of `check` that proves that who waits for a cheaper or cleaner hour has one, in time for its deadline."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from scheduler.engine.plan import Plan, Promise
from scheduler.engine.reasons import LATER, Reason
from scheduler.engine.snapshot import Later, Snapshot

# How far the price of a start may be off, as a part of it, and its time, in seconds.
SLACK = 1e-6


def heads_and_waiting(plan: Plan) -> tuple[list[Promise], list[Promise]]:
    """The promises to jobs that are blocked, and those to jobs that wait for a cheaper or cleaner hour."""
    waiting = {item.job for item in plan.unplaced if LATER.intersection(item.clusters)}
    return [item for item in plan.promises if item.job not in waiting], [item for item in plan.promises if item.job in waiting]


def later_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """Jobs that wait for a cheaper or cleaner hour and may not, or are promised none that is in time and better."""
    promised, later, faults = {item.job: item for item in plan.promises}, defaultdict[str, dict[int, Later]](dict), list[str]()
    for table in snapshot.later:
        later[table.job][table.choice] = table
    for item in plan.unplaced:
        for reason in sorted(LATER.intersection(item.clusters)):
            name, promise = snapshot.jobs.ids[item.job], promised.get(item.job)
            costs = later[name] if reason is _reason(later[name]) else {}
            if not costs or promise is None or promise.choice not in costs:
                what = "may not" if not costs else "is promised none" if promise is None else "may not by the model it is promised"
                faults.append(f"{name} waits as {reason.label}, and {what}")
            else:
                faults += [f"{name} waits for an hour that {fault}" for fault in _faults(costs, promise)]
    return faults


def _faults(ways: dict[int, Later], promise: Promise) -> list[str]:
    cluster, later = promise.cluster, ways[promise.choice]
    cost = np.interp(promise.start_s, later.at_s[cluster], later.cost[cluster])
    # It is cheaper than where and how it could start now, at least than the dearest of that.
    dearest = max((cost for way in ways.values() for cost in _costs_now(way)), default=np.inf)
    paid = _pays(later, cluster, promise.start_s)
    better = "is not cleaner" if later.cleaner else "is not cheaper"
    rules = (
        (promise.start_s <= later.latest_s[cluster], "is too late"), (paid, "its budget does not pay for"),
        (cost <= dearest * (1 + SLACK), better),
    )  # fmt: skip
    return [fault for kept, fault in rules if not kept]


def _reason(ways: dict[int, Later]) -> Reason | None:
    """Why a job with these ways may wait, None where it has none."""
    if not ways:
        return None
    if not any(_costs_now(way) for way in ways.values()):
        return Reason.AFFORDABLE_LATER
    return Reason.CLEANER_LATER if any(way.cleaner for way in ways.values()) else Reason.CHEAPER_LATER


def _costs_now(way: Later) -> list[float]:
    """What the job would cost now at each cluster where it may go and its budget pays for that."""
    permitted = np.flatnonzero(way.latest_s > -np.inf).tolist()
    return [float(way.cost[cluster, 0]) for cluster in permitted if _pays(way, cluster, 0.0)]


def _pays(way: Later, cluster: int, start_s: float) -> bool:
    return any(begin - SLACK <= start_s <= end + SLACK for begin, end in way.within_s[cluster].tolist())
