"""How the engine grows: a made-up network of any size, one full cycle on it, and then cycles after small changes.

A change is what a large network sees between two cycles: half a percent of the jobs arrive, as many runs end, a hundredth of the
nodes become ready or not. Work is more than fits, so that most jobs wait, as they do where a queue matters. Sizes of nodes and
jobs are drawn from a seed and belong to nobody; the figures say what a cycle costs and not how good its plan is.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from scheduler.engine.board import Board, Classes
from scheduler.engine.board_reasons import standings
from scheduler.engine.snapshot import Clusters, Ints, Jobs, Nodes, Queues, Snapshot

GIB = 1024.0**3
QUEUES, CLASSES, SHAPES = 100, 300, 60
RESOURCES = ("cpu", "memory", "H200", "Ascend-910B", "L40S")
# Cores, memory and devices by model of each kind of node, and how common it is.
NODE_KINDS = ((64, 256, 0, 0, 0), (96, 768, 8, 0, 0), (96, 1024, 0, 8, 0), (128, 1024, 0, 0, 16))
NODE_SHARES = (0.6, 0.2, 0.1, 0.1)
CHANGED_NODES, ARRIVALS = 0.01, 0.005
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How large a network is."""

    nodes: int
    jobs: int
    clusters: int

    def smaller(self, by: int) -> Size:
        """A part of it with as many clusters, one node for each at least."""
        return Size(max(self.nodes // by, self.clusters), max(self.jobs // by, 1), self.clusters)


@dataclass(frozen=True)
class Timing:
    """Seconds that it took to build the board, to decide on everything, and to decide after each change."""

    build_s: float
    full_s: float
    placed: int
    cycles_s: tuple[float, ...]


def made_world(size: Size, random: np.random.Generator) -> Snapshot:
    """An empty network in the order of names."""
    kind = random.choice(len(NODE_KINDS), size.nodes, p=NODE_SHARES)
    total = np.array(NODE_KINDS, dtype=np.float64)[kind]
    total[:, 1] *= GIB
    home = np.sort(np.concatenate([np.arange(size.clusters), random.integers(0, size.clusters, size.nodes - size.clusters)]))
    return Snapshot(
        resources=RESOURCES,
        clusters=Clusters(
            tuple(f"cluster-{row:04}" for row in range(size.clusters)), np.ones(size.clusters, dtype=np.bool_),
            np.zeros(size.clusters, dtype=np.bool_), random.random(size.clusters),
        ),
        nodes=Nodes(
            tuple(f"node-{row:07}" for row in range(size.nodes)), home, np.ones(size.nodes, dtype=np.bool_), total, total.copy(),
            np.vstack([np.ones(size.nodes, dtype=np.bool_), random.random(size.nodes) < 0.3]),
        ),
        queues=Queues(
            tuple(f"queue-{row:03}" for row in range(QUEUES)), random.choice([0.5, 1.0, 2.0], QUEUES), np.zeros((QUEUES, len(RESOURCES))),
            np.zeros(QUEUES, dtype=np.int64), np.full(QUEUES, -1),
        ),
        jobs=_no_jobs(size.clusters),
    )  # fmt: skip


def _no_jobs(clusters: int) -> Jobs:
    row, request, table = np.zeros(0, dtype=np.int64), np.zeros((0, len(RESOURCES))), np.zeros((0, clusters))
    return Jobs(
        ids=(), queue=row, rank=row, sequence=row, workers=row, request=request, label_class=row,
        policy=table.astype(np.int64), transfer_s=table, cost=table,
    )  # fmt: skip


def made_classes(clusters: int, random: np.random.Generator) -> Classes:
    """Kinds of job: half without devices, a tenth of them gangs; each is forbidden at about a third of the clusters."""
    model, count = random.choice(4, SHAPES, p=(0.5, 0.25, 0.15, 0.1)), random.choice([1, 1, 2, 4, 8], SHAPES)
    request = np.zeros((SHAPES, len(RESOURCES)))
    request[:, 0] = np.where(model > 0, 8 * count, random.choice([4, 8, 16, 32], SHAPES))
    request[:, 1] = request[:, 0] * 4 * GIB
    for row in (1, 2, 3):
        request[model == row, 1 + row] = count[model == row]
    shape = random.integers(0, SHAPES, CLASSES)
    forbidden = random.random((CLASSES, clusters)) < 0.3
    return Classes(
        request=request[shape], label_class=shape % 2,
        workers=np.where(random.random(CLASSES) < 0.9, 1, random.integers(2, 9, CLASSES)),
        policy=np.where(forbidden, random.integers(1, 11, (CLASSES, clusters)), 0),
        cost=random.random((CLASSES, clusters)), transfer_s=random.random((CLASSES, clusters)),
    )  # fmt: skip


class Load:
    """Jobs that arrive, numbered from 0, and a board that takes them."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.random = size, np.random.default_rng(seed)
        world, classes = made_world(size, self.random), made_classes(size.clusters, self.random)
        began = perf_counter()
        self.board = Board(world, classes)
        self.build_s = perf_counter() - began
        self.running = np.zeros(0, dtype=np.int64)
        self._next = 0

    def arrive(self, count: int) -> None:
        """Jobs of a few common and many rare kinds begin to wait."""
        numbers, self._next = np.arange(self._next, self._next + count), self._next + count
        kinds = np.minimum(self.random.zipf(1.3, count) - 1, CLASSES - 1)
        self.board.arrive(numbers, self.random.integers(0, QUEUES, count), self.random.choice([-100, 0, 100], count), numbers, kinds)

    def decide(self) -> int:
        """One decision with the reasons of all that wait; how many were placed."""
        placed = self.board.decide().numbers
        standings(self.board)
        self.running = np.concatenate([self.running, placed])
        return len(placed)

    def change(self) -> float:
        """One cycle after a small change; the seconds that it took."""
        ending, nodes = self._ending(), self.random.choice(self.size.nodes, max(int(self.size.nodes * CHANGED_NODES), 1), replace=False)
        ready = self.random.random(len(nodes)) < 0.95
        began = perf_counter()
        self.board.finish(ending.tolist())
        self.arrive(max(int(self.size.jobs * ARRIVALS), 1))
        self.board.change_nodes(nodes, self.board.total[nodes], ready)
        self.decide()
        return perf_counter() - began

    def _ending(self) -> Ints:
        count = min(max(int(self.size.jobs * ARRIVALS), 1), len(self.running))
        rows = self.random.choice(len(self.running), count, replace=False)
        ending = self.running[rows]
        self.running = np.delete(self.running, rows)
        return ending


def timed(size: Size, *, cycles: int, seed: int) -> Timing:
    """Build a network, decide on all its jobs, then after each of some changes."""
    load = Load(size, seed)
    load.arrive(size.jobs)
    began = perf_counter()
    placed = load.decide()
    full_s = perf_counter() - began
    return Timing(load.build_s, full_s, placed, tuple(load.change() for _ in range(cycles)))


def run_scale(size: Size, *, cycles: int = 20, seed: int = 1, say: Say = lambda _line: None) -> dict[str, object]:
    """The document of `cpn bench scale`: the given size, and two smaller ones ten times apart for the growth."""
    say("compiling")
    timed(Size(100, 1000, min(size.clusters, 10)), cycles=2, seed=seed)
    growth, last = [], None
    for part in (size.smaller(100), size.smaller(10), size):
        say(f"{part.nodes:,} nodes, {part.jobs:,} jobs, {part.clusters:,} clusters")
        last = timed(part, cycles=cycles, seed=seed)
        growth.append([part.nodes, part.jobs, float(np.median(last.cycles_s))])
    assert last is not None
    return {
        "build_s": last.build_s,
        "full_cycle_s": last.full_s,
        "cycle_s": {"p50": float(np.median(last.cycles_s)), "p99": float(np.quantile(last.cycles_s, 0.99))},
        "placements_per_s": last.placed / last.full_s,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "growth": growth,
    }
