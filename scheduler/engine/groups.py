"""Groups: nodes that stand together, like those of one rack or one zone, and which of them takes a gang whole.

All workers of a job that asks for it go to nodes of one group of one cluster. The tightest group with room for all takes them,
so that wide ones stay for wide gangs. Nodes that belong to no group take none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.engine.snapshot import Ints


@dataclass(frozen=True, eq=False)
class Groups:
    """Of each of some nodes its `group[U]`, -1 for none; of each group its `cluster[G]`. Numbered in the order of their first nodes."""

    group: Ints
    cluster: Ints

    def largest(self, rooms: Ints, clusters: int) -> Ints:
        """[C] How many workers fit in the group with most room of each cluster, of `clusters` in all; `rooms[U]` fit on each node."""
        found = np.zeros(clusters, dtype=np.int64)
        np.maximum.at(found, self.cluster, self._rooms(rooms))
        return found

    def tightest(self, rooms: Ints, cluster: int, workers: int) -> Ints:
        """[V] The rows of the group of a cluster that has room for so many workers and least to spare, the first of equal ones."""
        there = self._rooms(rooms)
        enough = np.flatnonzero((self.cluster == cluster) & (there >= workers))
        return np.flatnonzero(self.group == enough[there[enough].argmin()])

    def widest(self, rooms: Ints, cluster: int, workers: int) -> Ints:
        """[V] The rows of the group with room for so many workers that has most nodes with room, the first of equal ones."""
        there, nodes = self._rooms(rooms), self._rooms((rooms > 0).astype(np.int64))
        enough = np.flatnonzero((self.cluster == cluster) & (there >= workers))
        return np.flatnonzero(self.group == enough[nodes[enough].argmax()])

    def _rooms(self, rooms: Ints) -> Ints:
        found = np.zeros(len(self.cluster), dtype=np.int64)
        belong = self.group >= 0
        np.add.at(found, self.group[belong], rooms[belong])
        return found


def grouped(home: Ints, number: Ints) -> Groups:
    """The groups of nodes by their clusters `home[U]` and their groups' `number[U]`, which may be used by several clusters; -1 is none."""
    belong = np.flatnonzero(number >= 0)
    pairs, first, place = np.unique(np.stack([home[belong], number[belong]]), axis=1, return_index=True, return_inverse=True)
    order = np.argsort(first)
    group = np.full(len(home), -1, dtype=np.int64)
    group[belong] = np.argsort(order)[place.reshape(-1)]
    return Groups(group, pairs[0, order])
