"""Check: a plan is proved against its snapshot before anything of it is stored.

Written apart from `place` and from its rules on purpose: what made the plan cannot also be what excuses it. A plan that
breaks an invariant is a bug; nothing of it is committed. Conditions are put so that a number that is none (NaN) fails.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from scheduler.engine.aftermath import only_jobs
from scheduler.engine.check_alternatives import as_chosen, choice_faults, with_all_ways
from scheduler.engine.check_arrays import array_faults
from scheduler.engine.check_devices import device_faults
from scheduler.engine.check_gangs import gang_faults
from scheduler.engine.check_preempt import claim_faults, preemption_faults
from scheduler.engine.check_promises import promise_faults
from scheduler.engine.check_queues import quota_faults, with_all_below
from scheduler.engine.check_sizes import size_faults
from scheduler.engine.check_terms import term_faults
from scheduler.engine.check_windows import window_faults
from scheduler.engine.growth import growth_world
from scheduler.engine.parts import shrunk
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, ROUNDING, Bools, Floats, Ints, Snapshot
from scheduler.engine.terms import within_terms
from scheduler.errors import PlanRejectedError


def check(snapshot: Snapshot, plan: Plan) -> None:
    """Raises PlanRejectedError with every broken invariant."""
    # Later rules look things up by the rows that earlier ones have proved to be there.
    faults = _answers(snapshot, plan) or _rows(snapshot, plan) or choice_faults(snapshot, plan)
    faults = faults or term_faults(snapshot, plan)
    if not faults:
        given = snapshot = within_terms(snapshot)
        promised, snapshot = as_chosen(snapshot, (*plan.placements, *plan.promises)), as_chosen(snapshot, plan.placements)
        seats = _seats(plan)
        faults = [*_rules(snapshot, seats), *_capacity(snapshot, seats), *_queue_limits(snapshot, seats), *_unplaced(snapshot, plan)]
        faults += [*quota_faults(snapshot, plan), *gang_faults(snapshot, plan), *device_faults(snapshot, plan)]
        faults += [*promise_faults(promised, plan), *array_faults(snapshot, plan), *window_faults(snapshot, plan)]
        faults += claim_faults(snapshot, plan)
        ways = with_all_ways(given, plan)
        sizes = size_faults(ways, plan)
        faults += sizes or [*preemption_faults(replace(ways, snapshot=shrunk(ways.snapshot, plan.shrinks)), plan), *_joining(given, plan)]
    if faults:
        raise PlanRejectedError("; ".join(faults))


def _joining(snapshot: Snapshot, plan: Plan) -> list[str]:
    """What is wrong with workers that join gangs, each as the placement of a job in the world that the rest of the plan leaves."""
    if not plan.growths or snapshot.elastic is None:
        return []
    world, of = growth_world(snapshot, snapshot.elastic, plan)
    placements, rows = [], list[int]()
    for item in plan.growths:
        devices = item.devices or ((),) * len(item.nodes)
        for row, node, chosen in zip(np.flatnonzero(of == item.gang).tolist(), item.nodes, devices, strict=False):
            placements.append(Placement(len(rows), int(snapshot.elastic.cluster[item.gang]), (node,), 0.0, (chosen,) if chosen else ()))
            rows.append(row)
    if len(rows) != sum(len(item.nodes) for item in plan.growths):
        return ["more workers join than gangs may have now"]
    try:
        check(only_jobs(world, rows), Plan(tuple(placements), ()))
    except PlanRejectedError as error:
        return [str(error)]
    return []


def _answers(snapshot: Snapshot, plan: Plan) -> list[str]:
    answered = Counter([item.job for item in plan.placements] + [item.job for item in plan.unplaced])
    known = range(len(snapshot.jobs.ids))
    faults = [f"the plan names job row {job}, which is not there" for job in sorted(answered) if job not in known]
    faults += [f"{snapshot.jobs.ids[job]} is answered {answered[job]} times" for job in known if answered[job] != 1]
    return faults


def _rows(snapshot: Snapshot, plan: Plan) -> list[str]:
    clusters, nodes, faults = range(len(snapshot.clusters.names)), range(len(snapshot.nodes.names)), []
    for placement in plan.placements:
        name = snapshot.jobs.ids[placement.job]
        if placement.cluster not in clusters:
            faults.append(f"{name} is placed at cluster row {placement.cluster}, which is not there")
        faults += [f"{name} is placed on node row {node}, which is not there" for node in placement.nodes if node not in nodes]
    return faults


@dataclass(frozen=True, eq=False)
class _Seats:
    """All placements as arrays: of each its `job[P]`, `cluster[P]` and `score[P]`; of each of their workers its `node[S]`.

    `owner[S]` is the placement that a worker belongs to.
    """

    job: Ints
    cluster: Ints
    score: Floats
    node: Ints
    owner: Ints

    def any_worker(self, found: Bools) -> Bools:
        """[P] The placements with a worker of which `found[S]` is true."""
        return np.bincount(self.owner[found], minlength=len(self.job)) > 0


def _seats(plan: Plan) -> _Seats:
    placements = plan.placements
    return _Seats(
        job=np.array([placement.job for placement in placements], dtype=np.int64),
        cluster=np.array([placement.cluster for placement in placements], dtype=np.int64),
        score=np.array([placement.score for placement in placements], dtype=np.float64),
        node=np.array([node for placement in placements for node in placement.nodes], dtype=np.int64),
        owner=np.repeat(np.arange(len(placements)), np.array([len(placement.nodes) for placement in placements], dtype=np.int64)),
    )


def _rules(snapshot: Snapshot, seats: _Seats) -> list[str]:
    clusters, nodes, jobs = snapshot.clusters, snapshot.nodes, snapshot.jobs
    job, cluster, node = seats.job, seats.cluster, seats.node
    label_class, asked = jobs.label_class[job][seats.owner], jobs.request[job][seats.owner, FIRST_ACCELERATOR:] > 0
    workers = np.bincount(seats.owner, minlength=len(job))
    lacks_model: Bools = np.any(asked & ~(nodes.total[node, FIRST_ACCELERATOR:] > 0), axis=1)
    rules = (
        (jobs.policy[job, cluster] != Reason.FITS, "policy forbids {cluster}"),
        (~clusters.healthy[cluster], "{cluster} is not healthy"),
        (clusters.cordoned[cluster], "{cluster} is cordoned"),
        (workers != np.clip(workers, jobs.least[job], jobs.most[job, cluster]), "some workers have no node, or more than one"),
        (seats.any_worker(nodes.cluster[node] != cluster[seats.owner]), "a node is not of {cluster}"),
        (seats.any_worker(~nodes.ready[node]), "a node is not ready"),
        (seats.any_worker(~nodes.label_ok[label_class, node]), "a node lacks labels"),
        (seats.any_worker(lacks_model), "a node lacks the accelerator model"),
        (~np.isfinite(seats.score), "its score is no number"),
    )
    return [
        f"{jobs.ids[job[row]]}: {fault.format(cluster=clusters.names[cluster[row]])}"
        for broken, fault in rules
        for row in np.flatnonzero(broken).tolist()
    ]


def _capacity(snapshot: Snapshot, seats: _Seats) -> list[str]:
    nodes, used = snapshot.nodes, np.zeros_like(snapshot.nodes.free)
    np.add.at(used, seats.node, snapshot.jobs.request[seats.job][seats.owner])
    over = np.argwhere(~(used <= nodes.free + 2 * ROUNDING * nodes.total))
    return [
        f"{nodes.names[node]}: {used[node, resource]:g} of {nodes.free[node, resource]:g} {snapshot.resources[resource]}"
        for node, resource in over.tolist()
    ]


def _queue_limits(snapshot: Snapshot, seats: _Seats) -> list[str]:
    queues = snapshot.queues
    placed = np.bincount(snapshot.jobs.queue[seats.job], minlength=len(queues.names))
    placed = with_all_below(queues.parent, placed)
    after = with_all_below(queues.parent, queues.running) + placed
    over = (placed > 0) & (queues.max_running >= 0) & (after > queues.max_running)
    return [
        f"queue {queues.names[queue]} would run {after[queue]} of at most {queues.max_running[queue]}"
        for queue in np.flatnonzero(over).tolist()
    ]


def _unplaced(snapshot: Snapshot, plan: Plan) -> list[str]:
    count, faults = len(snapshot.clusters.names), []
    for item in plan.unplaced:
        name = snapshot.jobs.ids[item.job]
        if len(item.clusters) != count:
            faults.append(f"{name} waits with reasons for {len(item.clusters)} of {count} clusters")
        elif item.blocker is Reason.FITS or Reason.FITS in item.clusters:
            faults.append(f"{name} waits though it fits")
    return faults
