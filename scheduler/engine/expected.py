"""Expected: when a waiting job will start, by letting time run over the work that runs and the work before it.

Runs end when they are expected to, each end frees what it held, and the line is seated again in its order, with those that find no
room passed over, as a cycle would. Clusters are taken as they are, jobs that come later are left out, and room that is reserved or
lent is not foreseen, so the answer is an estimate: asked with the usual lengths it is the median, with long ones the 90th percentile.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from scheduler.engine.device_room import Chosen
from scheduler.engine.order import by_name
from scheduler.engine.reasons import Reason
from scheduler.engine.scores import totals
from scheduler.engine.seating import Room
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Bools, Floats, Ints, Snapshot

# What a run that ended gave back: its workers' nodes, what each held there, and the devices of each.
_Freed: TypeAlias = "tuple[Ints, Floats, Sequence[Chosen]]"


@dataclass(frozen=True, eq=False)
class Holdings:
    """What runs hold and until when. Run u is of `queue[U]` and ends in `end_s[U]`; each of its workers is a row of

    `node[W]`, `held[W, R]`, with `run[W]` the run that it belongs to. Nodes are rows of the snapshot. `devices[W]` are those of
    the worker, as in `Placement`; left out where devices are not told apart.
    """

    queue: Ints
    end_s: Floats
    run: Ints
    node: Ints
    held: Floats
    devices: Sequence[Chosen] = ()


class Walk:
    """A line of waiting jobs in a world; `line` are job rows in the order of their turns. `starts` may be asked many times."""

    def __init__(self, snapshot: Snapshot, line: Sequence[int]) -> None:
        # The room of a cluster is found by its rows, which must lie together.
        snapshot = replace(snapshot, heads=0, running=None, promised=())
        in_order = bool((np.diff(snapshot.nodes.cluster) >= 0).all())
        named = None if in_order else by_name(snapshot)
        self.room, self.line = Room(snapshot if named is None else named.snapshot), list(line)
        self.limits = _Limits(snapshot)
        self.queue = snapshot.jobs.queue[self.line].tolist()
        self.free, self.devices = self.room.snapshot.nodes.free.copy(), self.room.snapshot.nodes.devices.copy()
        self.strict = snapshot.queues.strict[snapshot.jobs.queue[self.line]].tolist()
        self.node_row = np.arange(len(snapshot.nodes.names)) if named is None else np.argsort(named.nodes)
        ways = [self.room.ways[job] for job in self.line]
        first = {self.room.classes[row]: row for rows in ways for row in rows}
        number = {key: kind for kind, key in enumerate(first)}
        # Of each place in the line the kinds that it may be run as, each with its row in the room's world.
        self.ways = [{number[self.room.classes[row]]: row for row in rows} for rows in ways]
        jobs = np.array(list(first.values()), dtype=np.int64)
        self.jobs: list[int] = jobs.tolist()
        standings = [self.room.standing(job) for job in self.jobs]
        self.together = [kind for kind, standing in enumerate(standings) if standing.groups is not None]
        self.request, self.workers = self.room.snapshot.jobs.request[jobs], self.room.snapshot.jobs.least[jobs]
        permitted = np.array([standing.clusters == Reason.FITS for standing in standings], dtype=np.bool_)
        self.permitted: Bools = permitted.reshape(len(jobs), len(snapshot.clusters.names))
        self.usable = [standing.usable for standing in standings]
        self._is_usable = np.zeros((len(jobs), len(snapshot.nodes.names)), dtype=np.bool_)
        for kind, usable in enumerate(self.usable):
            self._is_usable[kind, usable] = True
        self.rooms = self.count(np.arange(len(snapshot.nodes.names)))

    def starts(self, length_s: Floats, holdings: Holdings) -> list[float]:
        """[L] Seconds until each job of the line starts, inf where no end of what is known makes room for it.

        `length_s[A]` is how long the jobs of the world run, and behind them the further ways to run some (`with_alternatives`). The
        walk ends with the start of the last of the line; those that had not started by then are inf too.
        """
        return _Passage(self, length_s, holdings).run()

    def count(self, nodes: Ints) -> Ints:
        """[K, M] How many workers of each kind of job fit on some nodes now."""
        counts = np.array([self.room.on(job, nodes, self.room.snapshot.nodes.free) for job in self.jobs], dtype=np.int64)
        rooms: Ints = np.where(self._is_usable[:, nodes], counts.reshape(len(self.jobs), len(nodes)), 0)
        return rooms


class _Passage:
    """One passage of time over a line: what is free, what ends when, who still waits."""

    def __init__(self, walk: Walk, length_s: Floats, holdings: Holdings) -> None:
        self._walk, self._length_s = walk, length_s.tolist()
        world = walk.room.snapshot
        world.nodes.free[:], world.nodes.devices[:] = walk.free, walk.devices
        self._home, self._limits = world.nodes.cluster, walk.limits.again()
        self._rooms = walk.rooms.copy()
        clusters = len(world.clusters.names)
        there = [np.bincount(self._home, weights=rooms, minlength=clusters) for rooms in self._rooms]
        self._there: Ints = np.array(there, dtype=np.int64).reshape(len(there), clusters)
        self._starts = [math.inf] * len(walk.line)
        # The places of each kind in the line that still wait, first come last.
        self._waiting: list[list[int]] = [[] for _ in walk.usable]
        for place in reversed(range(len(walk.line))):
            for kind in walk.ways[place]:
                self._waiting[kind].append(place)
        order = np.argsort(holdings.run, kind="stable")
        self._seats, self._held = walk.node_row[holdings.node[order]], holdings.held[order]
        self._begin = np.searchsorted(holdings.run[order], np.arange(len(holdings.queue) + 1)).tolist()
        # The end of each run, ties in the order of rows; what it frees is looked up when it ends.
        self._ends = [(end, row) for row, end in enumerate(holdings.end_s.tolist()) if end < math.inf]
        heapq.heapify(self._ends)
        self._queues: list[int] = holdings.queue.tolist()
        self._devices = [holdings.devices[row] for row in order.tolist()] if holdings.devices else []
        self._started: list[_Freed] = []

    def run(self) -> list[float]:
        """Seat the line now, then after each moment at which something ends."""
        self._seat(0.0)
        while self._starts and self._starts[-1] == math.inf and self._ends:
            at, changed = self._ends[0][0], []
            while self._ends and self._ends[0][0] <= at:
                _, run = heapq.heappop(self._ends)
                changed.append(self._free(run))
            self._look_at(np.unique(np.concatenate(changed)))
            self._seat(at)
        return self._starts

    def _free(self, run: int) -> Ints:
        """Give back what a run held, those of the holdings first; its nodes."""
        known, world = len(self._begin) - 1, self._walk.room.snapshot
        if run >= known:
            nodes, held, devices = self._started[run - known]
        else:
            rows = slice(self._begin[run], self._begin[run + 1])
            nodes, held, devices = self._seats[rows], self._held[rows], self._devices[rows]
        np.add.at(world.nodes.free, nodes, held)
        self._limits.release(self._queues[run], held.sum(axis=0))
        for node, amounts, chosen in zip(nodes.tolist(), held, devices, strict=False):
            of_node = world.nodes.devices[node]
            for resource, number in chosen:
                model = resource - FIRST_ACCELERATOR
                # A node may have come back with fewer devices.
                if number < of_node.shape[1] and of_node[model, number] >= 0:
                    of_node[model, number] = min(of_node[model, number] + int(np.rint(amounts[resource] * WHOLE)), WHOLE)
        return nodes

    def _seat(self, at: float) -> None:
        """Give room to the line in its order, as far as there is any; whom a queue holds back is passed over."""
        walk, passed = self._walk, [0] * len(self._waiting)
        while (kind := self._next(passed)) is not None:
            place = self._waiting[kind][-1 - passed[kind]]
            if self._is_behind(place) or not self._limits.lets(walk.queue[place], walk.request[kind] * walk.workers[kind]):
                passed[kind] += 1
                continue
            self._leave(place, passed)
            self._book(at, place, kind)
            if walk.strict[place]:
                # Whoever was behind this one may be the first now.
                passed = [0] * len(self._waiting)

    def _leave(self, place: int, passed: list[int]) -> None:
        """Take a place out of the line, where it may have been passed over as another kind."""
        for kind in self._walk.ways[place]:
            row = self._waiting[kind].index(place)
            passed[kind] -= len(self._waiting[kind]) - 1 - row < passed[kind]
            del self._waiting[kind][row]

    def _is_behind(self, place: int) -> bool:
        """Whether another job waits before one of a strict queue, in which none overtakes."""
        walk = self._walk
        before = range(place) if walk.strict[place] else range(0)
        return any(self._starts[other] == math.inf and walk.queue[other] == walk.queue[place] for other in before)

    def _next(self, passed: list[int]) -> int | None:
        """The kind of the first job of the line that finds room; of several, that of the way named first."""
        fits = np.any(self._fits(), axis=1).tolist()
        found = [
            (place := waiting[-1 - skip], self._walk.ways[place][kind], kind)
            for kind, (waiting, skip) in enumerate(zip(self._waiting, passed, strict=True))
            if fits[kind] and len(waiting) > skip
        ]
        return min(found)[2] if found else None

    def _fits(self) -> Bools:
        """[K, C] Where a job of each kind finds room for all its workers."""
        walk, there = self._walk, self._there
        if walk.together:
            there = there.copy()
            for kind in walk.together:
                there[kind] = walk.room.largest(walk.jobs[kind], self._rooms[kind, walk.usable[kind]])
        fits: Bools = np.asarray(there >= walk.workers[:, None]) & walk.permitted
        return fits

    def _book(self, at: float, place: int, kind: int) -> None:
        walk, job = self._walk, self._walk.ways[place][kind]
        rooms = self._rooms[kind, walk.usable[kind]]
        granted = walk.room.granted(job, rooms)
        cluster = int(totals(walk.room.snapshot, job, granted == granted.max()).argmin())
        nodes = walk.room.seat(job, cluster, rooms, int(granted[cluster]))
        devices = walk.room.take(job, cluster, nodes)
        self._limits.hold(walk.queue[place], walk.request[kind] * len(nodes))
        self._starts[place] = at
        heapq.heappush(self._ends, (at + self._length_s[job], len(self._queues)))
        self._queues.append(walk.queue[place])
        self._started.append((nodes, np.broadcast_to(walk.request[kind], (len(nodes), walk.request.shape[1])), devices))
        self._look_at(np.unique(nodes))

    def _look_at(self, nodes: Ints) -> None:
        """Count again what fits on some nodes."""
        rooms = self._walk.count(nodes)
        np.add.at(self._there.T, self._home[nodes], (rooms - self._rooms[:, nodes]).T)
        self._rooms[:, nodes] = rooms


class _Limits:
    """How much queues with all below them run and hold, against their limits; what is kept back is not looked at."""

    def __init__(self, snapshot: Snapshot) -> None:
        queues = snapshot.queues
        self._parent = queues.parent.tolist()
        self._left = np.where(queues.max_running < 0, np.inf, queues.max_running.astype(np.float64))
        self._spare = queues.ceiling + 1e-9 * np.where(np.isfinite(queues.ceiling), queues.ceiling, 0.0)
        for queue, (held, running) in enumerate(zip(queues.held, queues.running.tolist(), strict=True)):
            self._move(queue, held, running)

    def again(self) -> _Limits:
        """The same limits, to be used up anew."""
        found = copy(self)
        found._left, found._spare = self._left.copy(), self._spare.copy()
        return found

    def lets(self, queue: int, amount: Floats) -> bool:
        """Whether a queue and all above it may run one more job that holds `amount[R]`."""
        asked = amount > 0
        while queue >= 0:
            if self._left[queue] < 1 or (amount > self._spare[queue])[asked].any():
                return False
            queue = self._parent[queue]
        return True

    def hold(self, queue: int, amount: Floats) -> None:
        self._move(queue, amount, 1)

    def release(self, queue: int, amount: Floats) -> None:
        self._move(queue, -amount, -1)

    def _move(self, queue: int, amount: Floats, running: int) -> None:
        while queue >= 0:
            self._left[queue] -= running
            self._spare[queue] -= amount
            queue = self._parent[queue]
