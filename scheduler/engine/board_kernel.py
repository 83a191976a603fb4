"""The compiled loop of the board: the same decision as `place`, over arrays that stay up to date between decisions.

`place` is the oracle: on every world both make the same plan (tests/property/test_board.py). What is compiled is what a
profile of a large network shows: one turn costs a scan of the queues, of the clusters and of one cluster's nodes, some
microseconds, where the NumPy form pays for a dozen array operations. Axes as in `snapshot`, and S shapes of worker
(a request and a label class), K classes of job (a shape, a number of workers, rights, prices and transfer times).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# More workers than any job has; a request of nothing would fit without end.
MANY = 2**31


@njit(cache=True)
def room(free: Any, request: Any) -> int:
    """How many workers of `request[R]` fit in `free[R]`."""
    most = float(MANY)
    for resource in range(request.shape[0]):
        if request[resource] > 0.0:
            most = min(most, np.floor(free[resource] / request[resource]))
    return max(int(most), 0)


@njit(cache=True)
def refresh(node: int, free: Any, home: Any, shapes: Any, usable: Any, rooms: Any, there: Any, open_nodes: Any) -> None:
    """Count anew how many workers of each shape fit on one node, and on its cluster."""
    cluster = home[node]
    for shape in range(shapes.shape[0]):
        new = room(free[node], shapes[shape]) if usable[shape, node] else 0
        old = rooms[shape, node]
        if new != old:
            rooms[shape, node] = new
            there[shape, cluster] += new - old
            open_nodes[shape, cluster] += int(new > 0) - int(old > 0)


@njit(cache=True)
def refresh_all(nodes: Any, free: Any, home: Any, shapes: Any, usable: Any, rooms: Any, there: Any, open_nodes: Any) -> None:
    """`refresh` for each of `nodes`."""
    for node in nodes:
        refresh(node, free, home, shapes, usable, rooms, there, open_nodes)


@njit(cache=True)
def largest(held: Any, recent: Any, per_unit: Any) -> float:
    """The largest share that a queue holds of any resource, past use included."""
    found = 0.0
    for resource in range(per_unit.shape[0]):
        found = max(found, (held[resource] + recent[resource]) * per_unit[resource])
    return found


@njit(cache=True)
def largest_asked(held: Any, recent: Any, per_unit: Any, request: Any) -> float:
    """The same over the resources that a job asks for."""
    found = 0.0
    for resource in range(per_unit.shape[0]):
        if request[resource] > 0.0:
            found = max(found, (held[resource] + recent[resource]) * per_unit[resource])
    return found


@njit(cache=True)
def is_within_quota(held: Any, quota: Any, request: Any, workers: int) -> bool:
    """Whether what a job asks for of the guaranteed resources, if it asks for one, is guaranteed."""
    asked = False
    for resource in range(request.shape[0]):
        amount = request[resource] * workers
        if amount > 0.0 and quota[resource] > 0.0:
            if held[resource] + amount > quota[resource]:
                return False
            asked = True
    return asked


@njit(cache=True)
def may_hold(tree: Any, queue: int, request: Any, workers: int) -> bool:
    """Whether a queue and all above it may hold a job more."""
    for resource in range(request.shape[0]):
        amount = request[resource] * workers
        if not amount > 0.0:
            continue
        at, more = queue, amount
        while at >= 0:
            ceiling, claim = tree.ceiling[at, resource], tree.claim[at, resource]
            raised = max(tree.kept[at, resource], tree.base[at, resource] + more)
            if tree.held[at, resource] + amount > ceiling or (raised > claim and raised > ceiling):
                return False
            at, more = tree.parent[at], raised - claim
        if more > 0.0 and more > tree.spare[resource]:
            return False
    return True


@njit(cache=True)
def hold(tree: Any, queue: int, request: Any, workers: int) -> None:
    """Book a job on a queue and all above it."""
    at = queue
    while at >= 0:
        tree.left[at] -= 1
        at = tree.parent[at]
    for resource in range(request.shape[0]):
        amount = request[resource] * workers
        at, more = queue, amount
        while at >= 0:
            tree.held[at, resource] += amount
            tree.base[at, resource] += more
            raised = max(tree.kept[at, resource], tree.base[at, resource])
            more = raised - tree.claim[at, resource]
            tree.claim[at, resource] = raised
            at = tree.parent[at]
        tree.spare[resource] -= more


@njit(cache=True)
def goes_before(queue: int, other: int, above: Any, weight: Any, share: Any) -> bool:
    """Whether a queue's turn comes before a sister's: within its quota, with a weight, by weighted share, by row."""
    if above[queue] != above[other]:
        return bool(above[other])
    if (weight[queue] > 0.0) != (weight[other] > 0.0):
        return bool(weight[queue] > 0.0)
    if share[queue] != share[other]:
        return bool(share[queue] < share[other])
    return queue < other


@njit(cache=True)
def next_queue(
    cursor: Any, end: Any, job_class: Any, class_shape: Any, class_workers: Any, shapes: Any,
    tree: Any, weight: Any, per_unit: Any, dominant: Any, best: Any, head: Any, above: Any, share: Any,
) -> int:  # fmt: skip
    """The queue whose job has the next turn, found from the leaves up; -1 for none. The last four arrays are for notes."""
    queues = cursor.shape[0]
    best[:] = -1
    for place in range(queues):
        queue = tree.upward[place]
        own = cursor[queue] < end[queue]
        if tree.left[queue] <= 0 or not (own or best[queue] >= 0):
            continue
        head[queue] = cursor[queue] if own else head[best[queue]]
        above[queue], share[queue] = True, dominant[queue]
        if tree.guaranteed[queue] or tree.inner[queue]:
            kind = job_class[head[queue]]
            request = shapes[class_shape[kind]]
            above[queue] = not is_within_quota(tree.held[queue], tree.quota[queue], request, class_workers[kind])
            if tree.inner[queue]:
                share[queue] = largest_asked(tree.held[queue], tree.recent[queue], per_unit, request)
        if weight[queue] > 0.0:
            share[queue] /= weight[queue]
        over = tree.parent[queue] if tree.parent[queue] >= 0 else queues
        if best[over] < 0 or goes_before(queue, best[over], above, weight, share):
            best[over] = queue
    queue = best[queues]
    while queue >= 0 and cursor[queue] >= end[queue]:
        queue = best[queue]
    return int(queue)


@njit(cache=True)
def pass_over(
    queue: int,
    cursor: Any,
    end: Any,
    job_class: Any,
    class_shape: Any,
    class_workers: Any,
    shapes: Any,
    tree: Any,
    hopeless: Any,
    over: Any,
) -> bool:
    """Move a queue's cursor to its next job that may be placed; false when the turn must be found anew first.

    What is passed over changes nothing of whose turn it is, unless the queue's next job is of another class and its place depends
    on what that asks for.
    """
    first, last, refused = cursor[queue], -1, False
    while cursor[queue] < end[queue]:
        kind = job_class[cursor[queue]]
        if kind != last:
            if cursor[queue] > first and not tree.steady[queue]:
                return False
            refused = tree.limited[queue] and not may_hold(tree, queue, shapes[class_shape[kind]], class_workers[kind])
            last = kind
        if not refused and not hopeless[kind]:
            return True
        over[cursor[queue]] = refused
        cursor[queue] += 1
    return False


@njit(cache=True)
def best_cluster(candidates: Any, costs: Any, transfers: Any, waits: Any, weights: Any, scores: Any) -> int:
    """The candidate with the least weighted sum of aspects, each brought to 0 … 1 over the candidates; -1 for none."""
    found = -1
    for cluster in range(candidates.shape[0]):
        scores[cluster] = 0.0
        if candidates[cluster]:
            found = cluster
    if found < 0:
        return -1
    for aspect in range(3):
        values = costs if aspect == 0 else (transfers if aspect == 1 else waits)
        least, most = np.inf, -np.inf
        for cluster in range(candidates.shape[0]):
            if candidates[cluster]:
                least, most = min(least, values[cluster]), max(most, values[cluster])
        spread = most - least
        for cluster in range(candidates.shape[0]):
            if candidates[cluster]:
                scores[cluster] += weights[aspect] * ((values[cluster] - least) / spread if spread > 0.0 else 0.0)
    best = -1
    for cluster in range(candidates.shape[0]):
        if candidates[cluster] and (best < 0 or scores[cluster] < scores[best]):
            best = cluster
    return best


@njit(cache=True)
def hole(free: Any, request: Any, workers: int, share: Any) -> float:
    """The largest share of the cluster's total that is left on a node once so many workers are taken off."""
    largest = -np.inf
    for resource in range(request.shape[0]):
        largest = max(largest, (free[resource] - request[resource] * workers) * share[resource])
    return largest


