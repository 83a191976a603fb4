"""The supervisors of a gang on the cluster: their names, and how they are made.

A name tells run, rank, and for a rank that joined a running gang with which change of its size: a rank that was ended and comes back
is another worker, and the one before it may take a moment to go.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cluster.backends.ray.session import NAMESPACE
from cluster.protocol import RunRequest

PREFIX = "cpn-run-"


class WorkerName(NamedTuple):
    """What a supervisor's name says; `generation` is 0 for those that the run began with."""

    run_id: str
    rank: int
    generation: int = 0


def supervisor_name(run_id: str, rank: int, generation: int = 0) -> str:
    """The name of a supervisor on the cluster."""
    return f"{PREFIX}{run_id}-{rank}" + (f".{generation}" if generation else "")


def run_of(name: str) -> WorkerName | None:
    """What a supervisor's name says, or None when it is another actor's."""
    run_id, _, place = name.removeprefix(PREFIX).rpartition("-")
    rank, _, generation = place.partition(".")
    if not name.startswith(PREFIX) or not run_id or not rank.isdigit() or not (generation or "0").isdigit():
        return None
    return WorkerName(run_id, int(rank), int(generation or 0))


def place_of(name: str) -> tuple[int, int]:
    """Rank and generation of a supervisor, to sort names by."""
    found = run_of(name)
    return (found.rank, found.generation) if found else (0, 0)


def make_supervisor(run: RunRequest, rank: int, generation: int, node_id: str) -> Any:
    """Make the supervisor of a rank on its node, or find the one that is there already. Blocks."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cluster.backends.ray.supervisor import RaySupervisor

    return (
        ray.remote(RaySupervisor)
        .options(
            name=supervisor_name(run.run_id, rank, generation),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=run.cpu,
            num_gpus=run.accelerator_count,
            memory=run.memory_bytes,
            max_concurrency=64,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote(rank)
    )
