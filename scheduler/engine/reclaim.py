"""Reclaim: whom a job may have ended, by the policy of its queue and by what queues hold.

A run of the same queue and a lower priority, where the policy is at least `lower-priority`. Priorities are chosen by those who
submit, so they are compared inside one queue alone. Where it is `reclaim-quota`, also any run by which another branch of the tree
holds more than its quota, as long as the job's own branch stays within its quota with the job: what was lent is taken back. The
branches are the two sisters, below the queue that both are below, in one of which the job waits, in the other the run is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scheduler.engine.evictable import PreemptionPolicy
from scheduler.engine.plan import Placement
from scheduler.engine.snapshot import ROUNDING, Bools, Floats, Ints, Snapshot
from scheduler.engine.tree import MOST, Amounts, capacity_of, grow, upward, with_children


class Holdings:
    """What queues hold while victims are chosen: with what was placed and claimed in this plan, without what is ending."""

    def __init__(self, snapshot: Snapshot, placements: Sequence[Placement]) -> None:
        self._snapshot = snapshot
        queues, jobs, running, claims = snapshot.queues, snapshot.jobs, snapshot.evictable, snapshot.claims
        self._quota = queues.quota * (1 + ROUNDING)
        self._own, self._count = queues.held.copy(), queues.running.copy()
        self._paths = [_path(queues.parent.tolist(), queue) for queue in range(len(queues.names))]
        self._sisters: dict[tuple[int, int], tuple[int, int] | None] = {}
        tree = grow(queues, 0.0, capacity_of(snapshot), np.zeros(len(snapshot.resources)))
        self._limited = tree.limited | np.array([any(tree.left[at] != MOST for at in path) for path in self._paths], dtype=np.bool_)
        self.total = running.request * running.workers()[:, None] if running.ids else np.zeros((0, len(snapshot.resources)))
        for item in placements:
            self._own[jobs.queue[item.job]] += jobs.request[item.job] * len(item.nodes)
            self._count[jobs.queue[item.job]] += 1
        placed = [item.job for item in placements]
        for claim in np.flatnonzero(~np.isin(claims.job, placed)).tolist():
            self._own[claims.queue[claim]] += claims.asked()[claims.owner == claim].sum(axis=0)
            self._count[claims.queue[claim]] += 1
        for run in np.flatnonzero(running.ending).tolist():
            self._own[running.queue[run]] -= self.total[run]
            self._count[running.queue[run]] -= 0 if running.part[run] else 1
        self.held = with_children(queues.parent, upward(queues.parent), self._own)

    def release(self, run: int, sign: int = 1) -> None:
        """A run ends; with -1, it does not after all."""
        running = self._snapshot.evictable
        self._book(int(running.queue[run]), -sign * self.total[run], 0 if running.part[run] else -sign)

    def hold(self, job: int) -> None:
        """A job will hold what it asks for."""
        jobs = self._snapshot.jobs
        self._book(int(jobs.queue[job]), jobs.request[job] * jobs.least[job], 1)

    def _book(self, queue: int, amount: Floats, count: int) -> None:
        self._own[queue] += amount
        self._count[queue] += count
        for at in self._paths[queue]:
            self.held[at] += amount

    def is_limited(self, job: int) -> bool:
        """Whether limits, ceilings or what others keep back may stand against a job."""
        return bool(self._limited[self._snapshot.jobs.queue[job]])

    def may_hold(self, job: int, free: Floats) -> bool:
        """Whether a job's queue may hold it too, with so much `free[R]` in the network."""
        snapshot, jobs = self._snapshot, self._snapshot.jobs
        queue = int(jobs.queue[job])
        if not self._limited[queue]:
            return True
        queues = replace(snapshot.queues, held=np.maximum(self._own, 0.0), running=self._count)
        tree = Amounts(grow(queues, snapshot.weights.history, capacity_of(snapshot), free))
        return not tree.is_full(queue) and tree.may_hold(queue, (jobs.request[job] * jobs.least[job]).tolist())

    def may_end(self, job: int, run: int) -> PreemptionPolicy:
        """By which right a job may have a run ended now; NEVER for by none."""
        policy = PreemptionPolicy(int(self._snapshot.queues.preemption[self._snapshot.jobs.queue[job]]))
        if policy >= PreemptionPolicy.RECLAIM_QUOTA and self._takes_back(job, run):
            return PreemptionPolicy.RECLAIM_QUOTA
        running, jobs = self._snapshot.evictable, self._snapshot.jobs
        lower = running.queue[run] == jobs.queue[job] and running.rank[run] < jobs.rank[job]
        return PreemptionPolicy.LOWER_PRIORITY if policy >= PreemptionPolicy.LOWER_PRIORITY and lower else PreemptionPolicy.NEVER

    def rights(self, job: int) -> Ints:
        """[V] The same for all runs at once."""
        snapshot, jobs, running = self._snapshot, self._snapshot.jobs, self._snapshot.evictable
        queue, found = int(jobs.queue[job]), np.zeros(len(running.ids), dtype=np.int64)
        policy = int(snapshot.queues.preemption[queue])
        if policy >= PreemptionPolicy.LOWER_PRIORITY:
            found[(running.queue == queue) & (running.rank < jobs.rank[job])] = PreemptionPolicy.LOWER_PRIORITY
        if policy >= PreemptionPolicy.RECLAIM_QUOTA:
            lent = np.array([self._lent(job, other) for other in range(len(snapshot.queues.names))], dtype=np.bool_)
            found[(lent[running.queue] & (self.total > 0)).any(axis=1)] = PreemptionPolicy.RECLAIM_QUOTA
        return found

    def _takes_back(self, job: int, run: int) -> bool:
        return bool((self._lent(job, int(self._snapshot.evictable.queue[run])) & (self.total[run] > 0)).any())

    def _lent(self, job: int, queue: int) -> Bools:
        """[R] Of which resources a queue's branch holds what the job's branch has lent, and may claim back for the job."""
        snapshot, jobs = self._snapshot, self._snapshot.jobs
        pair = self._branches(int(jobs.queue[job]), queue)
        if pair is None:
            return np.zeros(len(snapshot.resources), dtype=np.bool_)
        (mine, other), asked = pair, jobs.request[job] * jobs.least[job]
        due = (asked > 0) & (self._quota[mine] > 0)
        if (self.held[mine] + asked > self._quota[mine])[due].any():
            return np.zeros_like(due)
        lent: Bools = due & (self.held[other] > self._quota[other])
        return lent

    def _branches(self, mine: int, other: int) -> tuple[int, int] | None:
        """The two sisters that these queues are, or are below; None where one is below the other."""
        key = (mine, other)
        if key not in self._sisters:
            one, two = self._paths[mine][::-1], self._paths[other][::-1]
            shared = 0
            while shared < min(len(one), len(two)) and one[shared] == two[shared]:
                shared += 1
            apart = shared < len(one) and shared < len(two)
            self._sisters[key] = (one[shared], two[shared]) if apart else None
        return self._sisters[key]


def _path(parent: list[int], queue: int) -> list[int]:
    """A queue and all above it."""
    found = []
    while queue >= 0:
        found.append(queue)
        queue = parent[queue]
    return found