@njit(cache=True)
def smallest_hole(first: int, last: int, rooms: Any, taken: Any, free: Any, request: Any, share: Any, workers: int) -> int:
    """Of the nodes first … last - 1 that are not taken and hold all `workers`, the one that they leave the smallest hole on."""
    best, least = -1, np.inf
    for node in range(first, last):
        if rooms[node] >= workers and not taken[node - first]:
            left = hole(free[node], request, workers, share[node])
            if best < 0 or left < least:
                best, least = node, left
    return best


@njit(cache=True)
def roomiest(first: int, last: int, rooms: Any, taken: Any, free: Any, request: Any, share: Any) -> int:
    """Of the nodes first … last - 1 that are not taken, one with room for most workers; of equals, with the smallest hole if filled."""
    best, least = -1, np.inf
    for node in range(first, last):
        if taken[node - first] or (best >= 0 and rooms[node] < rooms[best]):
            continue
        left = hole(free[node], request, rooms[node], share[node])
        if best < 0 or rooms[node] > rooms[best] or left < least:
            best, least = node, left
    return best


@njit(cache=True)
def seat(first: int, last: int, rooms: Any, free: Any, request: Any, share: Any, workers: int, seats: Any) -> None:
    """The node of each worker, in `seats[W]`: nodes that are filled come first, roomiest first, then the smallest hole."""
    taken = np.zeros(last - first, np.bool_)
    seated = 0
    while seated < workers:
        rest = workers - seated
        node = smallest_hole(first, last, rooms, taken, free, request, share, rest)
        if node < 0:
            node = roomiest(first, last, rooms, taken, free, request, share)
        count = min(rest, rooms[node])
        taken[node - first] = True
        for _ in range(count):
            seats[seated] = node
            seated += 1


