"""Device times: what is free on each accelerator of a node later on, so that promised starts count devices and not their sums.

Runs give back the devices that they hold when they end. Which devices a job will get that is promised a start is not fixed: it takes
those that the rule of `device_room.choose` gives it then, as every start does. So a node on which somebody is promised devices is
played through in time, from one end or start to the next, and nobody may go there with whom a promised worker would find no device.
Axes as in `device_room`; times are seconds from now. What nobody knows the end of is never given back.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain, count

import numpy as np

from scheduler.engine.device_room import Chosen, choose, milli_of, rooms_on
from scheduler.engine.snapshot import FIRST_ACCELERATOR, WHOLE, Floats, Ints, Promised, Running, Snapshot

# A run that should have ended by now is expected to end soon.
SOONEST_S = 1.0


@dataclass(frozen=True, eq=False)
class _Freed:
    """Thousandths that become free on a device of a node."""

    at: float
    model: int
    number: int
    milli: int


@dataclass(frozen=True, eq=False)
class _Ask:
    """Workers on a node that take `milli[M]` each from a time until another."""

    start_s: float
    end_s: float
    milli: Ints
    workers: int


class DeviceTimes:
    """The devices of a snapshot over time while a plan is made, which takes from `snapshot.nodes.devices` itself."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._devices, self._milli = snapshot.nodes.devices, milli_of(snapshot.jobs.request)
        self._told_apart = bool(self._devices.size)
        # By node: what runs give back, which never changes, what placements of this plan do, and who is promised devices.
        self._given: dict[int, list[_Freed]] = defaultdict(list)
        self._taken: dict[int, list[_Freed]] = defaultdict(list)
        self._asks: dict[int, list[_Ask]] = defaultdict(list)
        if self._told_apart and snapshot.running is not None:
            for node, freed in _given_back(snapshot.running):
                self._given[node].append(freed)

    def again(self, snapshot: Snapshot) -> DeviceTimes:
        """The same for a world that differs in its jobs alone. What it learns from here on, this one does not know."""
        found = copy(self)
        found._devices, found._milli = snapshot.nodes.devices, milli_of(snapshot.jobs.request)
        found._taken = defaultdict(list, {node: list(items) for node, items in self._taken.items()})
        found._asks = defaultdict(list, {node: list(items) for node, items in self._asks.items()})
        return found

    def counts(self, job: int) -> bool:
        """Whether it is by devices that there is room for a job."""
        return self._told_apart and bool(self._milli[job].any())

    def take(self, job: int, nodes: Sequence[int], devices: Sequence[Chosen], end_s: float) -> None:
        """Note that the workers of a job, each on one of these nodes, hold these devices until then."""
        if not math.isfinite(end_s):
            return
        for node, chosen in zip(nodes, devices, strict=False):
            for resource, number in chosen:
                model = resource - FIRST_ACCELERATOR
                self._taken[node].append(_Freed(end_s, model, number, min(int(self._milli[job, model]), WHOLE)))

    def keep(self, kept: Promised) -> None:
        """Take a promise into account."""
        milli = milli_of(kept.request)
        if self._told_apart and milli.any():
            for node, workers in zip(*(found.tolist() for found in np.unique(kept.nodes, return_counts=True)), strict=True):
                self._asks[node].append(_Ask(kept.start_s, kept.end_s, milli, workers))

    def now(self, job: int, nodes: Ints, rooms: Ints, ends_s: Floats) -> Ints:
        """[M] Of the workers `rooms[M]` with room on some nodes those that may go there now, as far as they delay no promise.

        `ends_s[M]` is when they would have ended there.
        """
        promised = self._promised(nodes, rooms) if self.counts(job) else []
        limited = rooms.copy() if promised else rooms
        for row in promised:
            limited[row] = self._most(int(nodes[row]), _Ask(0.0, float(ends_s[row]), self._milli[job], int(rooms[row])), begins_now=True)
        return limited

    def later(self, job: int, nodes: Ints, rooms: Ints, start_s: float, end_s: float) -> Ints:
        """[M] The same for workers that would be there from a time until another."""
        if not self.counts(job):
            return rooms
        here = np.flatnonzero(rooms)
        free, limited = self._devices[nodes[here]], rooms.copy()
        for row, node in enumerate(nodes[here].tolist()):
            for item in self._freed(node):
                if item.at <= start_s:
                    _give(free[row], item)
        limited[here] = np.minimum(rooms[here], rooms_on(free, self._milli[job]))
        for row in self._promised(nodes, limited):
            limited[row] = self._most(int(nodes[row]), _Ask(start_s, end_s, self._milli[job], int(limited[row])))
        return limited

    def _freed(self, node: int) -> Iterator[_Freed]:
        return chain(self._given.get(node, ()), self._taken.get(node, ()))

    def _promised(self, nodes: Ints, rooms: Ints) -> list[int]:
        """Rows of nodes with room on which somebody is promised devices."""
        if not self._asks:
            return []
        found: list[int] = np.flatnonzero(np.isin(nodes, list(self._asks)) & (rooms > 0)).tolist()
        return found

    def _most(self, node: int, ask: _Ask, *, begins_now: bool = False) -> int:
        """How many of the workers that somebody asks for find devices, and let all that are promised some find them."""
        known = self._asks[node]
        for workers in range(1, ask.workers + 1):
            tried = _Ask(ask.start_s, ask.end_s, ask.milli, workers)
            # Whoever goes now goes before all that start later, and a new promise behind those at the same time.
            if not self._plays(node, [tried, *known] if begins_now else [*known, tried]):
                return workers - 1
        return ask.workers

    def _plays(self, node: int, asks: Sequence[_Ask]) -> bool:
        """Whether each of these finds devices on a node at its time."""
        free, numbers = self._devices[node].copy(), count()
        # What ends at a time is free for what starts at it.
        coming: list[tuple[float, int, int, _Freed | _Ask]] = [(item.at, 0, next(numbers), item) for item in self._freed(node)]
        coming += [(ask.start_s, 1, next(numbers), ask) for ask in asks]
        heapq.heapify(coming)
        while coming:
            _, _, _, item = heapq.heappop(coming)
            if isinstance(item, _Freed):
                _give(free, item)
                continue
            for _ in range(item.workers):
                if not rooms_on(free[None], item.milli)[0]:
                    return False
                for resource, number in choose(free, item.milli):
                    model = resource - FIRST_ACCELERATOR
                    taken = min(int(item.milli[model]), WHOLE)
                    free[model, number] -= taken
                    if math.isfinite(item.end_s):
                        heapq.heappush(coming, (item.end_s, 0, next(numbers), _Freed(item.end_s, model, number, taken)))
        return True


def _give(devices: Ints, item: _Freed) -> None:
    """Give something back on a node with `devices[M, D]`, which may have come back with fewer of them."""
    if item.number < devices.shape[1] and devices[item.model, item.number] >= 0:
        devices[item.model, item.number] = min(int(devices[item.model, item.number]) + item.milli, WHOLE)


def _given_back(running: Running) -> Iterator[tuple[int, _Freed]]:
    held, ends_s = np.minimum(milli_of(running.request), WHOLE), np.maximum(running.ends_s, SOONEST_S).tolist()
    for run, node, model, number in running.device.tolist():
        if math.isfinite(ends_s[run]):
            yield node, _Freed(ends_s[run], model, number, int(held[run, model]))
