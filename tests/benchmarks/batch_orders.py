"""How well `cpn` orders batch work: ten windows of 1,024 jobs of two Lublin-Feitelson logs on 256 processors, with EASY.

Every policy knows what was asked for and never how long a job really runs. The model knows no requested times; by the usual protocol
a job asks for exactly what it runs, so that SJF, SAF and F1 know that too. With `--asked rough` jobs belong to users who ask for more,
each in a way of his own, rounded up to times that people name, as recorded logs show (Tsafrir, Etsion, Feitelson, JSSPP 2005).
Reported are means of bounded slowdowns over the windows, the 99th percentile over all jobs, mean waits, and the share of the best
simple order (FCFS, SJF, F1, SAF) that `cpn` needs.

Run: python -m tests.benchmarks.batch_orders --seeds 1,2,3 [--asked rough]
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from scheduler.engine.snapshot import Floats, Ints
from scheduler.simulator.outcome import figures, slowdowns
from scheduler.simulator.simulate import simulate
from scheduler.simulator.world import build_world
from scheduler.traces.machines import read_machines
from scheduler.traces.trace import Builder, Trace
from tests.benchmarks.figures import aligned
from tests.benchmarks.lublin import LOGS, Log

WINDOW, WINDOWS, CLUSTER = 1024, 10, "procs=256"
SIMPLE = ("fifo", "sjf", "f1", "saf")
POLICIES = (*SIMPLE, "wfp3", "unicep", "cpn")
USERS, MINUTE_S = 64, 60.0
# The times that people ask for.
NAMED_S = MINUTE_S * np.array([1, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1080, 1440, 2160, 2880, 4320, 7200])


def as_trace(log: Log, seed: int, asked: str) -> Trace:
    """A log as a reader would return it, with requested times that are `exact` or `rough`."""
    jobs = Builder()
    limit_s, user = (log.run_s, np.zeros(len(log.run_s))) if asked == "exact" else rough(log.run_s, seed)
    rows = (column.tolist() for column in (log.submit_s, log.run_s, limit_s, log.size, user))
    for submit_s, run_s, most_s, size, owner in zip(*rows, strict=True):
        jobs.add(submit_s, run_s, limit=most_s, workers=size, cpu_milli=1000, group="" if asked == "exact" else f"u{owner}")
    return jobs.trace()


def rough(run_s: Floats, seed: int) -> tuple[Floats, Ints]:
    """[J] What jobs ask for, and [J] whose they are. Few users submit most; a user asks for up to 2 to 16 times what is needed."""
    random = np.random.default_rng([seed, 1])
    often = 1.0 / np.arange(1, USERS + 1)
    user = random.choice(USERS, len(run_s), p=often / often.sum())
    generous = 2.0 ** random.uniform(1.0, 4.0, USERS)
    wanted = run_s * random.uniform(1.0, generous[user])
    named = NAMED_S[np.minimum(np.searchsorted(NAMED_S, wanted), len(NAMED_S) - 1)]
    return np.maximum(named, run_s), user


def measure(trace: Trace, policy: str) -> tuple[Floats, list[dict[str, float | int]]]:
    """All bounded slowdowns, and the figures of each window."""
    machines, slow, rows = read_machines(CLUSTER), [], []
    for window in range(WINDOWS):
        world = build_world(trace.part(window * WINDOW, (window + 1) * WINDOW), machines)
        outcome = simulate(world, policy, "easy")
        slow.append(slowdowns(world, outcome))
        rows.append(figures(world, outcome))
    return np.concatenate(slow), rows


def report(name: str, seed: int, asked: str = "exact") -> dict[str, dict[str, float]]:
    """Each policy's figures on one log."""
    trace, found = as_trace(LOGS[name](seed), seed, asked), {}
    for policy in POLICIES:
        slow, rows = measure(trace, policy)
        found[policy] = {
            "slowdown": float(slow.mean()), "p99": float(np.quantile(slow, 0.99)), "worst": float(slow.max()),
            **{key: float(np.mean([row[key] for row in rows])) for key in ("mean_wait_s", "makespan_s", "utilisation")},
        }  # fmt: skip
    return found


def main() -> None:
    """Print a table for each log and seed, or all of it as JSON."""
    parser = argparse.ArgumentParser(description="Compare batch orders on logs of the Lublin-Feitelson model.")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--asked", choices=("exact", "rough"), default="exact", help="how requested times compare with run times")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    document = {f"{name} {seed}": report(name, int(seed), asked.asked) for name in sorted(LOGS) for seed in asked.seeds.split(",")}
    if asked.json:
        print(json.dumps(document, indent=2))
        return
    for title, found in document.items():
        best = min(found[policy]["slowdown"] for policy in SIMPLE)
        rows = [
            (
                policy,
                *(f"{row[key]:,.1f}" for key in ("slowdown", "p99", "worst", "mean_wait_s", "makespan_s")),
                f"{row['utilisation']:.1%}",
            )
            for policy, row in found.items()
        ]
        print(aligned(((title, "slowdown", "p99", "worst", "mean wait s", "makespan s", "use"), *rows)))
        print(f"cpn / best of {', '.join(SIMPLE)}: {found['cpn']['slowdown'] / best:.2f}\n")


if __name__ == "__main__":
    main()