@njit(cache=True)
def book(seats: Any, request: Any, free: Any, home: Any, shapes: Any, usable: Any, rooms: Any, there: Any, open_nodes: Any) -> None:
    """Take the workers seated on `seats[W]`, grouped by node, off what is free."""
    for seat_row in range(seats.shape[0]):
        node = seats[seat_row]
        for resource in range(request.shape[0]):
            free[node, resource] -= request[resource]
        if seat_row == seats.shape[0] - 1 or seats[seat_row + 1] != node:
            refresh(node, free, home, shapes, usable, rooms, there, open_nodes)


@njit(cache=True)
def decide(
    cursor: Any, end: Any, job_class: Any,
    class_shape: Any, class_workers: Any, class_allowed: Any, class_cost: Any, class_transfer: Any,
    shapes: Any, usable: Any, rooms: Any, there: Any, open_nodes: Any,
    home: Any, begin: Any, free: Any, share: Any, waits: Any, weights: Any,
    tree: Any, weight: Any, per_unit: Any, over: Any,
    placed: Any, placed_cluster: Any, placed_score: Any, seat_end: Any, seats: Any,
) -> int:  # fmt: skip
    """Placements in the order they are decided; returns how many. `seats[seat_end[i - 1]:seat_end[i]]` are the nodes of placement i.

    Jobs of queue q are rows `cursor[q] … end[q] - 1` of `job_class[J]`, in the order in which they have their turns; `cursor`
    moves on. `over[J]` are those passed over because a queue would hold more than it may. Stops early when `placed` or `seats`
    is full: the caller takes what is there and calls again.
    """
    clusters, queues, count, used = there.shape[1], cursor.shape[0], 0, 0
    hopeless = np.zeros(class_shape.shape[0], np.bool_)
    candidates, scores = np.zeros(clusters, np.bool_), np.zeros(clusters)
    dominant = np.array([largest(tree.held[queue], tree.recent[queue], per_unit) for queue in range(queues)])
    best, head = np.zeros(queues + 1, np.int64), np.zeros(queues, np.int64)
    above, share_of = np.zeros(queues, np.bool_), np.zeros(queues)
    while count < placed.shape[0]:
        queue = next_queue(
            cursor, end, job_class, class_shape, class_workers, shapes, tree, weight, per_unit, dominant, best, head, above, share_of
        )
        if queue < 0:
            break
        if not pass_over(queue, cursor, end, job_class, class_shape, class_workers, shapes, tree, hopeless, over):
            continue
        job = cursor[queue]
        kind = job_class[job]
        shape, workers = class_shape[kind], class_workers[kind]
        if used + workers > seats.shape[0]:
            break
        cursor[queue] += 1
        for cluster in range(clusters):
            candidates[cluster] = class_allowed[kind, cluster] and there[shape, cluster] >= workers
        cluster = best_cluster(candidates, class_cost[kind], class_transfer[kind], waits, weights, scores)
        if cluster < 0:
            hopeless[kind] = True
            continue
        chosen = seats[used : used + workers]
        seat(begin[cluster], begin[cluster + 1], rooms[shape], free, shapes[shape], share, workers, chosen)
        book(chosen, shapes[shape], free, home, shapes, usable, rooms, there, open_nodes)
        hold(tree, queue, shapes[shape], workers)
        dominant[queue] = largest(tree.held[queue], tree.recent[queue], per_unit)
        placed[count], placed_cluster[count], placed_score[count] = job, cluster, scores[cluster]
        used += workers
        seat_end[count] = used
        count += 1
    return count
