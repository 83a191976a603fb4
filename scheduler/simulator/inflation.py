"""The workload-inflation protocol: how much of a cluster's devices a policy gives away before room runs out.

Pods are copied at random until they ask for `tune` times the cluster's devices, shuffled, and placed one after the other on
empty nodes; nothing ever ends. What counts is the part of the cluster's devices that is given away when as much has been
asked for as there is, and when 1.3 times as much has. A policy knows the nodes and the list's mix, never the order.

Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC 2023.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import thread_time, thread_time_ns
from typing import Any

import numpy as np

from scheduler.engine.device_kernel import CODES
from scheduler.engine.device_loop import Board, Window, board_of, place_queue, place_window, window_of
from scheduler.engine.device_scores import Facts, facts_of
from scheduler.engine.devices import WHOLE, DeviceNodes, Shapes, empty_nodes
from scheduler.engine.snapshot import Floats, Ints
from scheduler.traces.openb_lists import NodeList, PodList

POLICIES = tuple(CODES)
ALL_ASKED, MORE_ASKED = 1.0, 1.3
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class World:
    """Empty nodes, the shapes of the pods' requests, the shape of each pod `kind[P]`, and what policies may know."""

    nodes: DeviceNodes
    shapes: Shapes
    kind: Ints
    facts: Facts

    @property
    def capacity_milli(self) -> int:
        """Thousandths of devices that there are."""
        return int(self.nodes.devices.sum()) * WHOLE

    @property
    def size_milli(self) -> Ints:
        """[S] Thousandths of devices that a pod of each shape asks for."""
        return self.shapes.devices * self.shapes.gpu_milli


@dataclass(frozen=True, eq=False)
class Arrivals:
    """One run's pods in order: their shapes `queue[P]`, numbers for a policy that draws `draws[P, 2]`, and two places in the
    queue: how many have come when as much is asked for as there is, and 1.3 times as much (all, if it never comes to that).
    """

    queue: Ints
    draws: Floats
    marks: tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """A policy's figures. Allocations are percent of the cluster's devices, means over the seeds; `sd` is the sample deviation
    (0 for one seed). Speed and the 99th percentile of single decisions, called one by one, count the deciding thread's
    processor time, compiling left out.
    """

    allocation_at_100: float
    allocation_at_100_sd: float
    allocation_at_130: float
    placements_per_s: float
    p99_decision_us: float


def world_of(nodes: NodeList, pods: PodList) -> World:
    """The empty cluster and the mix of a list of pods."""
    allowed = np.array([[not names or model in names for model in nodes.models] for *_, names in pods.requests])
    cpu, memory, devices, milli = np.array([request[:4] for request in pods.requests], dtype=np.int64).T.copy()
    shapes = Shapes(cpu, memory, devices, milli, allowed)
    empty = empty_nodes(nodes.cpu_milli, nodes.memory_mib, nodes.devices, nodes.model)
    return World(empty, shapes, pods.kind, facts_of(empty, shapes, np.bincount(pods.kind, minlength=len(cpu))))


