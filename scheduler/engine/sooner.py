"""Sooner: whether a changed job would start now, and how little of a change is enough.

A question is asked in two steps. `Openings` answers by arithmetic alone whether a cluster has room for a request, thousands of
times a second, so that the smallest change can be searched for. What the search finds is then put to the decision's own steps, together
with the jobs whose turn comes first (`inquiry`): nothing is proposed that the decision would not do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scheduler.engine.device_room import milli_of, rooms_on
from scheduler.engine.gang import workers_per_node
from scheduler.engine.groups import Groups, grouped
from scheduler.engine.snapshot import ROUNDING, Bools, Floats, Ints, Snapshot
from scheduler.engine.tree import Amounts, capacity_of, free_of, grow


class Openings:
    """What a world (`aftermath.carried_out`) has left for one more job."""

    def __init__(self, snapshot: Snapshot) -> None:
        nodes, clusters = snapshot.nodes, snapshot.clusters
        self._free, self._home, self._count = nodes.free + ROUNDING * nodes.total, nodes.cluster, len(clusters.names)
        self._devices = nodes.devices
        self._open = nodes.ready & (clusters.healthy & ~clusters.cordoned)[nodes.cluster]
        tree = grow(snapshot.queues, snapshot.weights.history, capacity_of(snapshot), free_of(snapshot))
        self._amounts = Amounts(tree)

    def on(self, carried: Bools, clusters: Bools, group: Ints | None = None, spare: Floats | None = None) -> OpenNodes:
        """The open nodes of which `carried[N]` is true, at those of the open clusters of which `clusters[C]` is.

        With `group[N]`, all workers must be in one group; `spare[N, R]` is what may be taken where that is less than what is free.
        """
        rows = np.flatnonzero(self._open & carried & clusters[self._home])
        groups = None if group is None else grouped(self._home[rows], group[rows])
        free = self._free if spare is None else spare
        return OpenNodes(free[rows], self._devices[rows] if self._devices.size else None, self._home[rows], self._count, groups)

    def queue_lets(self, queue: int, request: Floats, workers: int) -> bool:
        """Whether a queue, and all above it, may run and hold one more job like this."""
        return not self._amounts.is_full(queue) and self._amounts.may_hold(queue, (request * workers).tolist())


@dataclass(frozen=True, eq=False)
class OpenNodes:
    """Nodes that may be used: what is free on each, `free[M, R]`, its devices where they are told apart, and its cluster `home[M]`."""

    free: Floats
    devices: Ints | None
    home: Ints
    clusters: int
    groups: Groups | None

    def room(self, request: Floats, workers: int) -> Bools:
        """[C] Which clusters have room for all workers of `request[R]`."""
        rooms = workers_per_node(self.free, request)
        if self.devices is not None and (milli := milli_of(request)).any():
            rooms = np.minimum(rooms, rooms_on(self.devices, milli))
        if self.groups is not None:
            return np.asarray(self.groups.largest(rooms, self.clusters) >= workers)
        return np.asarray(np.bincount(self.home, weights=rooms, minlength=self.clusters) >= workers)


def largest(least: int, most: int, works: Callable[[int], bool]) -> int | None:
    """The largest number from `least` to `most` that works, where all below one that works do too; None when `least` does not."""
    if least > most or not works(least):
        return None
    while least < most:
        middle = (least + most + 1) // 2
        if works(middle):
            least = middle
        else:
            most = middle - 1
    return least
