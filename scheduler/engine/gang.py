"""Gang: which nodes of one cluster take the workers of a job, all of them or none.

A job of one worker is a gang of one. Workers go to as few nodes as possible, because they talk to each other; among
equal choices the node with the smallest hole left afterwards takes them, so that large holes stay for large jobs. A queue may ask
for the opposite, so that one broken node ends little of its work.
A hole is the largest share, over the resources, of the cluster's total that is left on the node.
"""

from __future__ import annotations

import numpy as np

from scheduler.engine.snapshot import Floats, Ints, Snapshot

# More workers than any job has; a request of nothing would fit without end.
MANY = 2**31


def workers_per_node(free: Floats, request: Floats) -> Ints:
    """[N] How many workers of `request[R]` fit in `free[N, R]`."""
    asked = request.nonzero()[0]
    if not asked.size:
        return np.full(len(free), MANY, dtype=np.int64)
    with np.errstate(over="ignore"):  # next to nothing fits without end too
        rooms = (free[:, asked] / request[asked]).min(axis=1)
    # A full node may have less than nothing by a rounding.
    whole: Ints = np.minimum(np.maximum(rooms, 0), MANY).astype(np.int64)
    return whole


def unit_shares(snapshot: Snapshot) -> Floats:
    """[N, R] One unit of a resource as a share of what the node's cluster has of it; 0 where it has none."""
    nodes = snapshot.nodes
    sums = np.zeros((len(snapshot.clusters.names), len(snapshot.resources)))
    np.add.at(sums, nodes.cluster, nodes.total)
    shares = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
    rows: Floats = shares[nodes.cluster]
    return rows


def holes(free: Floats, taken: Floats, share: Floats) -> Floats:
    """[N] The hole on each node once `taken` is taken off `free[N, R]`; `share[N, R]` is one unit's share of the cluster."""
    left: Floats = ((free - taken) * share).max(axis=1)
    return left


def pack(rooms: Ints, free: Floats, request: Floats, share: Floats, workers: int) -> Ints:
    """[W] The node of each worker: rows of `rooms[N]`, `free[N, R]`, `share[N, R]`. There must be room for all workers.

    Nodes that are filled come first, roomiest first; the rest goes to the node that it leaves the smallest hole on.
    """
    if rooms.max() >= workers:
        return np.full(workers, _tightest(rooms, free, request, share, workers))
    order = np.lexsort((holes(free, request * rooms[:, None], share), -rooms))
    full = int(np.searchsorted(np.cumsum(rooms[order]), workers))
    filled, others = order[:full], np.sort(order[full:])
    rest = workers - int(rooms[filled].sum())
    last = others[_tightest(rooms[others], free[others], request, share[others], rest)]
    return np.repeat(np.append(filled, last), np.append(rooms[filled], rest))


def scatter(rooms: Ints, seats: Ints, free: Floats, share: Floats, workers: int) -> Ints:
    """[W] The node of each worker of a job that is laid out over as many nodes as there are. There must be room for all workers.

    One worker goes to each node before any gets two; the nodes with the fewest of their queue, `seats[N]`, come first, of equal
    ones the emptiest, the first of equal ones.
    """
    order = np.lexsort((-holes(free, np.zeros_like(free), share), seats))
    taken: list[Ints] = []
    left, times = workers, 0
    while left:
        turn = order[rooms[order] > times][:left]
        taken.append(turn)
        left, times = left - len(turn), times + 1
    return np.concatenate(taken)


def _tightest(rooms: Ints, free: Floats, request: Floats, share: Floats, workers: int) -> int:
    """The node on which these workers together leave the smallest hole, the first of equal ones."""
    enough = (rooms >= workers).nonzero()[0]
    return int(enough[holes(free[enough], request * workers, share[enough]).argmin()])
