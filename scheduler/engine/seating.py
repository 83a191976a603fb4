"""Seating: a world in the order of names, and what is free in it while a plan is made.

It answers where a job may run now, how many of its workers fit there, which place is best, and on which nodes; and it books them. Jobs of
one class (the same request, workers, labels, group and rights) ask the same question of every cluster and node, so what filters answer is
kept for the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from scheduler.engine.alternatives import ways_of, with_alternatives
from scheduler.engine.classes import job_classes
from scheduler.engine.device_room import Chosen, completing, faults_of, hold, is_share, milli_of, room_prices, rooms_on
from scheduler.engine.filters import CLUSTER_FILTERS, LASTING_NODE_FILTERS, PAID, WINDOW_FILTERS, Against, busy, closest, first_reasons
from scheduler.engine.foresight import Foresight, Option
from scheduler.engine.gang import pack, scatter, unit_shares, workers_per_node
from scheduler.engine.groups import Groups, grouped
from scheduler.engine.node_scores import NODE_ASPECTS, node_aspects, wanted
from scheduler.engine.reasons import Reason
from scheduler.engine.scores import joint_totals
from scheduler.engine.snapshot import ROUNDING, Bools, Floats, Ints, Snapshot
from scheduler.engine.worth import Worth, least_lost, worth_of


@dataclass(frozen=True, eq=False)
class Standing:
    """What stands against clusters and nodes for one class of jobs, capacity in use aside.

    `clusters[C]` and `nodes[N]` hold Reasons. `usable[U]` are the nodes that nothing stands against, at clusters that
    nothing stands against; `home[U]` are their clusters, and those of cluster c are `usable[begin[c]:begin[c + 1]]`.
    `groups` are theirs where all workers must be in one.
    """

    clusters: Ints
    nodes: Ints
    usable: Ints
    home: Ints
    begin: tuple[int, ...]
    groups: Groups | None = None


@dataclass(frozen=True, eq=False)
class Best:
    """The row of the best way to run a job, where it goes and with how many workers; `rooms[U]` is what `on_nodes` answered for it."""

    row: int
    cluster: int
    workers: int
    score: float
    rooms: Ints


class Room:
    """A world in the order of names, and what is free in it while a plan is made."""

    def __init__(self, snapshot: Snapshot) -> None:
        nodes, every = snapshot.nodes, with_alternatives(snapshot)
        # Sums of fractions are off by a little: what is missing by less than that is there.
        slack = ROUNDING * nodes.total
        nodes = replace(nodes, total=nodes.total + slack, free=nodes.free + slack, devices=nodes.devices.copy())
        self._ask(snapshot, replace(every, nodes=nodes))
        self.foresight = Foresight(self.snapshot)
        self.share = unit_shares(snapshot)
        # [Q, N] Workers of each queue on each node, where a queue is laid out by them.
        seats, shape = snapshot.queues.seats, (len(snapshot.queues.names), len(nodes.names))
        self._seats = seats.copy() if seats.size else np.zeros(shape if snapshot.queues.spread.any() else (0, 0), dtype=np.int64)

    def _ask(self, snapshot: Snapshot, every: Snapshot) -> None:
        """Be asked about the jobs of a world; `every` has all their ways, and the nodes as they are here."""
        if faults := faults_of(every):
            raise ValueError("; ".join(faults))
        self.snapshot, self.ways, self.classes = every, ways_of(snapshot), job_classes(every)
        # [J, M] Thousandths of devices, where they are told apart.
        told_apart = bool(every.nodes.devices.size)
        self._milli = milli_of(every.jobs.request) if told_apart else np.zeros((len(every.jobs.ids), 0), dtype=np.int64)
        self._on_devices: list[bool] = np.asarray(self._milli.any(axis=1)).tolist()
        self._prices: Ints | None = None
        self._standings: dict[tuple[int, bool, bool], Standing] = {}
        self._never: set[int] = set()

    def beside(self, snapshot: Snapshot, foresight: Foresight, *, apart: bool = False) -> Room:
        """This room, with what is promised, for a world that differs in jobs, labels and groups of nodes alone; its rows are by name too.

        Nothing may be taken from it unless it is `apart`.
        """
        self.worth  # noqa: B018 - that of the same nodes to the same mix, so it is found once for all copies
        found, every = copy(self), with_alternatives(snapshot)
        ours = self.snapshot.nodes
        nodes = replace(ours, label_ok=every.nodes.label_ok, group=every.nodes.group)
        if apart:
            nodes, found._seats = replace(nodes, free=ours.free.copy(), devices=ours.devices.copy()), self._seats.copy()
        found._ask(snapshot, replace(every, nodes=nodes))
        found.foresight = foresight.again(found.snapshot)
        return found

    def standing(self, job: int, *, later: bool = False, unpaid: bool = False) -> Standing:
        """What does not change while a plan is made; `later` leaves out what will with time, and `unpaid` that a budget is too small."""
        key = (self.classes[job], later and self.snapshot.windows is not None, unpaid)
        filters = LASTING_NODE_FILTERS if key[1] else (*LASTING_NODE_FILTERS, *WINDOW_FILTERS)
        if key not in self._standings:
            home = self.snapshot.nodes.cluster
            clusters = first_reasons(PAID if unpaid else CLUSTER_FILTERS, self.snapshot, job)
            nodes = first_reasons(filters, self.snapshot, job)
            usable = np.flatnonzero((clusters[home] == Reason.FITS) & (nodes == Reason.FITS))
            # Rows are in the order of clusters, so those of a cluster are together.
            begin = np.searchsorted(home[usable], np.arange(len(clusters) + 1))
            same = int(self.snapshot.jobs.same[job])
            groups = grouped(home[usable], self.snapshot.nodes.group[usable, same]) if same >= 0 else None
            self._standings[key] = Standing(clusters, nodes, usable, home[usable], tuple(begin.tolist()), groups)
        return self._standings[key]

    def granted(self, job: int, rooms: Ints, most: int | None = None) -> Ints:
        """[C] With how many workers a job would start at each cluster now, `most` if no more are wanted; 0 where not even the least fit."""
        jobs = self.snapshot.jobs
        there = np.minimum(self.largest(job, rooms), jobs.most[job] if most is None else np.minimum(jobs.most[job], most))
        return np.where(there >= jobs.least[job], there, 0)

    def largest(self, job: int, rooms: Ints | None = None) -> Ints:
        """[C] How many workers fit now at each cluster where they may be together: all of it, or its group with most room."""
        standing, clusters = self.standing(job), len(self.snapshot.clusters.names)
        rooms = self.on_nodes(job) if rooms is None else rooms
        return _in_all(standing, rooms, clusters) if standing.groups is None else standing.groups.largest(rooms, clusters)

    def on_nodes(self, job: int, free: Floats | None = None) -> Ints:
        """[U] How many workers fit on each usable node in `free[N, R]`, usually in what is not promised to others."""
        usable = self.standing(job).usable
        if free is None:
            return self.foresight.on_devices(job, usable, self.on(job, usable, self.foresight.spare(job)))
        return self.on(job, usable, free)

    def on(self, job: int, nodes: Ints, free: Floats) -> Ints:
        """[M] How many workers fit on some nodes of `free[N, R]`, and on their devices now."""
        rooms = workers_per_node(free[nodes], self.snapshot.jobs.request[job])
        if self._on_devices[job]:
            rooms = np.minimum(rooms, rooms_on(self.snapshot.nodes.devices[nodes], self._milli[job]))
        return rooms

    def best(self, rows: tuple[int, ...], most: Sequence[int]) -> Best | None:
        """Of these ways to run a job, with at most so many workers in each, the best one with room; None without room."""
        rooms = [self.on_nodes(row) for row in rows]
        if len(rows) == 1 and (only := self._only(rows[0], rooms[0], most[0])) is not None:
            return only if only.workers else None
        granted = np.array([self.granted(row, there, top) for row, there, top in zip(rows, rooms, most, strict=True)])
        if not granted.any():
            return None
        # Where an elastic job gets most workers; of such clusters the best.
        candidates = granted == granted.max()
        scores = joint_totals(self.snapshot, rows, candidates, self.seen(rows, rooms, candidates))
        way, cluster = divmod(int(scores.argmin()), scores.shape[1])
        return Best(rows[way], cluster, int(granted[way, cluster]), float(scores[way, cluster]), rooms[way])

    def _only(self, row: int, rooms: Ints, most: int) -> Best | None:
        """The best way where there is no choice: one cluster has most room, or none has any (no workers); None where several have."""
        granted = self.granted(row, rooms, most).tolist()
        workers = max(granted, default=0)
        return (
            Best(row, granted.index(workers) if granted else 0, workers, 0.0, rooms) if granted.count(workers) == 1 or not workers else None
        )

    def seen(self, rows: Sequence[int], rooms: Sequence[Ints], candidates: Bools) -> dict[str, Floats]:
        """[O, C] What nodes with room for each of these ways say of each cluster, by aspect; nothing that decides nothing."""
        names = set(wanted(self.snapshot.weights)) if np.count_nonzero(candidates) > 1 else set[str]()
        if not self._milli[list(rows)].any() or self.worth is None:
            names.discard("fragmentation")
        if not names:
            return {}
        ways = [(row, self.standing(row), there) for row, there in zip(rows, rooms, strict=True)]
        tables = [node_aspects(self.snapshot, row, at.usable, at.home, there, names, self.worth) for row, at, there in ways]
        return {name: np.array([table[name] for table in tables]) for name in NODE_ASPECTS if name in names}

    def seat(self, job: int, cluster: int, rooms: Ints, workers: int) -> Ints:
        """[W] The node of each of so many workers at a cluster with room for all; `rooms[U]` is what `on_nodes` answered."""
        standing, jobs = self.standing(job), self.snapshot.jobs
        free = self.snapshot.nodes.free
        here: slice | Ints = slice(standing.begin[cluster], standing.begin[cluster + 1])
        spread = bool(self.snapshot.queues.spread[queue := int(jobs.queue[job])])
        if standing.groups is not None:
            here = (standing.groups.widest if spread else standing.groups.tightest)(rooms, cluster, workers)
        rows = standing.usable[here]
        if spread:
            return rows[scatter(rooms[here], self._seats[queue, rows], free[rows], self.share[rows], workers)]
        if self.worth is not None:
            one = least_lost(self.snapshot.nodes, rows[rooms[here] >= workers], jobs.request[job], workers, self.worth)
            if one is not None:
                return np.full(workers, one)
        elif workers == 1 and self._on_devices[job] and is_share(self._milli[job]):
            self._prices = room_prices(self.snapshot) if self._prices is None else self._prices
            rows = completing(self.snapshot.nodes.devices, rows[rooms[here] > 0], self._milli[job], self._prices)
            return rows[pack(np.ones(len(rows), dtype=np.int64), free[rows], jobs.request[job], self.share[rows], 1)]
        return rows[pack(rooms[here], free[rows], jobs.request[job], self.share[rows], workers)]

    def take(self, job: int, cluster: int, nodes: Ints) -> tuple[Chosen, ...]:
        """Book the job's workers on these nodes of a cluster; the devices of each, where they are told apart."""
        free, request = self.snapshot.nodes.free, self.snapshot.jobs.request[job]
        if len(nodes) == 1:
            free[nodes[0]] -= request
        else:
            np.subtract.at(free, nodes, request)
        devices = hold(self.snapshot.nodes.devices, nodes.tolist(), self._milli[job]) if self._on_devices[job] else ()
        self.note(job, cluster, nodes, devices)
        return devices

    def note(self, job: int, cluster: int, nodes: Ints, devices: Sequence[Chosen]) -> None:
        """Remember where the job's workers are, whose room is booked."""
        self.foresight.take(job, cluster, nodes, devices)
        if self._seats.size:
            np.add.at(self._seats[int(self.snapshot.jobs.queue[job])], nodes, 1)

    def take_devices(self, job: int, nodes: Ints) -> tuple[Chosen, ...] | None:
        """Book the devices of the job's workers on these nodes, if there are enough."""
        if not self._on_devices[job]:
            return ()
        rows, workers = np.unique(nodes, return_counts=True)
        if (rooms_on(self.snapshot.nodes.devices[rows], self._milli[job]) < workers).any():
            return None
        return hold(self.snapshot.nodes.devices, nodes.tolist(), self._milli[job])

    def waits(self, job: int, rows: Sequence[int], best: Best | None) -> Reason:
        """Whether a job waits for a cheaper or cleaner hour, which it is promised, instead of starting as well as it can now; else FITS."""
        if not self.snapshot.later:
            return Reason.FITS
        now, ways = None if best is None else (best.row, best.cluster), [(row, self.ways[job].index(row)) for row in rows]
        return self.foresight.waits(job, ways, now, partial(self._places, unpaid=True), self.share)

    def promise(self, job: int, rows: Sequence[int]) -> None:
        """Promise a job without room the soonest start by one of these ways, if it is one of the first of those and there is one."""
        if len(self.foresight.promises) - self.foresight.waiting < self.snapshot.heads:
            possible = [row for row in rows if self.classes[row] not in self._never]
            ways = [Option(row, self.ways[job].index(row), self._places(row)) for row in possible]
            if ways and not self.foresight.promise(job, ways, self.share):
                self._never.update(self.classes[row] for row in possible)

    def _places(self, job: int, *, unpaid: bool = False) -> list[tuple[int, Ints]]:
        """Nodes on which the job's workers may be together once there is room, or with `unpaid` an hour is paid for, and their cluster."""
        standing = self.standing(job, later=True, unpaid=unpaid)
        if standing.groups is not None:
            owners = standing.groups.cluster.tolist()
            return [(cluster, standing.usable[standing.groups.group == group]) for group, cluster in enumerate(owners)]
        return [(cluster, standing.usable[begin:end]) for cluster, (begin, end) in enumerate(pairwise(standing.begin))]

    def against(self, job: int) -> Against:
        """What stands against a job with the room that is left now."""
        standing, home = self.standing(job), self.snapshot.nodes.cluster
        nodes = np.where(standing.nodes == Reason.FITS, busy(self.snapshot, job), standing.nodes)
        if self._on_devices[job]:
            full = rooms_on(self.snapshot.nodes.devices, self._milli[job]) == 0
            nodes = np.where((nodes == Reason.FITS) & full, np.int64(Reason.NODE_BUSY), nodes)
        clusters = standing.clusters.copy()
        permitted, spare, least = clusters == Reason.FITS, self.foresight.spare(job), self.snapshot.jobs.least[job]
        rooms = self.on_nodes(job, self.snapshot.nodes.free)
        fits, fits_alone = self.granted(job, self.on_nodes(job)) > 0, self.largest(job, rooms) >= least
        apart = _in_all(standing, rooms, len(clusters)) >= least
        for cluster in np.flatnonzero(permitted & ~fits).tolist():
            found = Reason.GROUP_DOES_NOT_FIT if apart[cluster] else closest(nodes[home == cluster])
            clusters[cluster] = Reason.RESERVED_FOR_ANOTHER if fits_alone[cluster] else found
        kept = (spare < self.snapshot.jobs.request[job]).any(axis=1) & (clusters == Reason.RESERVED_FOR_ANOTHER)[home]
        nodes = np.where((nodes == Reason.FITS) & kept, np.int64(Reason.RESERVED_FOR_ANOTHER), nodes)
        counts = np.bincount(nodes[permitted[home]]).tolist()
        return Against(clusters, tuple((Reason(reason), count) for reason, count in enumerate(counts) if count))

    @cached_property
    def worth(self) -> Worth | None:
        """What room on devices is worth to what the network is asked for; None where it does not say."""
        return worth_of(self.snapshot)


def _in_all(standing: Standing, rooms: Ints, clusters: int) -> Ints:
    """[C] How many workers fit at each cluster, wherever they are."""
    return np.bincount(standing.home, weights=rooms, minlength=clusters).astype(np.int64)
