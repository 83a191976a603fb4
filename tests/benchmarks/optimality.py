"""How far `place` stays behind the best plan of small worlds, found by an exact solver.

Worlds have up to six nodes in one to three clusters, up to twelve jobs of one queue, and more work than room. Prices decide between
clusters. `place` decides job by job and never takes a seat back; the solver (`tests.benchmarks.exact`) sees all jobs at once.
Gaps are printed with their distribution: by turns, where one job outweighs all later ones, and by room, the sum of the largest
shares of the world that the placed jobs hold. A gap below 0 means that a plan fills more than the best one of an order does.

Run: python -m tests.benchmarks.optimality [--worlds 500] [--seed 1] [-o json]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.snapshot import Bools, Floats, Ints, Snapshot, Weights
from tests.benchmarks.exact import before_all_later, by_order, by_room, by_seats, program_of
from tests.benchmarks.figures import aligned
from tests.builders import DrawnCluster, DrawnJob, cluster, job, world

JOBS, NODES, CLUSTERS = 12, 6, 3
PRESSURES = (0.8, 1.0, 1.3, 2.0)
NODE_KINDS = ("16", "32", "64", "32+4H200", "64+8H200", "32+4A100", "16/32", "32+2/4H200")
SIZES = ("1", "2", "4", "8", "16", "3", "6", "12", "2:32", "4:48")
DEVICE_SIZES = ("4+1H200", "8+2H200", "16+4H200", "32+8H200", "4+1A100", "8+2A100")
AIMS = ("seats", "order", "room")
QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)
# What two sums may differ by and still be equal.
EQUAL = 1e-9


@dataclass(frozen=True)
class Gaps:
    """How far a plan stays behind the best one by `turns` and by `room` (1: all is lost), and how many `jobs` fewer it places."""

    turns: float
    room: float
    jobs: int


def small_world(seed: int, weights: Weights | None = None) -> Snapshot:
    """A world that asks for about as much as there is, or up to twice as much."""
    chance = np.random.default_rng(seed)
    nodes = [str(chance.choice(NODE_KINDS)) for _ in range(int(chance.integers(2, NODES + 1)))]
    count = int(chance.integers(1, min(CLUSTERS, len(nodes)) + 1))
    cuts = sorted(chance.choice(np.arange(1, len(nodes)), count - 1, replace=False).tolist())
    parts = [nodes[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(nodes)], strict=True)]
    members = [cluster(f"c{row}", " ".join(part)) for row, part in enumerate(parts)]
    wanted = float(chance.choice(PRESSURES)) * sum(node.free.cpu for member in members for node in member.nodes)
    jobs: list[DrawnJob] = []
    asked = 0.0
    while asked < wanted and len(jobs) < JOBS:
        jobs.append(_job(f"j{len(jobs):02}", members, chance))
        asked += jobs[-1].size.cpu * jobs[-1].workers
    return world(*members, jobs=jobs, weights=weights or Weights(price=1.0, transfer=0.0, start=0.0))


def _job(name: str, members: Sequence[DrawnCluster], chance: np.random.Generator) -> DrawnJob:
    models = {model for member in members for node in member.nodes for model in node.total.accelerators}
    fitting = [size for size in DEVICE_SIZES if any(size.endswith(model) for model in models)]
    size = str(chance.choice(fitting if fitting and chance.random() < 0.5 else SIZES))
    workers = int(chance.choice([1, 1, 1, 2, 3, 4]))
    cost = {member.name: float(chance.integers(1, 4)) for member in members}
    return job(name, size, workers=workers, rank=int(chance.choice([0, 0, 0, 100])), cost=cost)


def shares(snapshot: Snapshot) -> Floats:
    """[J] The largest part of any resource of the world that a job holds."""
    total = snapshot.nodes.total.sum(axis=0)
    parts: Floats = snapshot.jobs.request * snapshot.jobs.workers[:, None] / np.where(total > 0, total, np.inf)
    largest: Floats = parts.max(axis=1, initial=0.0)
    return largest


def gaps(snapshot: Snapshot) -> dict[str, Gaps]:
    """How far the plan of `place` stays behind the best one for each aim."""
    plan, program = place(snapshot), program_of(snapshot)
    check(snapshot, plan)
    share, worth = shares(snapshot)[program.turns], before_all_later(program.jobs)
    placed = np.isin(program.turns, [item.job for item in plan.placements])
    best = {"seats": by_seats(program), "order": by_order(program), "room": by_room(program, share)}
    return {aim: _behind(placed, found, share, worth) for aim, found in best.items()}


def _behind(placed: Bools, best: Ints, share: Floats, worth: Floats) -> Gaps:
    runs = best >= 0
    turns, room = (1.0 - float(of[placed].sum()) / max(float(of[runs].sum()), 1e-12) if runs.any() else 0.0 for of in (worth, share))
    return Gaps(turns, room, int(runs.sum()) - int(placed.sum()))


def measure(seeds: Sequence[int]) -> dict[str, list[Gaps]]:
    """The gaps of many worlds by aim."""
    found = [gaps(small_world(seed)) for seed in seeds]
    return {aim: [world[aim] for world in found] for aim in AIMS}


def summary(rows: Sequence[Gaps]) -> dict[str, object]:
    """Means and distributions of one aim."""
    fewer = [row.jobs for row in rows]
    return {
        "worlds": len(rows),
        "as_good": sum(row.turns <= EQUAL for row in rows),
        "turns_gap": _spread([row.turns for row in rows]),
        "room_gap": _spread([row.room for row in rows]),
        "jobs_fewer": {str(count): fewer.count(count) for count in sorted(set(fewer))},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), **{f"p{part * 100:g}": float(np.quantile(values, part)) for part in QUANTILES}}


def main() -> None:
    """Print the gaps of each aim as a table, or as JSON."""
    parser = argparse.ArgumentParser(description="Compare plans with the best ones of small worlds.")
    parser.add_argument("--worlds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("-o", choices=("text", "json"), default="text", help="how to write the result")
    asked = parser.parse_args()
    # The solver at times writes a line of its own to the standard output, past Python: that goes to the standard error.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    found = measure(range(asked.seed, asked.seed + asked.worlds))
    if asked.o == "json":
        print(json.dumps({aim: summary(rows) for aim, rows in found.items()}, indent=2), file=report)
    else:
        print(as_text(found), file=report)


def as_text(found: Mapping[str, Sequence[Gaps]]) -> str:
    """A table of the gaps, and how many jobs fewer were placed in how many worlds."""
    header = ("against", "gap by", "mean", *(f"p{part * 100:g}" for part in QUANTILES))
    lines = [
        (aim, kind, *(f"{value:.2%}" for value in _spread([getattr(row, kind) for row in rows]).values()))
        for aim, rows in found.items()
        for kind in ("turns", "room")
    ]
    known = {aim: summary(rows) for aim, rows in found.items()}
    notes = [
        f"{aim}: as good in {row['as_good']} of {row['worlds']}; worlds by jobs fewer: {row['jobs_fewer']}" for aim, row in known.items()
    ]
    return "\n".join((aligned((header, *lines)), *notes))


if __name__ == "__main__":
    main()
