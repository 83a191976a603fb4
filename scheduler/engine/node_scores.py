"""Node scores: what the nodes of a cluster, as they are while a plan is made, say of it for one way to run a job.

One aspect, one small function over arrays; lower is better, and what it returns is brought to 0 … 1 over the candidates with the
other scores (`scores.py`). Axes: C clusters, U nodes that the job may use, of which `home[U]` are the clusters and `rooms[U]` how many
workers fit now; R resources.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scheduler.engine.devices import DEVICE
from scheduler.engine.snapshot import Floats, Ints, Snapshot, Weights
from scheduler.engine.worth import Worth, lost

# In the order in which they are shown.
NODE_ASPECTS = ("fragmentation", "topology", "spread", "pack")


def fragmentation(taken: Ints, home: Ints, clusters: int) -> Floats:
    """[C] The least worth that one worker takes away at each cluster, in devices; `taken[U]` is what it takes on nodes with room.

    0 where there is none. What worth is: `worth.py`, after FGD (Weng et al., USENIX ATC 2023).
    """
    least = np.full(clusters, np.iinfo(np.int64).max)
    np.minimum.at(least, home, taken)
    return np.where(np.bincount(home, minlength=clusters) > 0, least / DEVICE, 0.0)


def topology(rooms: Ints, home: Ints, workers: int, clusters: int) -> Floats:
    """[C] On how few nodes so many workers of a gang fit; 0 where not all of them do."""
    order = np.lexsort((-rooms, home))
    begin = np.searchsorted(home[order], np.arange(clusters + 1))
    found = np.zeros(clusters)
    for cluster in range(clusters):
        # More than is wanted on each node would only make sums too large.
        together = np.cumsum(np.minimum(rooms[order[begin[cluster] : begin[cluster + 1]]], workers))
        nodes = int(np.searchsorted(together, workers))
        found[cluster] = nodes + 1 if nodes < len(together) else 0.0
    return found


def in_use(total: Floats, free: Floats, home: Ints, request: Floats, clusters: int) -> Floats:
    """[C] What part is in use of `total[U, R]`, by the resource of those asked for of which it is most."""
    asked = request > 0
    there, left = np.zeros((clusters, int(asked.sum()))), np.zeros((clusters, int(asked.sum())))
    np.add.at(there, home, total[:, asked])
    np.add.at(left, home, free[:, asked])
    used = 1.0 - np.divide(left, there, out=np.ones_like(left), where=there > 0)
    most: Floats = used.max(axis=1, initial=0.0)
    return most


def wanted(weights: Weights) -> tuple[str, ...]:
    """The aspects that count."""
    return tuple(name for name in NODE_ASPECTS if getattr(weights, name) > 0)


def node_aspects(
    snapshot: Snapshot, row: int, usable: Ints, home: Ints, rooms: Ints, names: Iterable[str], worth: Worth | None
) -> dict[str, Floats]:
    """[C] What nodes say of each cluster, by aspect; nothing of fragmentation where no worth is known."""
    nodes, request, clusters = snapshot.nodes, snapshot.jobs.request[row], len(snapshot.clusters.names)
    found: dict[str, Floats] = {}
    for name in names:
        if name == "topology":
            found[name] = topology(rooms, home, int(snapshot.jobs.least[row]), clusters)
        elif name in ("spread", "pack"):
            used = in_use(nodes.total[usable], nodes.free[usable], home, request, clusters)
            found[name] = used if name == "spread" else 1.0 - used
        elif worth is not None:
            able = np.flatnonzero(rooms)
            found[name] = fragmentation(lost(nodes, usable[able], request, 1, worth), home[able], clusters)
    return found
