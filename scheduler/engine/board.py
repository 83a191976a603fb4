"""The board: a world that stays, and is changed instead of frozen anew, for networks of any size.

`place` looks at everything for every plan. The board keeps what filters and sums have found and works it out again only for
what changed: a node that ran something, a job that came, a run that ended. Equal jobs are one class (the same request,
workers, labels, rights, prices); equal workers are one shape. A decision costs a few microseconds for each placement, and
nothing for the jobs that wait behind one of their class. It makes the same plan as `place`, which is its oracle.

Everything is given by rows: clusters, nodes and queues by their row in the order of names (`by_name`), jobs by a number of the
caller's own, unique while they wait or run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scheduler.engine.board_kernel import decide, refresh_all
from scheduler.engine.filters import LASTING_NODE_FILTERS, first_reasons
from scheduler.engine.node_scores import wanted
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import ROUNDING, Bools, Floats, Ints, Jobs, Snapshot
from scheduler.engine.tree import Stem, Tree, per_unit

RANK_BITS, SEQUENCE_BITS = 12, 38
RANK_OFFSET = 1 << (RANK_BITS - 1)
BATCH, SEATS = 1 << 16, 1 << 18


@dataclass(frozen=True, eq=False)
class Classes:
    """Kinds of job. `policy[K, C]` holds Reasons; request, labels, prices and transfers are as in `Jobs`."""

    request: Floats
    label_class: Ints
    workers: Ints
    policy: Ints
    cost: Floats
    transfer_s: Floats


@dataclass(frozen=True, eq=False)
class Placed:
    """Placements in the order they were decided. `nodes[seat_end[i - 1]:seat_end[i]]` are the nodes of placement i, by rank."""

    numbers: Ints
    clusters: Ints
    scores: Floats
    seat_end: Ints
    nodes: Ints

    def nodes_of(self, row: int) -> Ints:
        """[W] The node of each worker."""
        return self.nodes[self.seat_end[row - 1] if row else 0 : self.seat_end[row]]


class Board:
    """A world in the order of names (`by_name(snapshot).snapshot`; its jobs are not looked at) and the kinds of job in it.

    Raises ValueError for a world that it would not decide as `place` does: with queues that are strict, spread or may have others
    ended, with devices, jobs of several models, promises or windows.
    """

    def __init__(self, world: Snapshot, classes: Classes) -> None:
        if world.queues.spread.any():
            raise ValueError("the board packs; decide worlds with queues that spread by place")
        if world.queues.strict.any():
            raise ValueError("the board knows no strict queues; use place")
        if world.further is not None:
            raise ValueError("the board knows one way to run a job; decide jobs with alternatives by `place`")
        if world.nodes.devices.size:
            raise ValueError("the board counts whole accelerators; decide worlds whose devices are told apart by `place`")
        if world.heads or world.promised:
            raise ValueError("the board knows no promises of starts; decide on worlds with `heads` or `promised` by `place`")
        if world.windows is not None:
            raise ValueError("the board knows no maintenance and no reservations; decide on worlds with `windows` by `place`")
        if world.claims.ids or (world.queues.preemption > 0).any():
            raise ValueError("the board ends no runs and keeps no claims: decide worlds with preemption by `place`")
        if world.weights.carbon > 0 or set(wanted(world.weights)) - {"fragmentation"}:
            raise ValueError("the board scores by price, transfer and start alone: decide on worlds with other weights by `place`")
        self.world, self.classes = world, classes
        self.ready, self.total = world.nodes.ready.copy(), world.nodes.total.copy()
        self.free = world.nodes.free + ROUNDING * world.nodes.total
        self.home = world.nodes.cluster
        self.begin = np.searchsorted(self.home, np.arange(len(world.clusters.names) + 1)).astype(np.int64)
        self.shapes, self.shape_labels, self.class_shape = _shapes(classes)
        clusters, shapes = len(world.clusters.names), len(self.shapes)
        self.lasting = np.zeros((shapes, len(self.home)), dtype=np.int8)
        self.against = np.zeros((shapes, clusters, len(Reason)), dtype=np.int64)
        self.rooms = np.zeros((shapes, len(self.home)), dtype=np.int64)
        self.there, self.open_nodes = np.zeros((shapes, clusters), dtype=np.int64), np.zeros((shapes, clusters), dtype=np.int64)
        self.held, self.running = world.queues.held.copy(), world.queues.running.copy()
        self._key, self._number, self._kind = (np.zeros(0, dtype=np.int64) for _ in range(3))
        self._over = np.zeros(0, dtype=np.bool_)
        self._seen = np.zeros(len(world.queues.names), dtype=np.int64)
        self._runs: dict[int, tuple[int, int, Ints]] = {}
        # Of all nodes, until one changes.
        self._units: Floats | None = None
        self._sum: Floats | None = None
        self._stem = Stem(world.queues, world.weights.history)
        self._queue_keys = np.arange(len(world.queues.names) + 1, dtype=np.int64) << (RANK_BITS + SEQUENCE_BITS)
        # [N] Nodes of clusters that take work, [K, C] which clusters a class may go to, [S, N] which nodes its workers may use.
        takes = world.clusters.healthy & ~world.clusters.cordoned
        self._takes = takes[self.home]
        self._allowed, self._weights = (classes.policy == int(Reason.FITS)) & takes, _weights(world)
        self._usable = np.zeros(self.lasting.shape, dtype=np.bool_)
        self._look_at(np.arange(len(self.home)), known=False)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._number)

    @property
    def runs(self) -> tuple[int, ...]:
        """The numbers of the jobs that the board has placed and that have not ended."""
        return tuple(self._runs)

    def arrive(self, numbers: Ints, queue: Ints, rank: Ints, sequence: Ints, kind: Ints) -> None:
        """Jobs begin to wait. Ranks are -2047 … 2047, sequences below 2^38; where both are equal, jobs go in the order they came."""
        keys = _keys(queue, rank, sequence)
        order = np.argsort(keys, kind="stable")
        # Those that wait already keep their places between them.
        at = np.searchsorted(self._key, keys[order], side="right") + np.arange(len(order))
        old = np.ones(len(self._key) + len(order), dtype=np.bool_)
        old[at] = False
        self._key, self._number, self._kind, self._over = (
            _merged(old, waiting, at, coming)
            for waiting, coming in (
                (self._key, keys[order]), (self._number, numbers[order]), (self._kind, kind[order]), (self._over, False),
            )
        )  # fmt: skip

    def withdraw(self, numbers: Ints) -> None:
        """Jobs wait no longer."""
        self._keep(~np.isin(self._number, numbers))

    def finish(self, numbers: Sequence[int]) -> None:
        """Runs have ended; what they held is free."""
        kinds, queues, nodes = zip(*(self._runs.pop(number) for number in numbers), strict=True) if numbers else ((), (), ())
        workers = np.array([len(seats) for seats in nodes], dtype=np.int64)
        seats = np.concatenate(nodes) if nodes else np.zeros(0, dtype=np.int64)
        request = self.shapes[self.class_shape[np.array(kinds, dtype=np.int64)]]
        np.add.at(self.free, seats, np.repeat(request, workers, axis=0))
        np.subtract.at(self.held, np.array(queues, dtype=np.int64), request * workers[:, None])
        np.subtract.at(self.running, np.array(queues, dtype=np.int64), 1)
        self._count(np.unique(seats))

    def change_nodes(self, nodes: Ints, total: Floats, ready: Bools) -> None:
        """Nodes have become ready or not, or larger or smaller; what runs on them stays."""
        self.free[nodes] += (total - self.total[nodes]) * (1 + ROUNDING)
        self.total[nodes], self.ready[nodes], self._units = total, ready, None
        self._sum = None
        self._look_at(nodes, known=True)

    def decide(self) -> Placed:
        """Place what fits. The placed wait no longer."""
        self._seen[:] = 0
        self._over[:] = False
        parts: list[Placed] = []
        # One tree for all batches: what was kept back when the decision began holds until its end.
        more, tree = len(self._number) > 0, self._tree()
        while more:
            part, more = self._decide_batch(tree)
            parts += [part] if part is not None else []
        if len(parts) == 1:
            return parts[0]
        ends = np.cumsum([0, *(len(part.nodes) for part in parts)])[:-1]
        return Placed(
            numbers=_joined([part.numbers for part in parts], np.int64),
            clusters=_joined([part.clusters for part in parts], np.int64),
            scores=_joined([part.scores for part in parts], np.float64),
            seat_end=_joined([part.seat_end + end for part, end in zip(parts, ends.tolist(), strict=True)], np.int64),
            nodes=_joined([part.nodes for part in parts], np.int64),
        )

    def held_back(self) -> Bools:
        """[J] Which of the waiting jobs got no turn in the last decision, because their queue, or one above it, runs as many as it may."""
        queues = self._key >> (RANK_BITS + SEQUENCE_BITS)
        begin = np.searchsorted(queues, np.arange(len(self._seen)))
        tree = self._tree()
        full = tree.left <= 0
        for queue in tree.upward[::-1].tolist():
            full[queue] |= tree.parent[queue] >= 0 and full[tree.parent[queue]]
        late: Bools = full[queues] & (np.arange(len(queues)) - begin[queues] >= self._seen[queues])
        return late

    def over_quota(self) -> Bools:
        """[J] Which of the waiting jobs were passed over in the last decision, because a queue would hold more than it may."""
        return self._over

    def waiting_jobs(self) -> tuple[Ints, Ints, Ints]:
        """[J] Numbers, queues and classes of the jobs that wait, in the order of their queues and turns."""
        return self._number, self._key >> (RANK_BITS + SEQUENCE_BITS), self._kind

    def _decide_batch(self, tree: Tree) -> tuple[Placed | None, bool]:
        """Placements, if any, booked on the tree too, and whether there may be more because their arrays are full."""
        world, classes = self.world, self.classes
        bounds = np.searchsorted(self._key, self._queue_keys)
        size = min(BATCH, max(len(self._number), 1))
        placed, placed_cluster, seat_end = (np.zeros(size, dtype=np.int64) for _ in range(3))
        workers = classes.workers[self._kind]
        largest = int(workers.max())
        scores, seats = np.zeros(size), np.zeros(max(min(SEATS, int(workers.sum())), largest), dtype=np.int64)
        # What an earlier batch of this decision passed over stays behind.
        cursor = bounds[:-1] + self._seen
        count = decide(
            cursor, bounds[1:], self._kind,
            self.class_shape, classes.workers, self._allowed, classes.cost, classes.transfer_s,
            self.shapes, self._usable, self.rooms, self.there, self.open_nodes,
            self.home, self.begin, self.free, self._unit_shares(), world.clusters.wait_s, self._weights,
            tree, world.queues.weight, per_unit(self._capacity()), self._over,
            placed, placed_cluster, scores, seat_end, seats,
        )  # fmt: skip
        took = np.bincount(self._key[placed[:count]] >> (RANK_BITS + SEQUENCE_BITS), minlength=len(self._seen))
        self._seen = cursor - bounds[:-1] - took
        if not count:
            return None, False
        full = bool(len(self._number) > count and (count == size or seat_end[count - 1] + largest > len(seats)))
        return self._book(placed[:count], placed_cluster[:count], scores[:count], seat_end[:count], seats[: seat_end[count - 1]]), full

    def _book(self, rows: Ints, clusters: Ints, scores: Floats, seat_end: Ints, seats: Ints) -> Placed:
        numbers, kinds = self._number[rows], self._kind[rows]
        queues = self._key[rows] >> (RANK_BITS + SEQUENCE_BITS)
        workers = self.classes.workers[kinds]
        np.add.at(self.held, queues, self.shapes[self.class_shape[kinds]] * workers[:, None])
        np.add.at(self.running, queues, 1)
        starts = (seat_end - workers).tolist()
        for number, kind, queue, first, last in zip(
            numbers.tolist(), kinds.tolist(), queues.tolist(), starts, seat_end.tolist(), strict=True
        ):
            self._runs[number] = kind, queue, seats[first:last]
        stay = np.ones(len(self._number), dtype=np.bool_)
        stay[rows] = False
        self._keep(stay)
        return Placed(numbers, clusters, scores, seat_end, seats)

    def _keep(self, stay: Bools) -> None:
        self._key, self._number, self._kind, self._over = self._key[stay], self._number[stay], self._kind[stay], self._over[stay]

    def _look_at(self, nodes: Ints, *, known: bool) -> None:
        """Judge some nodes anew for every shape. `known`: they are in the sums already, with what was found before."""
        part = _judged(self, nodes)
        for shape in range(len(self.shapes)):
            found = first_reasons(LASTING_NODE_FILTERS, part, shape)
            if known:
                np.subtract.at(self.against[shape], (self.home[nodes], self.lasting[shape, nodes]), 1)
            np.add.at(self.against[shape], (self.home[nodes], found), 1)
            self.lasting[shape, nodes] = found
            self._usable[shape, nodes] = found == int(Reason.FITS)
        self._count(nodes)

    def _count(self, nodes: Ints) -> None:
        refresh_all(nodes, self.free, self.home, self.shapes, self._usable, self.rooms, self.there, self.open_nodes)

    def _capacity(self) -> Floats:
        if self._sum is None:
            self._sum = self.total[self.world.clusters.healthy[self.home]].sum(axis=0)
        return self._sum

    def _tree(self) -> Tree:
        free, usable = np.zeros(self.total.shape[1]), self.ready & self._takes
        if self._stem.keeps:
            free = (self.free[usable] - ROUNDING * self.total[usable]).sum(axis=0)
        return self._stem.grow(self.held, self.running, self._capacity(), free)

    def _unit_shares(self) -> Floats:
        if self._units is not None:
            return self._units
        sums = np.zeros((len(self.begin) - 1, self.total.shape[1]))
        np.add.at(sums, self.home, self.total)
        shares: Floats = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)[self.home]
        self._units = shares
        return shares


def classes_of(jobs: Jobs) -> tuple[Classes, Ints]:
    """The kinds of some jobs, and [J] which kind each is of. Raises ValueError for what the board does not decide as `place` does."""
    if jobs.prefer.any() or jobs.longer_s.any():
        raise ValueError("the board knows balanced jobs only; decide jobs with a preference by `place`")
    if (jobs.least < jobs.workers).any() or (jobs.most < jobs.workers[:, None]).any():
        raise ValueError("the board does not know gangs that start with fewer workers; use place")
    if (jobs.same >= 0).any():
        raise ValueError("the board does not know gangs whose workers must be in one zone or rack; use place")
    if (jobs.array >= 0).any():
        raise ValueError("the board knows no array that limits its tasks; decide them by `place`")
    columns = (jobs.request, jobs.label_class[:, None], jobs.workers[:, None], jobs.policy, jobs.cost, jobs.transfer_s)
    rows = np.concatenate([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    _, first, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    classes = Classes(
        request=jobs.request[first], label_class=jobs.label_class[first], workers=jobs.workers[first],
        policy=jobs.policy[first], cost=jobs.cost[first], transfer_s=jobs.transfer_s[first],
    )  # fmt: skip
    return classes, kind.reshape(-1).astype(np.int64)


def _shapes(classes: Classes) -> tuple[Floats, Ints, Ints]:
    """[S, R] what a worker of each shape holds, [S] its label class, and [K] the shape of each class's workers."""
    rows = np.concatenate([classes.request, classes.label_class[:, None].astype(np.float64)], axis=1)
    _, first, shape = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return np.ascontiguousarray(classes.request[first]), classes.label_class[first], shape.reshape(-1).astype(np.int64)


