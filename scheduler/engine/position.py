"""Position: when a waiting job's turn comes, who is before it, and why.

The order is that of `Turns`, the one that `place` goes by, with one difference: here everybody who gets a turn takes it, whether or
not there is room, and no queue is ever full. So it says who is preferred to whom, and not who starts first: a job that finds no
room is passed over by those behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from scheduler.engine.aftermath import chosen_jobs
from scheduler.engine.evictable import Claims, Evictable
from scheduler.engine.order import Turns, by_name
from scheduler.engine.snapshot import Ints, Nodes, Snapshot
from scheduler.engine.tree import Amounts, capacity_of, free_of, grow, per_unit


class Before(Enum):
    """Why one waiting job goes before another. `QUOTA` and `SHARE` are of the queues where their ways down the tree part."""

    PRIORITY = "priority"
    AGE = "age"
    QUOTA = "quota"
    SHARE = "share"
    HEIR = "heir"


@dataclass(frozen=True)
class Precedent:
    """Why the job of a row goes before the one that was asked about.

    Of two queues that compete, `queue` is the row of theirs and `own` that of ours, with their weighted shares now (0 … 1, and
    beyond for what little weight holds); both rows are -1 inside one queue.
    """

    job: int
    why: Before
    queue: int = -1
    own: int = -1
    queue_share: float = 0.0
    own_share: float = 0.0


def turn_order(snapshot: Snapshot, most: int) -> Ints:
    """[T] Rows of the first `most` jobs, or of all if they are fewer, in the order of their turns."""
    rows = _first_of_each_queue(snapshot, most)
    turns = Turns(by_name(_in_short(snapshot, rows)).snapshot)
    found: list[int] = []
    while len(found) < most and (job := turns.next()) is not None:
        turns.grant(job)
        found.append(job)
    return rows[np.array(found, dtype=np.int64)]


def precedent(snapshot: Snapshot, job: int, other: int) -> Precedent:
    """Why `other` goes before `job`; both are rows of jobs that wait, and `other`'s turn is the earlier."""
    jobs, parent = snapshot.jobs, snapshot.queues.parent
    theirs, ours = _way_down(parent, int(jobs.queue[other])), _way_down(parent, int(jobs.queue[job]))
    if theirs == ours:
        return Precedent(other, Before.PRIORITY if jobs.rank[other] != jobs.rank[job] else Before.AGE)
    level = next((at for at, (left, right) in enumerate(zip(theirs, ours, strict=False)) if left != right), None)
    if level is None:
        # One queue is above the other: what waits in it dates from before it had others below it, and goes first.
        return Precedent(other, Before.HEIR)
    queue, own = theirs[level], ours[level]
    capacity = capacity_of(snapshot)
    amounts, unit = Amounts(grow(snapshot.queues, snapshot.weights.history, capacity, free_of(snapshot))), per_unit(capacity).tolist()
    grants = [(jobs.request[row] * jobs.workers[row]).tolist() for row in (other, job)]
    within = [amounts.is_within_quota(row, grant) for row, grant in zip((queue, own), grants, strict=True)]
    weights = snapshot.queues.weight[[queue, own]].tolist()
    shares = [
        amounts.share(row, grant, unit) / weight if weight > 0 else np.inf
        for row, grant, weight in zip((queue, own), grants, weights, strict=True)
    ]
    why = Before.QUOTA if within[0] and not within[1] else Before.SHARE
    return Precedent(other, why, queue, own, float(shares[0]), float(shares[1]))


def _way_down(parent: Ints, queue: int) -> list[int]:
    way = [queue]
    while (queue := int(parent[queue])) >= 0:
        way.append(queue)
    return way[::-1]


def _first_of_each_queue(snapshot: Snapshot, most: int) -> Ints:
    jobs = snapshot.jobs
    # More than `most` of one queue can never be among the first `most` of all.
    order = np.lexsort((np.array(jobs.ids, dtype=np.str_), jobs.sequence, -jobs.rank, jobs.queue))
    queue = jobs.queue[order]
    place = np.arange(len(order)) - np.searchsorted(queue, queue)
    rows: Ints = order[place < most]
    return rows


def _in_short(snapshot: Snapshot, rows: Ints) -> Snapshot:
    """These jobs in a world without limits, its clusters drawn together to a node each: turns depend on sums alone."""
    clusters, nodes, queues = snapshot.clusters, snapshot.nodes, snapshot.queues
    shape = (len(clusters.names), len(snapshot.resources))
    total, free = np.zeros(shape), np.zeros(shape)
    np.add.at(total, nodes.cluster, nodes.total)
    np.add.at(free, nodes.cluster, nodes.free)
    drawn = Nodes(
        names=clusters.names, cluster=np.arange(shape[0]), ready=np.ones(shape[0], dtype=np.bool_), total=total, free=free,
        label_ok=np.ones((len(nodes.label_ok), shape[0]), dtype=np.bool_),
    )  # fmt: skip
    unlimited = replace(
        queues, max_running=np.full_like(queues.max_running, -1), ceiling=np.full_like(queues.ceiling, np.inf),
        kept=np.zeros_like(queues.kept), seats=np.zeros((0, 0), dtype=np.int64),
    )  # fmt: skip
    jobs = chosen_jobs(snapshot.jobs, rows.tolist())
    return replace(
        snapshot, nodes=drawn, queues=unlimited, jobs=jobs, further=None, running=None, heads=0, promised=(), windows=None,
        evictable=Evictable(), claims=Claims(),
    )  # fmt: skip
