"""A run of kind map as its supervisor sees it: how its driver is started, and which partitions it has finished so far.

The driver (`map_driver.py`) is ours: it holds the cluster's token, cuts the inputs and gives the partitions out by Ray Data. The
user's function runs in processes of its own, on the nodes and within the placement group that the run was granted (`map_lane.py`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cluster.backends.ray.daft_process import daft_environment

PARTS_NAME = "parts.jsonl"


def map_command() -> list[str]:
    """The argument list to start. `-P`: what the job brings in its working directory is not to be found by our own imports."""
    return [sys.executable, "-P", "-m", "cluster.backends.ray.map_driver"]


def map_environment(group: str) -> dict[str, str]:
    """How the driver reaches this process's cluster, and the placement group whose id this is."""
    # What Ray warns its own developers of does not belong into the job's log.
    quiet = {"PYTHONWARNINGS": "ignore", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    return daft_environment(group) | quiet


def lanes_of(run: dict[str, Any]) -> int:
    """How many processes work side by side in one worker: one for each whole core, one alone where it has accelerators."""
    return 1 if run["accelerator_count"] else max(int(run["cpu"]), 1)


class FinishedParts:
    """Follows the file in which the driver names the parts that lie whole in its output."""

    def __init__(self, root: Path) -> None:
        self._path, self._offset = root / PARTS_NAME, 0

    def read(self) -> list[dict[str, Any]]:
        """`{"name", "size_bytes"}` of each since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
