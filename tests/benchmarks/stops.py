"""How long after it was asked a command on a real Ray has ended, on one worker and in a gang: seconds, beyond what it was allowed.

Three ways to end: cancelled, and it ends at the first signal; cancelled, and it ignores that, so it is killed after its grace; and its
time limit, which it ignores as well. The figure is from the order, or the end of what it was allowed, to the news of its end.

    python -m tests.benchmarks.stops --n 10
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster.protocol import RunFinished, RunLog, RunStarted
from tests.ray import Connection, RayAgent, SmallRay, running
from tests.ray_runs import script

OBEYS = "echo ready; exec sleep 600\n"
IGNORES = "trap '' TERM; echo ready; while :; do sleep 0.1; done\n"
GRACE_S, LIMIT_S = 1.0, 3.0


def _cancelled(member: Connection, node: str, text: str, workers: int, allowed_s: float) -> float:
    run = script(node, text, workers=workers)
    member.start(run)
    member.first(run.run_id, RunLog)
    asked = time.monotonic()
    member.stop(run.run_id, grace_s=GRACE_S)
    member.end_of(run.run_id)
    took_s = time.monotonic() - asked - allowed_s
    member.forget(run.run_id)
    return took_s


def _over_its_limit(member: Connection, node: str, workers: int) -> float:
    run = script(node, IGNORES, workers=workers, max_runtime_s=LIMIT_S)
    member.start(run)
    member.first(run.run_id, RunStarted)
    began = time.monotonic()
    end: RunFinished = member.end_of(run.run_id)
    took_s = time.monotonic() - began - LIMIT_S
    if end.category != "max_runtime":
        raise RuntimeError(f"it ended otherwise: {end}")
    member.forget(run.run_id)
    return took_s


def measure(member: Connection, n: int) -> dict[str, dict[str, float]]:
    """Median and largest of `n`, in seconds."""
    node, found = member.node(), {}
    for workers in (1, 3):
        ways: dict[str, Callable[[], float]] = {
            "cancelled": lambda w=workers: _cancelled(member, node, OBEYS, w, 0.0),  # type: ignore[misc]
            "killed after its grace": lambda w=workers: _cancelled(member, node, IGNORES, w, GRACE_S),  # type: ignore[misc]
            "over its time limit": lambda w=workers: _over_its_limit(member, node, w),  # type: ignore[misc]
        }
        for way, once in ways.items():
            times = [once() for _ in range(n)]
            found[f"{way}, {workers} workers"] = {"median_s": round(statistics.median(times), 3), "max_s": round(max(times), 3)}
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10, help="runs of each kind")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} before")
    with (
        tempfile.TemporaryDirectory() as folder,
        running(SmallRay("stops", Path(folder, "ray"))) as head,
        RayAgent(Path(folder, "agent.log")) as agent,
    ):
        print(json.dumps(measure(agent.connect(head, Path(folder, "data")), asked.n), indent=2))
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