def arrivals_of(world: World, tune: float, seed: int) -> Arrivals:
    """The pods of one run. A list that asks for more than `tune` times the cluster is cut where it has asked for that much."""
    chance = np.random.default_rng(seed)
    wanted, size = tune * world.capacity_milli, world.size_milli
    copies, missing = [], wanted - float(size[world.kind].sum())
    while missing > 0:
        # A pod at most fills the largest node: so many copies are needed at least, and none is drawn in vain.
        count = max(int(missing // max(int(size.max()), 1)), 1)
        drawn = world.kind[chance.integers(len(world.kind), size=count)]
        copies.append(drawn)
        missing -= float(size[drawn].sum())
    queue = np.concatenate([world.kind, *copies])
    queue = queue[chance.permutation(len(queue))]
    asked = np.cumsum(size[queue])
    if asked[-1] > wanted and not copies:
        queue, asked = queue[: _reached(asked, wanted)], asked[: _reached(asked, wanted)]
    marks = _reached(asked, ALL_ASKED * world.capacity_milli), _reached(asked, MORE_ASKED * world.capacity_milli)
    return Arrivals(queue, chance.random((len(queue), 2)), marks)


def _reached(asked: Ints, milli: float) -> int:
    """How many pods have come when so much is asked for: all of them, if it never is."""
    return min(int(np.searchsorted(asked, milli)) + 1, len(asked))


class Placing:
    """One run of one policy, which goes on from pod to pod."""

    def __init__(self, world: World, arrivals: Arrivals, policy: str, window: int) -> None:
        self.nodes = DeviceNodes(*(field.copy() for field in world.nodes))
        self.chosen = np.full(len(arrivals.queue), -1, dtype=np.int64)
        self._world, self._arrivals, self._code = world, arrivals, CODES[policy]
        self._board: Board = board_of(len(world.shapes.devices), len(world.nodes.devices), len(arrivals.queue))
        self._window: Window | None = None
        if policy == "cpn" and window > 1:
            self._window = window_of(window, len(world.shapes.devices), arrivals.queue, np.array(arrivals.marks, dtype=np.int64))

    def decide(self, first: int, last: int) -> None:
        """Decisions first … last - 1 of the run, in order; those before `first` have been made."""
        world, arrivals = self._world, self._arrivals
        if self._window is None:
            place_queue(
                self._code, self.nodes, world.shapes, world.facts, arrivals.queue, arrivals.draws, self._board, first, last, self.chosen
            )
        else:
            place_window(self.nodes, world.shapes, world.facts, arrivals.queue, self._window, self._board, first, last, self.chosen)

    def allocations(self) -> tuple[float, float]:
        """Percent of the cluster's devices given away to what had come at each mark."""
        given = np.cumsum(self._world.size_milli[self._arrivals.queue] * (self.chosen >= 0))
        first, second = (float(given[mark - 1]) * 100.0 / self._world.capacity_milli for mark in self._arrivals.marks)
        return first, second


def measure(world: World, runs: Sequence[Arrivals], policy: str, window: int = 1) -> Measured:
    """One policy on each of some runs; the first is done once more, decision by decision, for the percentile."""
    found, decisions, seconds = [], 0, 0.0
    Placing(world, runs[0], policy, window).decide(0, 0)  # compiled now, decides nothing
    for arrivals in runs:
        placing = Placing(world, arrivals, policy, window)
        began = thread_time()
        placing.decide(0, len(arrivals.queue))
        seconds += thread_time() - began
        decisions += len(arrivals.queue)
        found.append(placing.allocations())
    at_100, at_130 = zip(*found, strict=True)
    return Measured(
        allocation_at_100=statistics.fmean(at_100),
        allocation_at_100_sd=statistics.stdev(at_100) if len(at_100) > 1 else 0.0,
        allocation_at_130=statistics.fmean(at_130),
        placements_per_s=decisions / max(seconds, 1e-9),
        p99_decision_us=_p99_us(Placing(world, runs[0], policy, window), len(runs[0].queue)),
    )


def _p99_us(placing: Placing, decisions: int) -> float:
    taken = np.zeros(decisions)
    for turn in range(decisions):
        began = thread_time_ns()
        placing.decide(turn, turn + 1)
        taken[turn] = thread_time_ns() - began
    return float(np.percentile(taken, 99)) / 1000.0


def run_inflation(
    nodes: NodeList, pods: PodList, policies: Sequence[str], seeds: Sequence[int], *, tune: float, window: int, say: Say
) -> dict[str, Any]:
    """The whole protocol as one document."""
    world = world_of(nodes, pods)
    runs = [arrivals_of(world, tune, seed) for seed in seeds]
    figures = {}
    for policy in policies:
        say(f"{policy}: {len(runs)} runs of {len(runs[0].queue):,} pods on {len(nodes.devices):,} nodes")
        figures[policy] = {name: round(value, 3) for name, value in asdict(measure(world, runs, policy, window)).items()}
    return {"protocol": "openb-inflation", "nodes": len(nodes.devices), "gpus": int(nodes.devices.sum()), "policies": figures}