def _judged(board: Board, nodes: Ints) -> Snapshot:
    """These nodes alone, and a job of each shape, for the filters to look at."""
    world, none = board.world, np.zeros((len(board.shapes), 0))
    total, shapes = board.total[nodes] + ROUNDING * board.total[nodes], len(board.shapes)
    part = replace(
        world.nodes,
        names=(),
        cluster=board.home[nodes],
        ready=board.ready[nodes],
        total=total,
        free=total,
        label_ok=world.nodes.label_ok[:, nodes],
    )
    zeros = np.zeros(shapes, dtype=np.int64)
    jobs = Jobs(
        ids=(), queue=zeros, rank=zeros, sequence=zeros, workers=zeros + 1, request=board.shapes, label_class=board.shape_labels,
        policy=none.astype(np.int64), transfer_s=none, cost=none,
    )  # fmt: skip
    return replace(world, nodes=part, jobs=jobs)


def _keys(queue: Ints, rank: Ints, sequence: Ints) -> Ints:
    """One number for each job that orders jobs by queue, then rank (higher first), then sequence."""
    in_range = (np.abs(rank) < RANK_OFFSET) & (sequence >= 0) & (sequence < 1 << SEQUENCE_BITS)
    if not in_range.all():
        raise ValueError("a rank or a sequence is out of the range that the board orders by")
    keys: Ints = (queue << (RANK_BITS + SEQUENCE_BITS)) | ((RANK_OFFSET - 1 - rank) << SEQUENCE_BITS) | sequence
    return keys


def _weights(world: Snapshot) -> Floats:
    return np.array([world.weights.price, world.weights.transfer, world.weights.start])


def _merged(old: Bools, waiting: np.ndarray, at: Ints, coming: np.ndarray | bool) -> np.ndarray:
    """What waits, in the places that are `old`, and what comes `at` the others."""
    found = np.empty(len(old), dtype=waiting.dtype)
    found[old], found[at] = waiting, coming
    return found


def _joined(parts: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)
