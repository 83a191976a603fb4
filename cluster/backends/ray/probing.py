"""What the nodes of a Ray cluster find on themselves: one small task on each, by a process that connects as the agent will.

    python -m cluster.backends.ray.probing ADDRESS TOKEN_FILE

prints one JSON object: `{"error": text}` when it cannot connect from here, else `{"nodes": [...], "living": count}` with what each
node that answered says (NodeFacts). It runs in a process of its own because a process can speak to one Ray cluster
only, and because Ray's calls may block: whoever starts it ends it when the time is up. The task belongs to the program and not to a
module, so Ray sends its code, and it runs on nodes where cpn is not installed, which is one of the things that it finds out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cluster.backends.ray.asking import ask_process, say_answer
from cluster.checks import clock_off_s
from cluster.errors import ClusterError

MOST_NODES = 20
ANSWER_S, PROBE_S = 45.0, 90.0


class NodeFacts(BaseModel):
    """One node. Times are seconds since the epoch: `at` by its clock, between `asked_at` and `answered_at` by ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    at: float
    asked_at: float
    answered_at: float
    package: str
    work_directory: str
    writable: str
    free_bytes: int

    @property
    def clock_off_s(self) -> float:
        """How far its clock is surely off, positive when ahead."""
        return clock_off_s(self.at, self.asked_at, self.answered_at)


class ClusterFacts(BaseModel):
    """The nodes that were asked and answered, and how many live in all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: tuple[NodeFacts, ...]
    silent: tuple[str, ...]
    living: int


def probe(address: str, token_file: Path | None, limit_s: float = PROBE_S) -> ClusterFacts:
    """Ask the nodes, in a process of its own that is ended after `limit_s`.

    Raises UnreachableError when it takes longer, ClusterError when this machine cannot connect.
    """
    return ClusterFacts.model_validate(ask_process("cluster.backends.ray.probing", address, token_file, limit_s))


def look_around(work_variable: str) -> dict[str, Any]:
    """What a node finds on itself. Runs in a worker of Ray, on the standard library alone."""
    import importlib.metadata
    import os
    import shutil
    import tempfile
    import time

    try:
        package = importlib.metadata.version("cpn")
    except importlib.metadata.PackageNotFoundError:
        package = ""
    named = os.environ.get(work_variable)
    folder = named or os.path.join(tempfile.gettempdir(), f"cpn-work-{os.getuid()}")
    writable = ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"cpn")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        writable, free = error.strerror or str(error), 0
    return {"at": time.time(), "package": package, "work_directory": folder, "writable": writable, "free_bytes": free}


def _ask_nodes() -> dict[str, Any]:
    """Put the task on living nodes, by name, and collect what comes in time."""
    import time

    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cluster.backends.ray.nodes import alive
    from cluster.runs.node_folders import WORK_DIR_VARIABLE

    living = alive(ray.nodes())  # type: ignore[no-untyped-call]
    task = ray.remote(num_cpus=0, max_retries=0)(look_around)
    asked: dict[Any, tuple[str, float]] = {}
    for name in sorted(living)[:MOST_NODES]:
        where = NodeAffinitySchedulingStrategy(living[name].node_id, soft=False)
        asked[task.options(scheduling_strategy=where).remote(WORK_DIR_VARIABLE)] = name, time.time()
    found, silent, deadline = [], [], time.monotonic() + ANSWER_S
    while asked and (left := deadline - time.monotonic()) > 0:
        ready, _ = ray.wait(list(asked), timeout=left)
        for answer in ready:
            name, asked_at = asked.pop(answer)
            try:
                facts = ray.get(answer)
            except ray.exceptions.RayError:
                silent.append(name)
                continue
            found.append({"name": name, "asked_at": asked_at, "answered_at": time.time(), **facts})
    silent += [name for name, _ in asked.values()]
    return {"nodes": sorted(found, key=lambda item: str(item["name"])), "silent": sorted(silent), "living": len(living)}


def main(address: str, token_file: str) -> dict[str, Any]:
    """Connect as the agent would, and ask."""
    from cluster.backends.ray.session import connect_process

    try:
        connect_process(address, Path(token_file) if token_file else None)
        return _ask_nodes()
    except ClusterError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    say_answer(main(sys.argv[1], sys.argv[2]))
