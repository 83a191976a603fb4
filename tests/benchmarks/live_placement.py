"""`python -m tests.benchmarks.live_placement`: workload inflation through the server's own decision, `place`.

Pods of a list in the format of OpenB arrive as jobs of one queue, a window of them for each decision; who finds no room is gone, and
nothing ever ends (the protocol of `cpn bench placement`). A pod that any model may serve is a job with a way for each model. Compared
are decisions that know nothing of what is asked for but the jobs that wait, as before there were mixes; decisions that know the
mix of the last thousand pods and use it on the nodes of a model alone; and for the choice of the model too, which is how servers
decide. The mix is read again after a quarter of a thousand, and never knows what has not come.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np

from scheduler.engine.alternatives import chosen_rows, with_alternatives
from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import FIRST_ACCELERATOR, Clusters, Floats, Further, Ints, Jobs, Mix, Nodes, Queues, Snapshot, Weights
from scheduler.simulator.inflation import World, arrivals_of, world_of
from scheduler.traces.openb_lists import NodeList, PodList, read_nodes, read_pods

MIB, WHOLE = 1024**2, 1000
LAST, AGAIN = 1000, 250
KNOWING = ("what waits", "mix, nodes", "mix, nodes and models")


class Live:
    """One run: a cluster that fills up, decision by decision."""

    def __init__(self, nodes: NodeList, pods: PodList, knowing: str) -> None:
        count, models = len(nodes.devices), len(nodes.models)
        self._models, self._pods, self._knowing = nodes.models, pods, knowing
        self._resources = ("cpu", "memory", *nodes.models)
        self._total = np.zeros((count, FIRST_ACCELERATOR + models))
        self._total[:, 0], self._total[:, 1] = nodes.cpu_milli / WHOLE, nodes.memory_mib * float(MIB)
        self._total[np.arange(count), FIRST_ACCELERATOR + nodes.model] = nodes.devices
        there = np.arange(int(nodes.devices.max())) < nodes.devices[:, None]
        self._devices = np.full((count, models, there.shape[1]), -1, dtype=np.int64)
        self._devices[np.arange(count), nodes.model] = np.where(there, WHOLE, -1)
        self._free, self._mix, self._read = self._total.copy(), None, 0
        self._ways = [self._ways_of(kind) for kind in range(len(pods.requests))]

    def decide(self, queue: Ints, first: int, last: int) -> tuple[int, float]:
        """Decide on pods first … last - 1 of a queue: thousandths of devices given away, and the seconds of processor time that it took."""
        if self._knowing != KNOWING[0] and (self._mix is None or last - self._read >= AGAIN):
            self._mix, self._read = self._mix_of(queue[max(last - LAST, 0) : last]), last
        snapshot = self._snapshot(queue[first:last].tolist())
        began = thread_time()
        plan = place(snapshot)
        return self._book(snapshot, plan), thread_time() - began

    def _ways_of(self, kind: int) -> list[Floats]:
        """What a pod asks for by each model that may serve it."""
        cpu, memory, devices, milli, names = self._pods.requests[kind]
        ways = []
        for model, name in enumerate(self._models) if devices else [(-1, "")]:
            if not devices or not names or name in names:
                request = np.zeros(len(self._resources))
                request[0], request[1] = cpu / WHOLE, memory * float(MIB)
                if devices:
                    request[FIRST_ACCELERATOR + model] = devices * milli / WHOLE
                ways.append(request)
        return ways

    def _snapshot(self, kinds: Sequence[int]) -> Snapshot:
        count, rows = len(self._free), [self._ways[kind] for kind in kinds]
        of = [job for job, ways in enumerate(rows) for _ in ways[1:]]
        further = Further(np.array(of, dtype=np.int64), _jobs([way for ways in rows for way in ways[1:]], of)) if of else None
        return Snapshot(
            resources=self._resources,
            clusters=Clusters(("one",), np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_), np.zeros(1)),
            nodes=Nodes(
                tuple(f"{row:06d}" for row in range(count)), np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.bool_), self._total,
                np.maximum(self._free, 0.0), np.ones((1, count), dtype=np.bool_), devices=self._devices,
            ),
            queues=Queues(
                ("one",), np.ones(1), np.zeros((1, len(self._resources))), np.zeros(1, dtype=np.int64), np.full(1, -1, dtype=np.int64)
            ),
            jobs=_jobs([ways[0] for ways in rows], range(len(rows))), further=further, mix=self._mix,
            weights=Weights() if self._knowing == KNOWING[2] else Weights(fragmentation=0.0),
        )  # fmt: skip

    def _mix_of(self, kinds: Ints) -> Mix:
        asked, count = np.unique(kinds, return_counts=True)
        requests = [self._pods.requests[kind] for kind in asked.tolist()]
        return Mix(
            cpu=np.array([request[0] / WHOLE for request in requests]),
            milli=np.array([request[2] * request[3] for request in requests], dtype=np.int64),
            models=np.array([[not request[4] or name in request[4] for name in self._models] for request in requests]),
            count=count.astype(np.int64),
        )

    def _book(self, snapshot: Snapshot, plan: Plan) -> int:
        given, every = 0, with_alternatives(snapshot).jobs.request
        for item, row in zip(plan.placements, chosen_rows(snapshot, plan.placements), strict=True):
            (node,), request = item.nodes, every[row]
            self._free[node] -= request
            for resource, device in item.devices[0] if item.devices else ():
                self._devices[node, resource - FIRST_ACCELERATOR, device] -= min(round(float(request[resource]) * WHOLE), WHOLE)
            given += round(float(request[FIRST_ACCELERATOR:].sum()) * WHOLE)
        return given


def _jobs(requests: Sequence[Floats], names: Sequence[int]) -> Jobs:
    count = len(names)
    none = np.zeros(count, dtype=np.int64)
    return Jobs(
        ids=tuple(str(name) for name in names), queue=none, rank=none, sequence=np.array(names, dtype=np.int64),
        workers=np.ones(count, dtype=np.int64), request=np.array(requests), label_class=none,
        policy=np.zeros((count, 1), dtype=np.int64), transfer_s=np.zeros((count, 1)), cost=np.zeros((count, 1)),
    )  # fmt: skip


def measure(nodes: NodeList, pods: PodList, world: World, knowing: str, seeds: Sequence[int], window: int) -> dict[str, Any]:
    """Percent of the devices given away when as much is asked for as there is, and milliseconds of the decisions."""
    allocations, seconds, decided = [], list[float](), 0
    for seed in seeds:
        arrivals, live, given = arrivals_of(world, 1.3, seed), Live(nodes, pods, knowing), 0
        for first in range(0, arrivals.marks[0], window):
            last = min(first + window, arrivals.marks[0])
            milli, took = live.decide(arrivals.queue, first, last)
            given, decided = given + milli, decided + last - first
            seconds.append(took)
        allocations.append(given * 100.0 / world.capacity_milli)
    return {
        "allocation_at_100": round(statistics.fmean(allocations), 2),
        "allocation_at_100_sd": round(statistics.stdev(allocations), 2) if len(allocations) > 1 else 0.0,
        "decision_ms": {"p50": round(statistics.median(seconds) * 1e3, 1), "max": round(max(seconds) * 1e3, 1)},
        "job_ms": round(sum(seconds) * 1e3 / decided, 3),
    }


def main(arguments: Sequence[str]) -> None:
    """Print what each kind of knowledge gives away, and what a decision takes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.live_placement", description="Measure; no figure is judged.")
    parser.add_argument("--nodes", type=Path, required=True)
    parser.add_argument("--pods", type=Path, required=True)
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--window", type=int, default=64, help="how many pods one decision looks at")
    options = parser.parse_args(arguments)
    nodes = read_nodes(options.nodes)
    pods = read_pods(options.pods, int(nodes.devices.max()))
    world, seeds = world_of(nodes, pods), [int(seed) for seed in options.seeds.split(",")]
    print(json.dumps({knowing: measure(nodes, pods, world, knowing, seeds, options.window) for knowing in KNOWING}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
