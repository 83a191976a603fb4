"""Order: in which order rows are looked at, and whose job is next.

Rows of a snapshot are put in the order of their names first, so that ties break by name and the plan does not depend
on how the world was read. Between queues the next turn goes to the one below its quota, then to the one with the smallest
weighted dominant share (Ghodsi et al., Dominant Resource Fairness, NSDI 2011), level by level down the tree; within a queue
to the highest rank, then the oldest job.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from scheduler.engine.alternatives import as_placed, ways_of, with_alternatives
from scheduler.engine.evictable import on_rows
from scheduler.engine.plan import Placement
from scheduler.engine.snapshot import Clusters, Ints, Jobs, Nodes, Queues, Running, Snapshot
from scheduler.engine.tree import Amounts, capacity_of, free_of, grow, per_unit

# Above its quota, without weight, weighted share, row of the queue, row of its next job.
Entry: TypeAlias = tuple[bool, bool, float, int, int]


@dataclass(frozen=True, eq=False)
class Named:
    """A snapshot with its clusters, nodes and queues in the order of names. Job rows keep their places.

    `clusters[C]` and `nodes[N]` lead back: new row → row of the snapshot that was given.
    """

    snapshot: Snapshot
    clusters: Ints
    nodes: Ints


def by_name(snapshot: Snapshot) -> Named:
    """The same world with clusters and queues sorted by name, and nodes by cluster, then name."""
    running, promised = snapshot.running, snapshot.promised
    clusters, queues = _sorted_rows(snapshot.clusters.names), _sorted_rows(snapshot.queues.names)
    cluster_rank, queue_rank = np.argsort(clusters), np.argsort(queues)
    home = cluster_rank[snapshot.nodes.cluster]
    nodes = _sorted_rows(tuple(zip(home.tolist(), snapshot.nodes.names, strict=True)))
    evictable, claims = on_rows(snapshot.evictable, snapshot.claims, queue_rank, np.argsort(nodes))
    sorted_world = replace(
        snapshot,
        evictable=evictable,
        claims=claims,
        clusters=_cluster_rows(snapshot.clusters, clusters),
        nodes=_node_rows(replace(snapshot.nodes, cluster=home), nodes),
        queues=_queue_rows(snapshot.queues, queues, nodes),
        jobs=_job_columns(snapshot.jobs, queue_rank, clusters),
        windows=replace(snapshot.windows, covers=snapshot.windows.covers[:, nodes]) if snapshot.windows else None,
        running=_running_rows(running, np.argsort(nodes)) if running else None,
        promised=tuple(replace(item, nodes=np.argsort(nodes)[item.nodes]) for item in promised),
        later=tuple(
            replace(
                item, at_s=item.at_s[clusters], cost=item.cost[clusters], latest_s=item.latest_s[clusters], within_s=item.within_s[clusters]
            )
            for item in snapshot.later
        ),
        further=snapshot.further and replace(snapshot.further, jobs=_job_columns(snapshot.further.jobs, queue_rank, clusters)),
    )
    return Named(sorted_world, clusters, nodes)


def _running_rows(running: Running, node_rank: Ints) -> Running:
    device = running.device.copy()
    device[:, 1] = node_rank[device[:, 1]]
    return replace(running, node=node_rank[running.node], device=device)


def with_jobs(named: Named, other: Snapshot) -> Snapshot:
    """The world of `named` with the jobs of another, given in the order before, which differs in jobs, labels and groups of nodes alone."""
    queue_rank, nodes, theirs = np.argsort(_sorted_rows(other.queues.names)), named.snapshot.nodes, other.nodes
    windows, further = other.windows, other.further
    return replace(
        named.snapshot,
        nodes=replace(nodes, label_ok=theirs.label_ok[:, named.nodes], group=theirs.group[named.nodes]),
        jobs=_job_columns(other.jobs, queue_rank, named.clusters),
        windows=windows and replace(windows, covers=windows.covers[:, named.nodes]),
        further=further and replace(further, jobs=_job_columns(further.jobs, queue_rank, named.clusters)),
    )


class Turns:
    """Hands out jobs one by one, but for those that are `seated` already, and learns which of them were placed.

    From the top of the tree down, the next turn goes to the child whose next job stays within the child's quota, then to the one
    with the smallest weighted share; children without weight get what the others leave. A queue's share is the largest part
    that it holds of any resource of the healthy clusters. That of a queue with others below it counts only the resources
    that its next job asks for, so that what one child holds of a scarce resource does not keep its sisters from what they need
    (the starvation that Bhattacharya et al., Hierarchical Scheduling for Diverse Datacenter Workloads, SoCC 2013, describe).
    An elastic job is judged by all the workers that it would take, so that it goes before nobody's quota with what is beyond its
    own. Ties go by the queue's row, so the snapshot must come from `by_name`.
    """

    def __init__(self, snapshot: Snapshot, seated: Collection[int] = ()) -> None:
        queues, jobs = snapshot.queues, snapshot.jobs
        capacity = capacity_of(snapshot)
        tree = grow(queues, snapshot.weights.history, capacity, free_of(snapshot))
        self._tree, self._parent, self._weight = Amounts(tree), queues.parent.tolist(), queues.weight.tolist()
        self._per_unit = per_unit(capacity).tolist()
        every = with_alternatives(snapshot).jobs
        self._queue: list[int] = jobs.queue.tolist()
        # By row of `every`: the jobs, and behind them further ways to run some.
        self._grant: list[list[float]] = (every.request * every.workers[:, None]).tolist()
        self._request: list[list[float]] = every.request.tolist()
        self._least: list[int] = every.least.tolist()
        self._workers: list[int] = every.workers.tolist()
        self._ways = ways_of(snapshot)
        self._waiting: list[list[int]] = [[] for _ in queues.names]
        # Last first, because jobs are taken from the end.
        for job in reversed(_in_queue_order(jobs)):
            if job not in seated:
                self._waiting[self._queue[job]].append(job)
        # The children of each queue that have a job; of the top, whose row is -1, last.
        self._heaps: list[list[Entry]] = [[] for _ in range(len(queues.names) + 1)]
        for queue in tree.upward.tolist():
            if (entry := self._entry(queue)) is not None:
                heapq.heappush(self._heaps[self._parent[queue]], entry)
        self._strict = queues.strict.tolist()
        self._over: set[int] = set()
        self._behind: set[int] = set()
        self._changed = -1

    def next(self) -> int | None:
        """The job whose turn it is, None when no job is left that its queue may run."""
        self._refresh()
        while self._heaps[-1]:
            self._changed = queue = self._next_queue()
            job = self._waiting[queue].pop()
            if self.ways(job):
                return job
            self._over.add(job)
            self.pass_over(job)
            self._refresh()
        return None

    def ways(self, job: int) -> tuple[int, ...]:
        """Of the ways to run a job those that its queue may hold now."""
        return tuple(row for row in self._ways[job] if self._tree.may_hold(self._queue[job], self._with(row, self._least[row])))

    def most(self, job: int, way: int) -> int:
        """With how many workers the job handed out last may be placed in a way of its own, so that its queue holds no more than it may."""
        least, workers = self._least[job], self._workers[job]
        if least == workers:
            return workers
        # What may be held with some workers may be held with fewer.
        more = range(least + 1, workers + 1)
        return least + bisect_left(more, True, key=lambda count: not self._tree.may_hold(self._queue[job], self._with(way, count)))

    def grant(self, job: int, workers: int | None = None, row: int | None = None) -> None:
        """Note that the job handed out last was placed, with so many workers if not with all, and in this way if not in the first."""
        way = job if row is None else row
        self._tree.hold(self._queue[job], self._with(way, self._workers[way] if workers is None else workers))

    def _with(self, way: int, workers: int) -> list[float]:
        """What a job holds in one of its ways with so many workers."""
        return self._grant[way] if workers == self._workers[way] else [amount * workers for amount in self._request[way]]

    def pass_over(self, job: int) -> None:
        """Note that the job handed out last was not placed; in a strict queue nothing starts that waits behind it."""
        if self._strict[queue := self._queue[job]]:
            self._behind.update(self._waiting[queue])
            self._waiting[queue].clear()

    def held_back(self) -> frozenset[int]:
        """Jobs that got no turn because their queue, or one above it, runs as many as it may."""
        limited = (waiting for queue, waiting in enumerate(self._waiting) if waiting and self._tree.is_full(queue))
        return frozenset(job for waiting in limited for job in waiting)

    def over_quota(self) -> frozenset[int]:
        """Jobs that were passed over, because with them a queue would hold more than it may."""
        return frozenset(self._over)

    def behind(self) -> frozenset[int]:
        """Jobs that got no turn because one ahead of them in their strict queue was not placed."""
        return frozenset(self._behind)

    def _next_queue(self) -> int:
        queue = self._heaps[-1][0][3]
        # What waits in a queue itself (from before it had others below it) goes before what waits below.
        while not self._waiting[queue]:
            queue = self._heaps[queue][0][3]
        return queue

    def _refresh(self) -> None:
        """Set right the places of the queue that the last turn went to, and of those above; each is the first of its heap."""
        queue, self._changed = self._changed, -1
        while queue >= 0:
            heap, entry = self._heaps[self._parent[queue]], self._entry(queue)
            if entry is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, entry)
            queue = self._parent[queue]

    def _entry(self, queue: int) -> Entry | None:
        """What the child with the smallest of these goes next by; None without a job that may run."""
        waiting, heap = self._waiting[queue], self._heaps[queue]
        if self._tree.left[queue] <= 0 or not (waiting or heap):
            return None
        job = waiting[-1] if waiting else heap[0][4]
        dominant, weight = self._tree.share(queue, self._grant[job], self._per_unit), self._weight[queue]
        above = not self._tree.is_within_quota(queue, self._grant[job])
        return (above, False, dominant / weight, queue, job) if weight > 0 else (above, True, dominant, queue, job)


def without_limits(snapshot: Snapshot, jobs: Collection[int], placements: Sequence[Placement]) -> list[int]:
    """Some jobs that wait after these placements, in the order of their turns if no queue were ever full and each took its turn.

    Of a strict queue only the first, because nobody passes it. The snapshot must come from `by_name`.
    """
    world = as_placed(snapshot, placements)
    queues, held = world.queues, world.queues.held.copy()
    for item in placements:
        held[world.jobs.queue[item.job]] += world.jobs.request[item.job] * len(item.nodes)
    endless = np.full_like(queues.ceiling, np.inf)
    queues = replace(queues, held=held, max_running=np.full_like(queues.max_running, -1), ceiling=endless, kept=np.zeros_like(held))
    turns, found = Turns(replace(world, queues=queues), frozenset(range(len(world.jobs.ids))).difference(jobs)), list[int]()
    while (job := turns.next()) is not None:
        found.append(job)
        turns.grant(job)
        turns.pass_over(job)
    return found


def _in_queue_order(jobs: Jobs) -> list[int]:
    keys = list(zip((-jobs.rank).tolist(), jobs.sequence.tolist(), jobs.ids, strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def _sorted_rows(keys: tuple[str, ...] | tuple[tuple[int, str], ...]) -> Ints:
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _names(names: tuple[str, ...], rows: Iterable[int]) -> tuple[str, ...]:
    return tuple(names[row] for row in rows)


def _cluster_rows(clusters: Clusters, rows: Ints) -> Clusters:
    return Clusters(
        names=_names(clusters.names, rows.tolist()),
        healthy=clusters.healthy[rows],
        cordoned=clusters.cordoned[rows],
        wait_s=clusters.wait_s[rows],
    )


def _node_rows(nodes: Nodes, rows: Ints) -> Nodes:
    return Nodes(
        names=_names(nodes.names, rows.tolist()),
        cluster=nodes.cluster[rows],
        ready=nodes.ready[rows],
        total=nodes.total[rows],
        free=nodes.free[rows],
        label_ok=nodes.label_ok[:, rows],
        group=nodes.group[rows],
        devices=nodes.devices[rows] if nodes.devices.size else nodes.devices,
    )


def _queue_rows(queues: Queues, rows: Ints, nodes: Ints) -> Queues:
    new_row = np.append(np.argsort(rows), -1)  # The last is for the parent of none.
    return Queues(
        names=_names(queues.names, rows.tolist()),
        weight=queues.weight[rows],
        held=queues.held[rows],
        running=queues.running[rows],
        max_running=queues.max_running[rows],
        parent=new_row[queues.parent[rows]],
        quota=queues.quota[rows],
        ceiling=queues.ceiling[rows],
        kept=queues.kept[rows],
        used=queues.used[rows],
        strict=queues.strict[rows],
        spread=queues.spread[rows],
        seats=queues.seats[rows][:, nodes] if queues.seats.size else queues.seats,
        preemption=queues.preemption[rows],
    )


def _job_columns(jobs: Jobs, queue_rank: Ints, clusters: Ints) -> Jobs:
    return replace(
        jobs,
        queue=queue_rank[jobs.queue],
        policy=jobs.policy[:, clusters],
        transfer_s=jobs.transfer_s[:, clusters],
        cost=jobs.cost[:, clusters],
        carbon_g=jobs.carbon_g[:, clusters],
        most=jobs.most[:, clusters],
    )
