"""Check, the part about queues: nothing over a ceiling, nothing of what is kept back, and no job held back that need not be.

Like all of `check` it is written apart from what made the plan: sums over the whole plan instead of one booking after the other.
That suffices, because what queues hold and claim only grows while a plan is made: what was refused on the way would be refused
at the end.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from scheduler.engine.plan import Plan
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import ROUNDING, Floats, Ints, Snapshot

Sums = TypeVar("Sums", Floats, Ints)


def quota_faults(snapshot: Snapshot, plan: Plan) -> list[str]:
    """What a plan breaks of ceilings and of what is kept back, and which jobs wait for these without need."""
    queues, placed = snapshot.queues, placed_by(snapshot, plan)
    started, after = with_all_below(queues.parent, placed), with_all_below(queues.parent, queues.held + placed)
    over = np.argwhere((started > 0) & ~(after <= queues.ceiling * (1 + 2 * ROUNDING)))
    faults = [
        f"queue {queues.names[queue]} would hold {after[queue, resource]:g} of at most {queues.ceiling[queue, resource]:g} "
        f"{snapshot.resources[resource]}"
        for queue, resource in over.tolist()
    ]
    faults += _taken_from_what_is_kept(snapshot, placed)
    faults += _overtaken(snapshot, plan)
    return faults or _held_back_without_need(snapshot, plan, placed)


def placed_by(snapshot: Snapshot, plan: Plan) -> Floats:
    """[Q, R] What the placements of each queue hold."""
    placed = np.zeros_like(snapshot.queues.held)
    for item in plan.placements:
        placed[snapshot.jobs.queue[item.job]] += snapshot.jobs.request[item.job] * len(item.nodes)
    return placed


def _overtaken(snapshot: Snapshot, plan: Plan) -> list[str]:
    """In a strict queue the placed jobs are the first ones, by rank, then sequence, then id; only others wait for the order."""
    jobs, queues = snapshot.jobs, snapshot.queues
    place = list(zip((-jobs.rank).tolist(), jobs.sequence.tolist(), jobs.ids, strict=True))
    home, strict, first = jobs.queue.tolist(), queues.strict.tolist(), dict[int, tuple[int, int, str]]()
    for item in plan.unplaced:
        first[home[item.job]] = min(first.get(home[item.job], place[item.job]), place[item.job])
    overtaking = [
        (item.job, home[item.job])
        for item in plan.placements
        if strict[home[item.job]] and home[item.job] in first and first[home[item.job]] < place[item.job]
    ]
    idle = [
        (item.job, home[item.job])
        for item in plan.unplaced
        if Reason.QUEUE_ORDER in item.clusters and (not strict[home[item.job]] or first[home[item.job]] == place[item.job])
    ]
    return [
        *(f"{jobs.ids[job]} overtakes {first[queue][2]} in the strict queue {queues.names[queue]}" for job, queue in overtaking),
        *(f"{jobs.ids[job]} waits for the order of queue {queues.names[queue]} though nothing is ahead of it" for job, queue in idle),
    ]


def with_all_below(parent: Ints, own: Sums) -> Sums:
    """[Q, …] Each queue's own value and those of all queues below it."""
    sums, at = own.copy(), parent.copy()
    while (at >= 0).any():
        np.add.at(sums, at[at >= 0], own[at >= 0])
        at = np.where(at >= 0, parent[at], -1)
    return sums


def _taken_from_what_is_kept(snapshot: Snapshot, placed: Floats) -> list[str]:
    """Claims at the top may grow by what is free and not kept back, and in a queue up to its ceiling."""
    queues = snapshot.queues
    before, after = _claims(snapshot, queues.held), _claims(snapshot, queues.held + placed)
    spare, slack = _spare(snapshot)
    top = queues.parent < 0
    grown = (after[top] - before[top]).sum(axis=0)
    beyond = np.flatnonzero(~(grown <= np.maximum(spare, 0.0) + slack))
    filled = np.argwhere((after > before) & ~(after <= queues.ceiling * (1 + 2 * ROUNDING)))
    return [
        *(f"{grown[row]:g} {snapshot.resources[row]} go to queues beyond what others keep back" for row in beyond.tolist()),
        *(
            f"queue {queues.names[queue]} fills its ceiling of {snapshot.resources[resource]} with what one below it keeps back"
            for queue, resource in filled.tolist()
        ),
    ]


def _spare(snapshot: Snapshot) -> tuple[Floats, Floats]:
    """[R] What is free where work may be placed and nobody keeps back, and how far that may be off."""
    queues, nodes, clusters = snapshot.queues, snapshot.nodes, snapshot.clusters
    top = queues.parent < 0
    kept = (_claims(snapshot, queues.held) - with_all_below(queues.parent, queues.held))[top].sum(axis=0)
    usable = nodes.ready & (clusters.healthy & ~clusters.cordoned)[nodes.cluster]
    slack = 2 * ROUNDING * nodes.total[clusters.healthy[nodes.cluster]].sum(axis=0)
    return np.where(kept > slack / 2, nodes.free[usable].sum(axis=0) - kept, np.inf), slack


def _claims(snapshot: Snapshot, own: Floats) -> Floats:
    """[Q, R] What each queue holds with all below it, where less is held than kept back what is kept."""
    queues = snapshot.queues
    claims = np.maximum(queues.kept, own)
    # Each time the claims of one level more are right.
    for _ in queues.names:
        base = own.copy()
        np.add.at(base, queues.parent[queues.parent >= 0], claims[queues.parent >= 0])
        found = np.maximum(queues.kept, base)
        if np.array_equal(found, claims):
            break
        claims = found
    return claims


class Ledger:
    """What queues hold once a plan is carried out, and whether they would still be within their limits with more."""

    def __init__(self, snapshot: Snapshot, placed: Floats) -> None:
        queues = snapshot.queues
        self._queues, self._own, self._top = queues, queues.held + placed, queues.parent < 0
        self._held, self._claims = with_all_below(queues.parent, self._own), _claims(snapshot, self._own)
        grown = (self._claims[self._top] - _claims(snapshot, queues.held)[self._top]).sum(axis=0)
        self._spare, self._snapshot = _spare(snapshot)[0] - grown, snapshot

    def refuses(self, queue: int, more: Floats) -> bool:
        """Whether a queue may not hold `more[R]` beside what it holds then."""
        one_more = self._own.copy()
        one_more[queue] += more
        above, raised = with_all_below(self._queues.parent, one_more), _claims(self._snapshot, one_more)
        over = (above > self._held) & ~(above <= self._queues.ceiling)
        over |= (raised > self._claims) & ~(raised <= self._queues.ceiling)
        beyond = (more > 0) & ~((raised - self._claims)[self._top].sum(axis=0) <= self._spare)
        return bool(over.any() or beyond.any())


def _held_back_without_need(snapshot: Snapshot, plan: Plan, placed: Floats) -> list[str]:
    further = snapshot.further
    jobs, ledger, known, faults = snapshot.jobs, Ledger(snapshot, placed), dict[tuple[int, bytes], bool](), []
    for item in plan.unplaced:
        if Reason.QUEUE_QUOTA not in item.clusters:
            continue
        # One of the ways to run it is enough.
        queue, least = int(jobs.queue[item.job]), jobs.least[item.job]
        ways = [jobs.request[item.job], *(further.jobs.request[further.of == item.job] if further else ())]
        key = (queue, np.array([request * least for request in ways]).tobytes())
        if key not in known:
            known[key] = any(ledger.refuses(queue, request * least) for request in ways)
        if not known[key]:
            faults.append(f"{jobs.ids[item.job]} is held back by a quota that it is within")
    return faults
