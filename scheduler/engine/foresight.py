"""Foresight: what will be free, and starts that are promised to jobs for which there is no room now.

Without it a gang that needs many nodes at once starves behind small jobs, which fit into every hole that it waits for. So the
first jobs that are blocked are promised the soonest start that the ends of running work allow, on nodes that are named, and
others start before it only where they do not delay it: they have ended by then, or what they hold is not needed then. With one
such head this is EASY backfilling, with all of them the conservative kind (Mu'alem & Feitelson, IEEE TPDS 2001).

Room grows between two promised starts and shrinks only at them. So what a job may take on a node for as long as it runs is the
least of what is free now and what is left at the starts that it would run into: `left[P, R]` at `at[P]` on `node[P]`. Times are
seconds from now; axes otherwise as in the snapshot, whose rows are in the order of names. What nobody knows the length of never ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from scheduler.engine.device_room import Chosen
from scheduler.engine.device_times import SOONEST_S, DeviceTimes
from scheduler.engine.gang import pack, workers_per_node
from scheduler.engine.later import cost_at, cost_now_at, now_at_least, reason_of, turning_points, worth_waiting
from scheduler.engine.plan import Promise
from scheduler.engine.reasons import Reason
from scheduler.engine.scores import joint_totals
from scheduler.engine.snapshot import ROUNDING, Bools, Floats, Ints, Later, Promised, Snapshot
from scheduler.engine.windows import shut

# How many different ends one profile tells apart at most, and how many numbers it may have; more are taken to be a little later.
MOST_TIMES, FEWEST_TIMES, MOST_CELLS = 256, 32, 1 << 21
_NO_TIMES = np.zeros(0)
# The nodes on which the workers of a job may be together in one of its ways, by that way's row, with their clusters.
Places: TypeAlias = Callable[[int], Sequence[tuple[int, Ints]]]


def holds_s(snapshot: Snapshot) -> Floats:
    """[J, C] Seconds from now until a job that is placed at a cluster now is expected to have ended there."""
    jobs = snapshot.jobs
    held: Floats = jobs.length_s[:, None] + jobs.transfer_s + snapshot.clusters.wait_s
    return held


@dataclass(frozen=True, eq=False)
class Option:
    """A way to run a job: its row, which of the job's ways it is, and nodes that may take all workers together.

    `places` are such nodes of a cluster or of a group of it, and nothing but room stands against them.
    """

    row: int
    choice: int
    places: Sequence[tuple[int, Ints]]


@dataclass(frozen=True, eq=False)
class _Seat:
    """Where a job could start in one of its ways: when its work could begin, the node of each worker, and from when until when."""

    begins_s: float
    way: int
    cluster: int
    nodes: Ints
    start_s: float
    end_s: float


class Foresight:
    """What will be free on the nodes of a snapshot while a plan is made, which takes from `snapshot.nodes.free` itself."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._holds_s = snapshot, holds_s(snapshot)
        self.promises: list[Promise] = []
        self.waiting = 0  # How many of the promises are for a cheaper or a cleaner hour.
        self._devices = DeviceTimes(snapshot)
        self._kept: list[Promised] = []
        resources = len(snapshot.resources)
        self._at, self._node, self._left = np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros((0, resources))
        running = snapshot.running
        # What becomes free: when, where, how much; of runs, and behind them of each placement of this plan.
        self._ends = [np.zeros(0) if running is None else np.maximum(running.ends_s, SOONEST_S)[running.run]]
        self._where = [np.zeros(0, dtype=np.int64) if running is None else running.node]
        self._amounts = [np.zeros((0, resources)) if running is None else running.request[running.run]]
        # What `_freed` answered, and when so many placements were known.
        self._sorted: tuple[int, tuple[Floats, Ints, Floats]] | None = None
        for promised in snapshot.promised:
            self._keep(promised)

    def again(self, snapshot: Snapshot) -> Foresight:
        """The same for a world that differs in its jobs alone. What it learns from here on, this one does not know."""
        found = copy(self)
        found._snapshot, found._holds_s = snapshot, holds_s(snapshot)
        found.promises, found._kept, found._left = list(self.promises), list(self._kept), self._left.copy()
        found._devices = self._devices.again(snapshot)
        found._ends, found._where, found._amounts = list(self._ends), list(self._where), list(self._amounts)
        return found

    def spare(self, job: int) -> Floats:
        """[N, R] What the job may take on each node for as long as it runs."""
        free = self._snapshot.nodes.free
        if not len(self._at) or not (meets := self._met(job)).any():
            return free
        spare = free.copy()
        np.minimum.at(spare, self._node[meets], self._left[meets])
        return spare

    def on_devices(self, job: int, nodes: Ints, rooms: Ints) -> Ints:
        """[M] Of the workers `rooms[M]` that some nodes have room for now those that leave the devices that others are promised."""
        if not self._devices.counts(job):
            return rooms
        return self._devices.now(job, nodes, rooms, self._holds_s[job, self._snapshot.nodes.cluster[nodes]])

    def take(self, job: int, cluster: int, nodes: Ints, devices: Sequence[Chosen]) -> None:
        """Note that the job was placed on these nodes [W] of a cluster; `devices` are those of each of its workers."""
        if not self._snapshot.heads and not self._snapshot.later and not self._kept:
            return
        request, end_s = self._snapshot.jobs.request[job], float(self._holds_s[job, cluster])
        if devices:
            self._devices.take(job, nodes.tolist(), devices, end_s)
        self._ends.append(np.array([end_s] * len(nodes)))
        self._where.append(nodes)
        self._amounts.append(request[None] if len(nodes) == 1 else np.repeat(request[None], len(nodes), axis=0))
        if not len(self._at):
            return
        meets = self._at < end_s
        for node in nodes.tolist():
            self._left[meets & (self._node == node)] -= request

    def promise(self, job: int, ways: Sequence[Option], share: Floats) -> bool:
        """Promise the job its soonest start by one of some ways; False where it fits nowhere, even when all that runs has ended.

        Of starts at the same time the better score decides, then the way that comes first. `share[N, R]` is as in `pack`.
        """
        found: list[_Seat] = []
        candidates: Bools = np.zeros((len(ways), len(self._snapshot.clusters.names)), dtype=np.bool_)
        for way, option in enumerate(ways):
            bounds = self._bounds(option.row, [nodes for _, nodes in option.places])
            found += self._seats(way, option, bounds, share, min((item.begins_s for item in found), default=math.inf))
            ever = [cluster for (cluster, _), bound in zip(option.places, bounds.tolist(), strict=True) if bound < math.inf]
            candidates[way, ever] = True
        if not found:
            return False
        scores = joint_totals(self._snapshot, [option.row for option in ways], candidates)
        best = min(found, key=lambda item: (item.begins_s, float(scores[item.way, item.cluster]), item.way, item.cluster))
        self.promises.append(Promise(job, best.cluster, tuple(best.nodes.tolist()), best.start_s, best.end_s, ways[best.way].choice))
        self._keep(Promised(best.nodes, self._snapshot.jobs.request[ways[best.way].row], best.start_s, best.end_s))
        return True

    def waits(self, job: int, ways: Sequence[tuple[int, int]], now: tuple[int, int] | None, places: Places, share: Floats) -> Reason:
        """Promise a job that may wait the cheapest start for which it is worth it, in time for its deadline; FITS where there is none.

        `ways` are the rows of the ways that it may be run by, each with its number. `now` is the row and the cluster by which it would
        start now, None if it cannot. `places(row)` are nodes on which its workers may be together, with their clusters, and `share` is as
        in `pack`.
        """
        snapshot, jobs = self._snapshot, self._snapshot.jobs
        tables = {item.choice: item for item in snapshot.later if item.job == jobs.ids[job]} if snapshot.later else {}
        later = [(row, tables[choice]) for row, choice in ways if choice in tables]
        # Who would keep others from their turn meanwhile, or wait for its like, does not wait of its own will.
        held = snapshot.queues.strict[jobs.queue[job]] or jobs.array[job] >= 0
        if not later or held or self.waiting >= snapshot.waits:
            return Reason.FITS
        known = list(tables.values())
        cost_now = min(map(now_at_least, known)) if now is None else cost_now_at(snapshot, known, *now)
        found = [item for row, table in later for item in self._cheaper(row, table, cost_now, places(row), share)]
        if not found:
            return Reason.FITS
        # Of equal costs the soonest start, then the way that was named first.
        _, row, promise = min(found, key=lambda item: (item[0], item[2].start_s, item[2].choice, item[2].cluster))
        self.promises.append(replace(promise, job=job))
        self._keep(Promised(np.array(promise.nodes, dtype=np.int64), jobs.request[row], promise.start_s, promise.end_s))
        self.waiting += 1
        return reason_of(known)

    def _cheaper(
        self, row: int, later: Later, cost_now: float, places: Sequence[tuple[int, Ints]], share: Floats
    ) -> Iterator[tuple[float, int, Promise]]:  # fmt: skip
        """In each place where one is worth waiting for the cheapest start of a job in one of its ways: its cost, and the way's row."""
        for cluster, nodes in places:
            length_s = float(self._holds_s[row, cluster])
            if not len(nodes) or later.latest_s[cluster] <= 0:
                continue
            profile = self._profile(nodes, turning_points(later, cluster))
            for start_s in worth_waiting(later, cluster, profile[0], cost_now).tolist():
                seats = self._throughout(row, nodes, length_s, share, profile, start_s)
                if seats is not None:
                    cost = float(cost_at(later, cluster, np.array([start_s]))[0])
                    yield round(cost, 6), row, Promise(row, cluster, tuple(seats.tolist()), start_s, start_s + length_s, later.choice)
                    break

    def _seats(self, way: int, option: Option, bounds: Floats, share: Floats, soonest: float) -> list[_Seat]:
        """Where a job could start in one of its ways, but for places at which its work could not begin by `soonest`."""
        row, found = option.row, list[_Seat]()
        begins_s = self._snapshot.jobs.transfer_s[row] + self._snapshot.clusters.wait_s
        first = bounds + begins_s[[cluster for cluster, _ in option.places]]
        # Only where it may start as soon as at the best place so far is worth a look at all that happens there.
        for place in np.argsort(first, kind="stable")[: int(np.isfinite(bounds).sum())].tolist():
            if first[place] > soonest:
                break
            cluster, nodes = option.places[place]
            seat = self._soonest(row, nodes, float(self._holds_s[row, cluster]), share)
            if seat is not None:
                found.append(_Seat(seat[1] + float(begins_s[cluster]), way, cluster, *seat))
                soonest = min(soonest, found[-1].begins_s)
        return found

    def _met(self, job: int) -> Bools:
        """[P] The promised starts that the job would run into if it were placed now."""
        met: Bools = self._at < self._holds_s[job, self._snapshot.nodes.cluster[self._node]]
        return met

    def _keep(self, kept: Promised) -> None:
        """Take a promise into account: what is left at its start, and at later ones that it lasts into."""
        self._kept.append(kept)
        self._devices.keep(kept)
        nodes = np.unique(kept.nodes)
        for node in kept.nodes.tolist():
            within = (self._node == node) & (self._at >= kept.start_s) & (self._at < kept.end_s)
            self._left[within] -= kept.request
        times, free = self._profile(nodes)
        row = int(np.searchsorted(times, kept.start_s, side="right")) - 1
        self._at = np.concatenate([self._at, np.full(len(nodes), kept.start_s)])
        self._node, self._left = np.concatenate([self._node, nodes]), np.concatenate([self._left, free[row]])

    def _bounds(self, job: int, places: Sequence[Ints]) -> Floats:
        """[P] A time before which a job cannot start at each place, inf where it never fits: if nothing were promised to others there."""
        snapshot, workers = self._snapshot, int(self._snapshot.jobs.least[job])
        request, ends, where, freed = snapshot.jobs.request[job], *self._freed()
        # Rather too early than too late: sums are off by roundings.
        free = snapshot.nodes.free + ROUNDING * snapshot.nodes.total
        place_of = np.full(len(free), -1)
        for place, nodes in enumerate(places):
            place_of[nodes] = place
        now = workers_per_node(free, request)
        inside = place_of >= 0
        at_once = np.bincount(place_of[inside], weights=now[inside], minlength=len(places))
        bounds = np.where(at_once >= workers, 0.0, np.inf)
        # How many workers more have room with each end, and the ends of each place in time.
        rooms = workers_per_node(free[where] + freed, request)
        more = rooms - np.where(_is_first(where), now[where], np.append(0, rooms)[: len(rooms)])
        order = np.lexsort((ends, place_of[where]))
        at = place_of[where[order]]
        order, at = order[at >= 0], at[at >= 0]
        grown = np.cumsum(more[order])
        before = np.append(0, grown)[np.searchsorted(at, at)]
        enough = np.flatnonzero(grown - before + at_once[at] >= workers)
        enough = enough[_is_first(at[enough])]
        bounds[at[enough]] = np.minimum(bounds[at[enough]], ends[order[enough]])
        return bounds

    def _freed(self) -> tuple[Floats, Ints, Floats]:
        """[E] The ends that will come, by node, then time, with their nodes, and [E, R] what is freed there until then, it included."""
        if self._sorted is not None and self._sorted[0] == len(self._ends):
            return self._sorted[1]
        ends, where, amounts = (np.concatenate(parts) for parts in (self._ends, self._where, self._amounts))
        order = np.lexsort((ends, where))
        order = order[np.isfinite(ends[order])]
        ends, where, sums = ends[order], where[order], np.cumsum(amounts[order], axis=0)
        before = np.concatenate([np.zeros((1, sums.shape[1])), sums])[np.searchsorted(where, where)]
        self._sorted = len(self._ends), (ends, where, sums - before)
        return self._sorted[1]

    def _soonest(self, job: int, nodes: Ints, length_s: float, share: Floats) -> tuple[Ints, float, float] | None:
        """[W] The nodes of the job's workers, its start and its end, at the soonest time from which all of them fit throughout.

        An elastic job is promised the fewest that it needs.
        """
        request, workers = self._snapshot.jobs.request[job], int(self._snapshot.jobs.least[job])
        times, free = profile = self._profile(nodes)
        rooms = workers_per_node(free.reshape(-1, free.shape[2]), request).reshape(free.shape[:2])
        for row in (1 + np.flatnonzero(rooms[1:].sum(axis=1) >= workers)).tolist():
            seats = self._throughout(job, nodes, length_s, share, profile, start_s := float(times[row]))
            if seats is not None:
                return seats, start_s, start_s + length_s
        return None

    def _throughout(
        self, job: int, nodes: Ints, length_s: float, share: Floats, profile: tuple[Floats, Floats], start_s: float
    ) -> Ints | None:  # fmt: skip
        """[W] Where the fewest workers of a job fit as long as it lasts, from a time of a profile of some nodes on."""
        request, workers, (times, free) = self._snapshot.jobs.request[job], int(self._snapshot.jobs.least[job]), profile
        row = int(np.searchsorted(times, start_s))
        until = int(np.searchsorted(times, start_s + length_s)) if math.isfinite(length_s) else len(times)
        left = free[row:until].min(axis=0)
        throughout = np.where(shut(self._snapshot, job, start_s)[:, nodes].any(axis=0), 0, workers_per_node(left, request))
        if throughout.sum() >= workers:
            throughout = self._devices.later(job, nodes, throughout, start_s, start_s + length_s)
        if throughout.sum() < workers:
            return None
        seats: Ints = nodes[pack(throughout, left, request, share[nodes], workers)]
        return seats

    def _profile(self, nodes: Ints, more: Floats = _NO_TIMES) -> tuple[Floats, Floats]:
        """Times [T], the first of them now, and what is free from each of them on [T, n, R] of some nodes [n], in their order.

        `more` are times that are to be among them.
        """
        ends, where, amounts = (np.concatenate(parts) for parts in (self._ends, self._where, self._amounts))
        asked = np.zeros(len(self._snapshot.nodes.names), dtype=np.bool_)
        asked[nodes] = True
        here = asked[where] & np.isfinite(ends)
        ends, where, amounts = ends[here], where[here], amounts[here]
        kept = [item for item in self._kept if asked[item.nodes].any()]
        edges = np.array([0.0, *more, *(edge for item in kept for edge in (item.start_s, item.end_s) if math.isfinite(edge))])
        if self._snapshot.windows is not None:
            edges = np.concatenate([edges, np.maximum(self._snapshot.windows.end_s, 0.0)])
        times = _told_apart(ends, edges, len(nodes) * amounts.shape[1])
        changes = np.zeros((len(times), len(nodes), amounts.shape[1]))
        np.add.at(changes, (np.searchsorted(times, ends), np.searchsorted(nodes, where)), amounts)
        for item in kept:
            mine = item.nodes[asked[item.nodes]]
            for at, sign in ((item.start_s, -1.0), (item.end_s, 1.0)):
                if math.isfinite(at):
                    np.add.at(changes, (np.searchsorted(times, at), np.searchsorted(nodes, mine)), sign * item.request)
        changes[0] += self._snapshot.nodes.free[nodes]
        return times, np.cumsum(changes, axis=0)


def _is_first(column: Ints) -> Bools:
    """[E] Where another value begins than stands before."""
    found: Bools = np.append(True, column[1:] != column[:-1])[: len(column)]
    return found


def _told_apart(ends: Floats, edges: Floats, width: int) -> Floats:
    """[T] The times of a profile: all edges, and so many ends that it does not become too large, the last among them."""
    most = max(min(MOST_TIMES, MOST_CELLS // max(width, 1)), FEWEST_TIMES)
    ends = np.unique(ends)
    if len(ends) > most:
        ends = ends[np.linspace(0, len(ends) - 1, most).round().astype(np.int64)]
    return np.unique(np.concatenate([edges, ends]))
