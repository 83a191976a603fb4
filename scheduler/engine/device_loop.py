"""The compiled loop over a queue: nothing is worked out twice that has not changed since.

Workers of one shape ask the same question of every node, and a decision changes one node. So the scores of each shape stay, with
a journal of the nodes that decisions changed; when a shape's turn comes again, only nodes in the journal since its last turn
are scored anew, each once. Shapes that are rare may find every node changed, and then pay for one pass over the nodes.

A window sees the first so many of the queue at once. It takes next what is worth most beyond the price of the room it takes,
prefers what fills a device in use to what opens one, and so leaves for last what may as well be refused when room runs out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from scheduler.engine.device_kernel import CPN, RANDOM, kind, score, shares
from scheduler.engine.devices import DEVICE, WHOLE
from scheduler.engine.snapshot import Floats, Ints

# How much a share in the window is helped on for filling a device in use, and held back for opening one.
FILLING = 3 * DEVICE // 10
# Work without devices that costs none goes before work that is just worth its price.
HARMLESS = DEVICE // 50
# A pod is overtaken by at most this many windows full of others.
PATIENCE = 8


class Board(NamedTuple):
    """What is known of each shape on each node: `scores[S, N]`, `device[S, N]`; `journal[P + 1]` holds the nodes that decisions
    changed (-1: none), `latest[N]` each node's last entry in it, `seen[S]` how far each shape has read it (-1: not at all).
    """

    scores: Floats
    device: Ints
    journal: Ints
    latest: Ints
    seen: Ints


def board_of(shapes: int, nodes: int, decisions: int) -> Board:
    """A board on which nothing is known."""
    return Board(
        scores=np.full((shapes, nodes), -np.inf),
        device=np.full((shapes, nodes), -1, dtype=np.int64),
        journal=np.full(decisions + 1, -1, dtype=np.int64),
        latest=np.full(nodes, -1, dtype=np.int64),
        seen=np.full(shapes, -1, dtype=np.int64),
    )


@njit(cache=True)
def refresh(policy: int, nodes: Any, shapes: Any, shape: int, facts: Any, board: Any, now: int) -> None:
    """Score anew what has changed for a shape; `now` decisions are in the journal."""
    count, seen = nodes.devices.shape[0], board.seen[shape]
    scores, device = board.scores[shape], board.device[shape]
    if seen < 0:
        for node in range(count):
            scores[node], device[node] = score(policy, nodes, node, shapes, shape, facts)
    else:
        for entry in range(seen, now):
            node = board.journal[entry]
            if node >= 0 and board.latest[node] == entry:
                scores[node], device[node] = score(policy, nodes, node, shapes, shape, facts)
    board.seen[shape] = now


@njit(cache=True)
def first_best(scores: Any) -> int:
    """The first node with the highest score, -1 when none has room."""
    best, highest = -1, -np.inf
    for node in range(scores.shape[0]):
        if scores[node] > highest:
            best, highest = node, scores[node]
    return best


@njit(cache=True)
def drawn(nodes: Any, shapes: Any, shape: int, scores: Any, draw: Any) -> tuple[int, int]:
    """Any node with room and any device with room on it; two numbers of 0 ≤ x < 1 say which."""
    count = 0
    for node in range(scores.shape[0]):
        count += scores[node] > -np.inf
    if count == 0:
        return -1, -1
    node, skip = -1, int(draw[0] * count) + 1
    while skip > 0:
        node += 1
        skip -= scores[node] > -np.inf
    if not shares(shapes, shape):
        return node, -1
    count = 0
    for device in range(nodes.devices[node]):
        count += nodes.gpu_milli[node, device] >= shapes.gpu_milli[shape]
    device, skip = -1, int(draw[1] * count) + 1
    while skip > 0:
        device += 1
        skip -= nodes.gpu_milli[node, device] >= shapes.gpu_milli[shape]
    return node, device


@njit(cache=True)
def book(nodes: Any, shapes: Any, shape: int, node: int, device: int, board: Any, now: int) -> None:
    """Take a worker off what is free, and write the node in the journal."""
    board.journal[now] = node
    if node < 0:
        return
    board.latest[node] = now
    nodes.cpu_milli[node] -= shapes.cpu_milli[shape]
    nodes.memory_mib[node] -= shapes.memory_mib[shape]
    rest = shapes.devices[shape]
    if rest == 0:
        return
    nodes.kinds[node, kind(shapes, shape)] += 1
    if shares(shapes, shape):
        nodes.gpu_milli[node, device] -= shapes.gpu_milli[shape]
        return
    for other in range(nodes.devices[node]):
        if rest > 0 and nodes.gpu_milli[node, other] >= shapes.gpu_milli[shape]:
            nodes.gpu_milli[node, other] -= shapes.gpu_milli[shape]
            rest -= 1


@njit(cache=True)
def place_queue(
    policy: int, nodes: Any, shapes: Any, facts: Any, queue: Any, draws: Any, board: Any, first: int, last: int, chosen: Any
) -> None:
    """Decide the workers first … last - 1 of the queue, one after the other; the node of each in `chosen[P]`, -1 for none."""
    for turn in range(first, last):
        shape = queue[turn]
        refresh(policy, nodes, shapes, shape, facts, board, turn)
        if policy == RANDOM:
            node, device = drawn(nodes, shapes, shape, board.scores[shape], draws[turn])
        else:
            node = first_best(board.scores[shape])
            device = board.device[shape, node] if node >= 0 else -1
        chosen[turn] = node
        book(nodes, shapes, shape, node, device, board, turn)


@njit(cache=True)
def merit(nodes: Any, shapes: Any, shape: int, board: Any, node: int) -> float:
    """What a worker is worth beyond what its best place costs; without any place it is decided at once: room does not grow."""
    if node < 0:
        return np.inf
    if shapes.devices[shape] == 0:
        return float(board.scores[shape, node] + HARMLESS)
    worth = board.scores[shape, node] + shapes.devices[shape] * shapes.gpu_milli[shape] * (DEVICE // WHOLE)
    if not shares(shapes, shape):
        return float(worth)
    opens = nodes.gpu_milli[node, board.device[shape, node]] == WHOLE
    return float(worth - FILLING if opens else worth + FILLING)


class Window(NamedTuple):
    """Who waits in a window: rows of the queue `waiting[K]` by age, `since[K]` when each came, `marks` (see `place_window`),
    `counts`: how many wait, how many have come, which mark is next; `best[S]` and `merit[S]` of each shape that was looked at,
    and `order[P]`, the rows of the queue as they were decided.
    """

    waiting: Ints
    since: Ints
    marks: Ints
    counts: Ints
    best: Ints
    merit: Floats
    order: Ints


def window_of(size: int, shapes: int, queue: Ints, marks: Ints) -> Window:
    """A window that nobody has come to yet."""
    none = np.zeros(size, dtype=np.int64)
    order = np.full(len(queue), -1, dtype=np.int64)
    return Window(none, none.copy(), marks, np.zeros(3, dtype=np.int64), np.zeros(shapes, dtype=np.int64), np.zeros(shapes), order)


@njit(cache=True)
def admit(window: Any, arrived_at_most: int, now: int) -> None:
    """Let pods in, up to the next mark that has not been passed: it is passed when all who came before it are decided."""
    counts, marks = window.counts, window.marks
    while counts[2] < marks.shape[0] and counts[0] == 0 and counts[1] >= marks[counts[2]]:
        counts[2] += 1
    barrier = min(marks[counts[2]], arrived_at_most) if counts[2] < marks.shape[0] else arrived_at_most
    while counts[0] < window.waiting.shape[0] and counts[1] < barrier:
        window.waiting[counts[0]], window.since[counts[0]] = counts[1], now
        counts[0] += 1
        counts[1] += 1


@njit(cache=True)
def next_waiting(nodes: Any, shapes: Any, facts: Any, queue: Any, window: Any, board: Any, now: int) -> int:
    """The place in the window of the worker with the most merit, the oldest of equal ones."""
    found = -1
    for place in range(window.counts[0]):
        shape = queue[window.waiting[place]]
        if board.seen[shape] < now or now == 0:
            refresh(CPN, nodes, shapes, shape, facts, board, now)
            window.best[shape] = first_best(board.scores[shape])
            window.merit[shape] = merit(nodes, shapes, shape, board, window.best[shape])
        if found < 0 or window.merit[shape] > window.merit[queue[window.waiting[found]]]:
            found = place
    return 0 if now - window.since[0] >= PATIENCE * window.waiting.shape[0] else found


@njit(cache=True)
def place_window(nodes: Any, shapes: Any, facts: Any, queue: Any, window: Any, board: Any, first: int, last: int, chosen: Any) -> None:
    """Make the decisions first … last - 1 of a queue by `cpn`, seeing as many workers at once as the window holds.

    Workers come in the order of the queue, each as soon as the window has a free place. At each of `marks` (how many have
    come, ascending) nobody else is let in until all who are there are decided. Each is decided once; `chosen[P]` are nodes.
    """
    for now in range(first, last):
        admit(window, queue.shape[0], now)
        place = next_waiting(nodes, shapes, facts, queue, window, board, now)
        turn = window.waiting[place]
        shape = queue[turn]
        node = window.best[shape]
        chosen[turn], window.order[now] = node, turn
        book(nodes, shapes, shape, node, board.device[shape, node] if node >= 0 else -1, board, now)
        window.counts[0] -= 1
        for later in range(place, window.counts[0]):
            window.waiting[later], window.since[later] = window.waiting[later + 1], window.since[later + 1]
