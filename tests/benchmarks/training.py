"""Training jobs on mixed accelerators: Gavel's static trace, and streams of jobs at three loads drawn from its measured speeds.

Streams follow the shape of Gavel's own (Narayanan et al., OSDI 2020): exponential gaps, a job type at random, 1, 2, 4 or 8 workers
(70, 10, 15, 5 %), and a length on the fastest model whose logarithm is uniform from half an hour to sixteen. Load 1 is the rate at
which the machines could just finish all jobs of a large batch, by the linear program for the least makespan.

Run: python -m tests.benchmarks.training --speeds throughputs.csv [--static static100.csv] [--seeds 1,2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from scheduler.engine.snapshot import Floats
from scheduler.engine.throughput import least_makespan
from scheduler.simulator.simulate import read_trace, replay
from scheduler.simulator.world import build_world
from scheduler.traces.gavel import Speeds, read_speeds
from scheduler.traces.machines import read_machines
from scheduler.traces.trace import WHOLE, Builder, Trace
from tests.benchmarks.figures import aligned

CLUSTER, JOBS, LOADS = "K80=36,P100=36,V100=36", 200, (0.5, 0.7, 0.9)
POLICIES = ("fifo", "las", "gavel-maxmin", "gavel-makespan", "srtf", "cpn")
WORKERS, CHANCES = (1, 2, 4, 8), (0.7, 0.1, 0.15, 0.05)


def stream(speeds: Speeds, jobs: int, load: float, seed: int) -> Trace:
    """Jobs at a load; at load 0 all of them come at once."""
    random = np.random.default_rng(seed)
    batch, gaps = _drawn(speeds, jobs, random), random.exponential(1.0, jobs)
    if load == 0:
        return _trace(speeds, batch, np.zeros(jobs))
    mean_gap_s = least_s(_trace(speeds, batch, np.zeros(jobs))) / jobs / load
    return _trace(speeds, batch, np.cumsum(gaps) * mean_gap_s)


def _drawn(speeds: Speeds, jobs: int, random: np.random.Generator) -> list[tuple[tuple[str, int], float]]:
    """Kinds of job, each with its steps."""
    sizes, found = random.choice(WORKERS, jobs, p=CHANCES), []
    for size in sizes.tolist():
        kinds = sorted(kind for kind in speeds if kind[1] == size)
        kind = kinds[int(random.integers(len(kinds)))]
        found.append((kind, 60.0 * 10 ** random.uniform(1.5, 3.0) * max(speeds[kind].values())))
    return found


def _trace(speeds: Speeds, batch: list[tuple[tuple[str, int], float]], arrival_s: Floats) -> Trace:
    jobs = Builder()
    for (kind, steps), submit_s in zip(batch, arrival_s.tolist(), strict=True):
        jobs.add(submit_s, steps, workers=kind[1], devices=1, group=kind[0], kind=jobs.kind(kind, speeds[kind]))
    return jobs.trace()


def least_s(trace: Trace) -> float:
    """Seconds in which all jobs could end if all were there at once, by the linear program; no schedule is shorter."""
    world = build_world(trace, read_machines(CLUSTER))
    speed = world.asks.speed[trace.kind]
    return least_makespan(speed, trace.workers.astype(np.float64), world.capacities / WHOLE, trace.work)[1]


def table(title: str, trace: Trace, policies: tuple[str, ...]) -> str:
    """Makespans and mean completions of each policy."""
    found, bound = replay(trace, CLUSTER, policies).figures(), least_s(trace)
    rows = [
        (name, *(f"{hours / 3600:.2f}" for hours in (row["makespan_s"], row["mean_jct_s"])), f"{row['mean_bounded_slowdown']:.2f}",
         f"{row['utilisation']:.0%}", str(row["preemptions"]))
        for name, row in found.items()
    ]  # fmt: skip
    note = f"least makespan if all were there at once: {bound / 3600:.2f} h"
    return aligned(((title, "makespan h", "completion h", "slowdown", "use", "stops"), *rows)) + f"\n{note}\n"


def main() -> None:
    """Print a table for the static trace, if it is given, and for each load and seed."""
    parser = argparse.ArgumentParser(description="Compare policies for training jobs on mixed accelerators.")
    parser.add_argument("--speeds", type=Path, required=True)
    parser.add_argument("--static", type=Path)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--policies", default=",".join(POLICIES))
    asked = parser.parse_args()
    speeds, policies = read_speeds(asked.speeds), tuple(asked.policies.split(","))
    if asked.static:
        print(table("static", read_trace(asked.static, "gavel", asked.speeds), policies), flush=True)
    for load in LOADS:
        for seed in asked.seeds.split(","):
            print(table(f"load {load:g}, seed {seed}", stream(speeds, JOBS, load, int(seed)), policies), flush=True)


if __name__ == "__main__":
    main()
